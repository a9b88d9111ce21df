"""The retrieval model's figures in TFMA.

The model's `serving_default` signature answers with the rank of each held-out item among the whole catalogue, seen items
excluded, and with the items at the top; Examples bring the ranks that baselines give (`components/evaluation_examples.py`).
The metric here turns ranks into figures per person and averages over people. Slices are cut before people are grouped,
so that a slice of items judges exactly the held-out items in it (TFMA's own `query_key` would cut whole people and mix
other items in).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from pipeline.evaluation.figures import (
    Certainty,
    Estimates,
    Pack,
    candidate_and_blessed,
    change_names,
    metric_key,
    person_key,
    scalar,
)
from tfrec_fusion.metrics import beyond_accuracy

SAMPLED = ("recall", "ndcg", "hit_rate", "map")
GAINS = ("ndcg", "recall")
TOP = 10
BEYOND = tuple(f"{name}@{TOP}" for name in ("coverage", "gini", "novelty", "diversity", "serendipity"))
LIST = struct.Struct(f"<qffi{TOP}i")
LIST_TYPE = np.dtype(
    [
        ("person", "<i8"),
        ("novelty", "<f4"),
        ("diversity", "<f4"),
        ("catalogue_size", "<i4"),
        ("top", "<i4", (TOP,)),
    ]
)
COMPACT_AT = 2**22


def per_person_figures(
    people: np.ndarray, ranks: np.ndarray, cutoffs: Iterable[int]
) -> dict[str, np.ndarray]:
    """Metrics of each person from the ranks of the items that were held out.

    With `n` held-out items at ranks `r` (from 1) and cutoff `k`:
    `recall = |{r <= k}| / n`; `hit_rate = [any r <= k]`;
    `ndcg = sum_{r <= k} 1 / log2(r + 1) / sum_{i <= min(n, k)} 1 / log2(i + 1)`;
    `map = sum_{r <= k} (held-out items at or above r) / r / n`; `mrr = 1 / min(r)`.

    Args:
        people: `[targets]`, equal where two targets belong to one person.
        ranks: float `[targets]`.
        cutoffs: the values of `k`.

    Returns:
        `{"ndcg@10": float64 [people], …, "mrr": …}`, people in ascending order.
    """
    _, person = np.unique(people, return_inverse=True)
    order = np.lexsort((ranks, person))
    person, ranks = person[order], ranks[order]
    count = np.bincount(person)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.arange(len(ranks)) - first[person] + 1  # the target's position among the person's own targets

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(person, weights=values, minlength=len(count))

    figures = {"mrr": 1 / ranks[first]}
    for k in cutoffs:
        hit = ranks <= k
        most = np.minimum(count, k)
        ideal = np.cumsum(1 / np.log2(np.arange(2, most.max() + 2)))[most - 1]
        figures[f"recall@{k}"] = total(hit) / count
        figures[f"hit_rate@{k}"] = (total(hit) > 0).astype(float)
        figures[f"ndcg@{k}"] = total(hit / np.log2(ranks + 1)) / ideal
        figures[f"map@{k}"] = total(hit * place / ranks) / count
    return figures


class RetrievalCombiner(beam.CombineFn):
    """Gathers ranks and lists as packed bytes, and ends in averages over people.

    An accumulator holds 16 bytes and 4 per baseline for a held-out item, and 60 for each person's list.

    Args:
        cutoffs: the values of `k`.
        baselines: names; each Example has a feature `baseline_<name>_rank`.
        model: TFMA's name of the candidate.
        blessed: TFMA's name of the last blessed model; None without one.
        certainty: how sure.
    """

    def __init__(
        self,
        cutoffs: list[int],
        baselines: list[str],
        model: str = "",
        blessed: str | None = None,
        certainty: Certainty | None = None,
    ):
        self.cutoffs, self.baselines, self.model, self.blessed = cutoffs, baselines, model, blessed
        self.certainty = certainty or Certainty()
        self.models = [model] if blessed is None else [model, blessed]
        self.systems = [*self.models, *map(rank_feature, baselines)]
        # person; whether and how unexpected the item is; ranks of all systems
        self.row = f"<qf{len(self.systems)}f"
        self.row_type = np.dtype(
            [("person", "<i8"), ("unexpected", "<f4"), ("ranks", "<f4", (len(self.systems),))]
        )

    def create_accumulator(self) -> list[bytearray]:
        return [bytearray() for _ in range(1 + len(self.models))]

    def pack(self, element: metric_types.StandardMetricInputs) -> tuple[bytes, ...]:
        """What is kept of an example: a row, and a list of each model; nothing where its item cannot be recommended."""
        found = [element.get_predictions(name) if name else element.get_predictions() for name in self.models]
        rank = scalar(found[0]["rank"])
        if np.isnan(rank):
            return ()
        features = element.get_features()
        person = person_key(np.ravel(features["user_id"])[0])
        ranks = [rank, *(scalar(answer["rank"]) for answer in found[1:])]
        ranks += [scalar(features[name]) for name in self.systems[len(self.models) :]]
        row = struct.pack(self.row, person, scalar(found[0].get("unexpected")), *ranks)
        return row, *(self._packed_list(person, answer) for answer in found)

    def _packed_list(self, person: int, answer) -> bytes:
        if "top" not in answer:
            return b""
        about = [scalar(answer["novelty"]), scalar(answer["diversity"])]
        size = int(scalar(answer["catalogue_size"]))
        return LIST.pack(person, *about, size, *np.ravel(answer["top"]).tolist())

    def add_input(self, accumulator, element):
        """Takes what `pack` makes."""
        for buffer, packed in zip(accumulator, element, strict=False):
            buffer += packed
        return self._compacted(accumulator)

    def merge_accumulators(self, accumulators):
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for whole, part in zip(merged, accumulator, strict=True):
                whole += part
        return self._compacted(merged)

    def _compacted(self, accumulator):
        """One list a person is enough; people with many held-out items would fill the memory with equal ones."""
        for place in range(1, len(accumulator)):
            if len(accumulator[place]) > COMPACT_AT:
                lists = unique_lists(accumulator[place])
                if LIST.size * len(lists) < len(accumulator[place]) / 2:
                    accumulator[place] = bytearray(lists.tobytes())
        return accumulator

    def compact(self, accumulator):
        return [accumulator[0], *(bytearray(unique_lists(buffer).tobytes()) for buffer in accumulator[1:])]

    def extract_output(self, accumulator):
        rows = np.frombuffer(bytes(accumulator[0]), self.row_type)
        if not len(rows):
            return self._nobody()
        estimates = self._estimates(rows)
        values = {metric_key(name, self.model): value for name, value in self._values(estimates).items()}
        for place, model in enumerate(self.models):
            own = {name: estimates.of(_mean(model, name))[0] for name in self.accuracy_names()}
            own |= beyond_accuracy_figures(unique_lists(accumulator[1 + place]), rows, place)
            values |= {metric_key(name, model): value for name, value in own.items()}
        counts = {"people": estimates.totals["people"], "held_out_items": len(rows)}
        values |= {metric_key(name, self.model): float(value) for name, value in counts.items()}
        if self.blessed is not None:
            for k in self.cutoffs:
                changes = estimates.change(f"ndcg@{k}", _difference(self.model, self.blessed, f"ndcg@{k}"))
                values |= {
                    metric_key(name, self.model, change=True): value for name, value in changes.items()
                }
        return values

    def _nobody(self) -> dict[metric_types.MetricKey, float]:
        """Of nobody nothing is known, and nothing has become worse."""
        counts = ("people", "held_out_items", "items_without_score")
        return {
            key: 0.0 if key.name in counts else float("inf") if key.is_diff else float("nan")
            for key in self.keys()
        }

    def _estimates(self, rows: np.ndarray) -> Estimates:
        columns: dict[str, np.ndarray] = {}
        for place, system in enumerate(self.systems):
            ranks = rows["ranks"][:, place].astype(np.float64)
            ranks = np.where(np.isnan(ranks), np.inf, ranks)
            figures = per_person_figures(rows["person"], ranks, self.cutoffs)
            columns |= {f"{system} {name}": figure for name, figure in figures.items()}
        count = len(next(iter(columns.values())))
        return Estimates(np.arange(count), columns | {"people": np.ones(count)}, self.certainty)

    def _values(self, estimates: Estimates) -> dict[str, float]:
        """Accuracy with intervals, the baselines', and the gains over them."""
        values: dict[str, float] = {}
        for name in self.accuracy_names():
            values |= estimates.with_interval(name, _mean(self.model, name))
            for baseline in self.baselines:
                values[f"{baseline}_{name}"] = estimates.of(_mean(rank_feature(baseline), name))[0]
        for baseline in self.baselines:
            for name in (f"{name}@{k}" for k in self.cutoffs for name in GAINS):
                gain = _difference(self.model, rank_feature(baseline), name)
                values |= estimates.with_interval(f"{name}_gain_over_{baseline}", gain)
        return values

    def keys(self) -> list[metric_types.MetricKey]:
        keys = [metric_key(name, self.model) for name in self.names()]
        if self.blessed is not None:
            keys += [metric_key(name, self.blessed) for name in self.own_names()]
            keys += [metric_key(name, self.model, change=True) for name in self.change_names()]
        return keys

    def accuracy_names(self) -> list[str]:
        return ["mrr", *(f"{name}@{k}" for k in self.cutoffs for name in SAMPLED)]

    def own_names(self) -> list[str]:
        """What is computed of a model alone."""
        return [*self.accuracy_names(), *BEYOND, "items_without_score"]

    def names(self) -> list[str]:
        """Every figure of the candidate."""
        ends = [f"{name}{end}" for name in self.accuracy_names() for end in ("_low", "_high")]
        others = [f"{baseline}_{name}" for baseline in self.baselines for name in self.accuracy_names()]
        gains = [
            f"{name}@{k}_gain_over_{baseline}{end}"
            for baseline in self.baselines
            for k in self.cutoffs
            for name in GAINS
            for end in ("", "_low", "_high")
        ]
        return [*self.own_names(), *ends, *others, *gains, "people", "held_out_items"]

    def change_names(self) -> list[str]:
        """Every figure of the difference to the last blessed model that TFMA does not make by itself."""
        return [end for k in self.cutoffs for end in change_names(f"ndcg@{k}")]


