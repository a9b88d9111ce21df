"""The retrieval model's figures in TFMA.

The model's `serving_default` signature answers with the rank of each held-out item among the whole catalogue,
seen items excluded, and with the items at the top; Examples bring the ranks that baselines give
(`components/evaluation_examples.py`). The metric here hands ranks to the library's core
(`tfrec_fusion.metrics.ranks`) and averages over users; an item that a user chose several times is held out
once. Slices are cut before users are grouped, so that a slice of items judges exactly the held-out items in
it (TFMA's own `query_key` would cut whole users and mix other items in).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from pipeline.evaluation.figures import (
    EXAMPLES,
    Certainty,
    Estimates,
    Pack,
    candidate_and_blessed,
    change_names,
    column,
    id_keys,
    less,
    metric_key,
    of_nobody,
    sample_users,
)
from tfrec_fusion.export.evaluated import evaluated
from tfrec_fusion.metrics import beyond_accuracy
from tfrec_fusion.metrics.ranks import first_choices, per_user_figures

SAMPLED = ("recall", "ndcg", "hit_rate", "map")
TOP = 10
OF_THE_WHOLE = tuple(f"{name}@{TOP}" for name in ("coverage", "gini"))
PER_USER = tuple(f"{name}@{TOP}" for name in ("novelty", "diversity", "serendipity"))  # means over users
BEYOND = OF_THE_WHOLE + PER_USER
LIST_TYPE = np.dtype(
    [
        ("user", "<i8"),
        ("novelty", "<f4"),
        ("diversity", "<f4"),
        ("catalogue_size", "<i4"),
        ("top", "<i4", (TOP,)),
    ]
)
LIST_DIGEST = np.random.default_rng(0).integers(1, 2**62, TOP)  # tells the lists of a user apart
MOST_LISTS = 10_000
UNNAMED = -1  # of an Example that does not name its item; equal ranks are one item then


class RetrievalCombiner(beam.CombineFn):
    """Gathers ranks and lists as packed bytes, and ends in averages over users.

    An accumulator holds 24 bytes and 4 per baseline for a held-out choice, of twice `most` at most, and 60
    for each user's list, of twice `MOST_LISTS` at most.

    Args:
        cutoffs: the values of `k`.
        baselines: names; each Example has a feature `baseline_<name>_rank`.
        model: TFMA's name of the candidate.
        blessed: TFMA's name of the last blessed model; None without one.
        certainty: how sure.
        most: of more held-out items, those of a random sample of users count.
    """

    def __init__(
        self,
        cutoffs: list[int],
        baselines: list[str],
        model: str = "",
        blessed: str | None = None,
        certainty: Certainty | None = None,
        most: int = 1_000_000,
    ):
        self.cutoffs, self.baselines, self.model, self.blessed = cutoffs, baselines, model, blessed
        self.certainty = certainty or Certainty()
        self.most = most
        self.models = [model] if blessed is None else [model, blessed]
        self.systems = [*self.models, *map(rank_feature, baselines)]
        # user and item; whether and how unexpected the item is; ranks of all systems
        ranks = ("ranks", "<f4", (len(self.systems),))
        self.row_type = np.dtype([("user", "<i8"), ("item", "<i8"), ("unexpected", "<f4"), ranks])

    def create_accumulator(self) -> list[bytearray]:
        return [bytearray() for _ in range(1 + len(self.models))]

    def pack(self, element: metric_types.StandardMetricInputs) -> tuple[bytes, ...]:
        """What is kept of examples: a row of each, and its list by each model; nothing where its item cannot
        be recommended."""
        evaluated_lists = [
            evaluated(element.get_predictions(name) if name else element.get_predictions())
            for name in self.models
        ]
        features = element.get_features()
        users = id_keys(features["user_id"])
        size = len(users)
        ranks = [column(answer["rank"], size) for answer in evaluated_lists]
        ranks += [column(features.get(name), size) for name in self.systems[len(self.models) :]]
        rows = np.empty(size, self.row_type)
        rows["user"], rows["ranks"] = users, np.stack(ranks, 1)
        rows["item"] = item_keys(features.get("item_id"), size)
        rows["unexpected"] = column(evaluated_lists[0].get("unexpected"), size)
        usable = ~np.isnan(ranks[0])
        return rows[usable].tobytes(), *(packed_lists(users, answer, usable) for answer in evaluated_lists)

    def add_input(self, accumulator: list[bytearray], element: Any) -> list[bytearray]:
        """Takes what `pack` makes."""
        for buffer, packed in zip(accumulator, element, strict=True):
            buffer += packed
        return self._bounded(accumulator)

    def merge_accumulators(self, accumulators: Iterable[list[bytearray]]) -> list[bytearray]:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for whole, part in zip(merged, accumulator, strict=True):
                whole += part
            merged = self._bounded(merged)
        return merged

    def _bounded(self, accumulator: list[bytearray]) -> list[bytearray]:
        """Cuts what has grown to twice of what may be kept, so that each byte is looked at a few times
        only."""
        limits = [self.most * self.row_type.itemsize] + [MOST_LISTS * LIST_TYPE.itemsize] * len(self.models)
        if any(len(buffer) > 2 * limit for buffer, limit in zip(accumulator, limits, strict=True)):
            return self.compact(accumulator)
        return accumulator

    def compact(self, accumulator: list[bytearray]) -> list[bytearray]:
        rows = sample_users(np.frombuffer(bytes(accumulator[0]), self.row_type), self.most)
        return [bytearray(part.tobytes()) for part in (rows, *map(unique_lists, accumulator[1:]))]

    def extract_output(self, accumulator: Any) -> dict[metric_types.MetricKey, Any]:
        rows = sample_users(np.frombuffer(bytes(accumulator[0]), self.row_type), self.most)
        if not len(rows):
            return of_nobody(self.keys())
        count = len(rows)
        if (rows["item"] != UNNAMED).all():
            rows = rows[first_choices(rows["user"], rows["item"], rows["ranks"])]
        estimates = self._estimates(rows)
        lists = [unique_lists(buffer) for buffer in accumulator[1:]]
        shown = self._lists_estimates(lists)
        values = {
            metric_key(name, self.model): value for name, value in self._values(estimates, shown).items()
        }
        for position, model in enumerate(self.models):
            own = {name: estimates.of(_mean(model, name))[0] for name in self.accuracy_names()}
            own |= {name: shown.of(_known_mean(model, name))[0] for name in PER_USER[:2]}
            own[PER_USER[2]] = estimates.of(_mean(model, PER_USER[2]))[0]
            own |= figures_of_the_whole(lists[position])
            own["items_without_score"] = float(np.isinf(rows["ranks"][:, position]).sum())
            values |= {metric_key(name, model): value for name, value in own.items()}
        counts = {"users": estimates.totals["users"], "held_out_items": len(rows), EXAMPLES: count}
        values |= {metric_key(name, self.model): float(value) for name, value in counts.items()}
        if self.blessed is not None:
            values |= {
                metric_key(name, self.model, change=True): value
                for name, value in self._changes(estimates, shown).items()
            }
        return values

    def _estimates(self, rows: np.ndarray) -> Estimates:
        """Of what rests on held-out items."""
        users, user = np.unique(rows["user"], return_inverse=True)
        items = None if (rows["item"] == UNNAMED).any() else rows["item"]
        columns: dict[str, np.ndarray] = {"users": np.ones(len(users))}
        for position, system in enumerate(self.systems):
            given = rows["ranks"][:, position].astype(np.float64)
            ranks = np.where(np.isnan(given), np.inf, given)
            found = per_user_figures(user, ranks, self.cutoffs, items)
            figures = {name: found[name] for name in self.accuracy_names()}
            if position >= len(self.models) and np.isnan(given).any():
                # A baseline that is not there must not be beaten.
                figures = dict.fromkeys(figures, np.full(len(users), np.nan))
            columns |= {f"{system} {name}": figure for name, figure in figures.items()}
            if position < len(self.models):
                right = np.where(ranks <= TOP, rows["unexpected"], 0) / TOP
                columns[f"{system} {PER_USER[2]}"] = np.bincount(user, right, len(users))
        return Estimates(np.arange(len(users)), columns, self.certainty)

    def _lists_estimates(self, lists: list[np.ndarray]) -> Estimates:
        """Of what rests on lists: a list without a novelty or a diversity does not count."""
        count = max(1, len(lists[0]))
        columns: dict[str, np.ndarray] = {}
        for model, records in zip(self.models, lists, strict=True):
            for name in PER_USER[:2]:
                field = records[name.partition("@")[0]].astype(np.float64)
                field = field if len(field) == count else np.full(count, np.nan)
                columns[f"{model} {name}"] = np.nan_to_num(field, posinf=0, neginf=0)
                columns[f"{model} {name} known"] = np.isfinite(field).astype(np.float64)
        return Estimates(np.arange(count), columns, self.certainty)

    def _values(self, estimates: Estimates, shown: Estimates) -> dict[str, float]:
        """Means over users with intervals, the baselines', and the gains over them."""
        values: dict[str, float] = {}
        for name in self.accuracy_names():
            values |= estimates.with_interval(name, _mean(self.model, name))
            for baseline in self.baselines:
                values[f"{baseline}_{name}"] = estimates.of(_mean(rank_feature(baseline), name))[0]
        for name in PER_USER[:2]:
            values |= shown.with_interval(name, _known_mean(self.model, name))
        values |= estimates.with_interval(PER_USER[2], _mean(self.model, PER_USER[2]))
        for baseline in self.baselines:
            for name in self.accuracy_names():
                gain = _difference(self.model, rank_feature(baseline), name)
                values |= estimates.with_interval(f"{name}_gain_over_{baseline}", gain)
        return values

    def _changes(self, estimates: Estimates, shown: Estimates) -> dict[str, float]:
        """Differences to the last blessed model, which there is."""
        assert self.blessed is not None
        values: dict[str, float] = {}
        for name in (*self.accuracy_names(), PER_USER[2]):
            values |= estimates.change(name, _difference(self.model, self.blessed, name))
        for name in PER_USER[:2]:
            after, before = _known_mean(self.model, name), _known_mean(self.blessed, name)
            values |= shown.change(name, less(after, before))
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

    def names_with_change(self) -> list[str]:
        """Figures whose difference to the last blessed model has an interval: means over users."""
        return [*self.accuracy_names(), *PER_USER]

    def names(self) -> list[str]:
        """Every figure of the candidate."""
        ends = [f"{name}{end}" for name in self.names_with_change() for end in ("_low", "_high")]
        others = [f"{baseline}_{name}" for baseline in self.baselines for name in self.accuracy_names()]
        gains = [
            f"{name}_gain_over_{baseline}{end}"
            for baseline in self.baselines
            for name in self.accuracy_names()
            for end in ("", "_low", "_high")
        ]
        return [*self.own_names(), *ends, *others, *gains, "users", "held_out_items", EXAMPLES]

    def change_names(self) -> list[str]:
        """Every figure of the difference to the last blessed model that TFMA does not make by itself."""
        return [end for name in self.names_with_change() for end in change_names(name)]