def rank_feature(baseline: str) -> str:
    """The feature of an Example that holds a baseline's rank of the held-out item."""
    return f"baseline_{baseline}_rank"


def _mean(system: str, name: str):
    return lambda totals: totals[f"{system} {name}"] / totals["people"]


def _difference(one: str, other: str, name: str):
    return lambda totals: (totals[f"{one} {name}"] - totals[f"{other} {name}"]) / totals["people"]


def unique_lists(buffer: bytearray) -> np.ndarray:
    """One record a person, in the order of people: which one of several does not depend on the order of examples."""
    records = np.frombuffer(bytes(buffer), LIST_TYPE)
    distinct = np.unique(records.view(f"V{LIST.size}")).view(LIST_TYPE)
    return distinct[np.unique(distinct["person"], return_index=True)[1]]


def beyond_accuracy_figures(lists: np.ndarray, rows: np.ndarray, model: int) -> dict[str, float]:
    """Coverage, concentration, novelty, diversity and serendipity of what people are recommended.

    Args:
        lists: `LIST_TYPE` `[people]`.
        rows: held-out items, with `person`, `unexpected` and `ranks`.
        model: which of the ranks.

    Returns:
        Figures as in `tfrec_fusion.metrics.beyond_accuracy`; NaN for a model that answers without lists. Serendipity is
        `mean over people of sum over held-out items at rank <= TOP of (share of people who did not meet it) / TOP`.
    """
    ranks = rows["ranks"][:, model]
    found = {"items_without_score": float(np.isinf(ranks).sum())}
    if not len(lists):
        return found | dict.fromkeys(BEYOND, float("nan"))
    size = int(lists["catalogue_size"].max())
    top = np.where(lists["top"] > 0, lists["top"], -1)
    people = len(np.unique(rows["person"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN, and meant to be
        values = (
            beyond_accuracy.coverage(top, size),
            beyond_accuracy.gini(top, size),
            np.nanmean(lists["novelty"].astype(np.float64)),
            np.nanmean(lists["diversity"].astype(np.float64)),
            rows["unexpected"][ranks <= TOP].sum(dtype=np.float64) / TOP / people,
        )
    return found | dict(zip(BEYOND, map(float, values), strict=True))


def _computations(
    cutoffs, baselines, certainty, code="", name="", eval_config=None, model_names=None, **_
) -> list[metric_types.MetricComputation]:
    model, blessed = candidate_and_blessed(model_names)
    combiner = RetrievalCombiner(list(cutoffs), list(baselines), model, blessed, Certainty(**certainty))
    return [metric_types.MetricComputation(combiner.keys(), [Pack(combiner)], combiner)]


class RetrievalMetrics(metric_types.Metric):
    """Recall, NDCG, hit rate and MAP at `cutoffs`, and MRR: by the model, by baselines, and the gains, with intervals;
    coverage, Gini, novelty, diversity and serendipity of the first `TOP`.

    `certainty` holds the fields of `Certainty`. `code` is not used: a digest of this package in it makes TFX's cache see
    changed code.
    """

    def __init__(
        self,
        cutoffs: list[int],
        baselines: list[str],
        certainty: dict[str, float],
        code: str = "",
        name: str = "retrieval",
    ):
        super().__init__(
            _computations, cutoffs=cutoffs, baselines=baselines, certainty=certainty, code=code, name=name
        )