def item_keys(items: object, size: int) -> np.ndarray:
    """int64 `[size]` that stand for items; `UNNAMED` for all where one has no name."""
    ids = np.ravel(np.asarray(items, object))
    named = len(ids) == size and all(isinstance(name, bytes | str) and name for name in ids)
    return id_keys(ids) if named else np.full(size, UNNAMED)


def rank_feature(baseline: str) -> str:
    """The feature of an Example that holds a baseline's rank of the held-out item."""
    return f"baseline_{baseline}_rank"


def _mean(system: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda totals: totals[f"{system} {name}"] / totals["users"]


def _known_mean(system: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda totals: totals[f"{system} {name}"] / totals[f"{system} {name} known"]


def _difference(one: str, other: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda totals: (totals[f"{one} {name}"] - totals[f"{other} {name}"]) / totals["users"]


def packed_lists(users: np.ndarray, answer: Mapping[str, np.ndarray], usable: np.ndarray) -> bytes:
    """What a model recommends to `users`, of the usable examples; nothing where it answers without lists."""
    if "top" not in answer:
        return b""
    lists = np.empty(len(users), LIST_TYPE)
    lists["user"], lists["top"] = users, np.reshape(answer["top"], [-1, TOP])
    for name in ("novelty", "diversity", "catalogue_size"):
        lists[name] = np.ravel(answer[name])
    return lists[usable].tobytes()


def unique_lists(buffer: bytearray) -> np.ndarray:
    """One record per user, in the order of users, of `MOST_LISTS` users at most: which one of several does
    not depend on the order of examples."""
    records = np.frombuffer(bytes(buffer), LIST_TYPE)
    order = np.lexsort((records["top"].astype(np.int64) @ LIST_DIGEST, records["user"]))
    _, first = np.unique(records["user"][order], return_index=True)
    return records[order[first[:MOST_LISTS]]]


def figures_of_the_whole(lists: np.ndarray) -> dict[str, float]:
    """Coverage and concentration of what users are recommended, as in
    `tfrec_fusion.metrics.beyond_accuracy`.

    They have no interval: drawing users with replacement shows each sample fewer different users, and so
    fewer items, than there are, and the interval would lie beside the figure.

    Args:
        lists: `LIST_TYPE` `[users]`.

    Returns:
        NaN for a model that answers without lists.
    """
    if not len(lists):
        return dict.fromkeys(OF_THE_WHOLE, float("nan"))
    size = int(lists["catalogue_size"].max())
    top = np.where(lists["top"] > 0, lists["top"], -1)
    return dict(
        zip(OF_THE_WHOLE, (beyond_accuracy.coverage(top, size), beyond_accuracy.gini(top, size)), strict=True)
    )


def _computations(
    cutoffs: Any,
    baselines: Any,
    certainty: Any,
    most: Any,
    code: Any = "",
    name: Any = "",
    eval_config: Any = None,
    model_names: Any = None,
    **_: Any,
) -> list[metric_types.MetricComputation]:
    model, blessed = candidate_and_blessed(model_names)
    combiner = RetrievalCombiner(list(cutoffs), list(baselines), model, blessed, Certainty(**certainty), most)
    return [metric_types.MetricComputation(combiner.keys(), [Pack(combiner)], combiner)]


class RetrievalMetrics(metric_types.Metric):
    """Recall, NDCG, hit rate and MAP at `cutoffs`, and MRR: by the model, by baselines, and the gains, with
    intervals; coverage, Gini, novelty, diversity and serendipity of the first `TOP`.

    `certainty` holds the fields of `Certainty`; `most` as in `RetrievalCombiner`. `code` is not used: a
    digest of this package in it makes TFX's cache see changed code.
    """

    def __init__(
        self,
        cutoffs: list[int],
        baselines: list[str],
        certainty: dict[str, float],
        most: int,
        code: str = "",
        name: str = "retrieval",
    ):
        super().__init__(
            _computations,
            cutoffs=cutoffs,
            baselines=baselines,
            certainty=certainty,
            most=most,
            code=code,
            name=name,
        )
