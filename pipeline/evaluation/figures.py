"""Parts that the metrics of both models share: names, keys, the user of an example, and intervals over
users."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow_model_analysis.metrics import metric_types

from pipeline.evaluation.wording import lower_is_better
from tfrec_fusion.metrics.bootstrap import group_sums, interval, normal_interval, resample

EXAMPLES = "example_count"  # the name by which TFMA's viewer sizes slices
Figure = Callable[[Mapping[str, Any]], Any]
"""A figure of sums over users, or of many draws of them."""

BASELINE = "baseline"  # TFMA's name for the last blessed model


def id_keys(ids: object) -> np.ndarray:
    """int64 `[ids]` that stand for ids of users or items, spread evenly over all that are not negative."""
    ids = np.ravel(np.asarray(ids, object))
    return tf.strings.to_hash_bucket_fast(tf.constant(ids, tf.string), 2**63 - 1).numpy()


def column(value: Any, size: int) -> np.ndarray:
    """float32 `[size]`; NaN where it is missing."""
    flat = np.ravel(value) if value is not None else ()
    return np.asarray(flat, np.float32) if len(flat) == size else np.full(size, np.nan, np.float32)


def sample_users(records: np.ndarray, most: int) -> np.ndarray:
    """All records, or where they are more than `most`, those of as many users as fit.

    Which users does not depend on the order of records, nor on what else was left out before: those with the
    lowest keys (`id_keys`), which is a random sample. Parts may so be cut one by one, and their union again.

    Args:
        records: structured `[records]` with a field `user`.
        most: how many records are kept at most; all of a single user's are.
    """
    if len(records) <= most:
        return records
    users = records["user"]
    kept = users < np.partition(users, most)[most]
    return records[kept if kept.any() else users == users.min()]


def metric_key(name: str, model_name: str, change: bool = False) -> metric_types.MetricKey:
    """The key under which TFMA looks for thresholds given by a metric's name: weighting undefined, not off.

    Args:
        name: the figure.
        model_name: empty where there is one model only.
        change: whether the figure says how the candidate differs from the last blessed model (change
            thresholds).
    """
    return metric_types.MetricKey(name, model_name=model_name, example_weighted=None, is_diff=change)


def of_nobody(keys: Iterable[metric_types.MetricKey]) -> dict[metric_types.MetricKey, float]:
    """Figures where nobody could be judged: of nobody nothing is known, and nothing has become worse."""
    counts = ("users", "held_out_items", EXAMPLES, "items_without_score")
    results = {}
    for key in keys:
        no_worse = float("-inf" if lower_is_better(key.name.partition("_change")[0]) else "inf")
        results[key] = 0.0 if key.name in counts else no_worse if key.is_diff else float("nan")
    return results


def less(after: Figure, before: Figure) -> Figure:
    """How much greater one figure is than another."""
    return lambda totals: after(totals) - before(totals)


class Packing(Protocol):
    """A combiner that packs what TFMA hands it before it adds it up."""

    def pack(self, inputs: metric_types.StandardMetricInputs) -> Any:
        """What `add_input` takes."""


class Pack(metric_types.Preprocessor):
    """Packs the examples of an extract, be it one or a slice of a batch (`batches.SliceBatches`).

    Args:
        combiner: has `pack`, from TFMA's inputs to what its `add_input` takes.
    """

    def __init__(self, combiner: Packing) -> None:
        super().__init__(name=type(combiner).__name__)
        self.combiner = combiner

    def process(self, extracts: dict[str, Any]) -> Iterator[Any]:
        yield self.combiner.pack(metric_types.StandardMetricInputs(extracts))


def candidate_and_blessed(model_names: list[str] | None) -> tuple[str, str | None]:
    """TFMA's names of the candidate and of the last blessed model, None where there is none."""
    names = list(model_names or [""])
    others = [name for name in names if name != BASELINE]
    return others[0], BASELINE if BASELINE in names else None


@dataclasses.dataclass(frozen=True)
class Certainty:
    """How sure a verdict must be (see `EvaluationConfig`)."""

    confidence: float = 0.95
    slice_confidence: float = 0.998
    min_users: int = 10


class Estimates:
    """Figures that are functions of sums over users, with their intervals.

    Args:
        user: integer `[rows]`, from 0.
        columns: name → float `[rows]`.
        certainty: how sure.
    """

    def __init__(self, user: np.ndarray, columns: dict[str, np.ndarray], certainty: Certainty):
        self.certainty = certainty
        self.enough = int(user.max()) + 1 >= certainty.min_users
        sums = group_sums(user, np.stack(list(columns.values()), 1))
        self.totals = dict(zip(columns, sums.sum(0), strict=True))
        self.draws = dict(zip(columns, resample(sums).T, strict=True))

    def of(self, figure: Figure) -> tuple[float, np.ndarray]:
        """A figure and its bootstrap draws; `figure` takes totals by column name."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(figure(self.totals)), np.asarray(figure(self.draws))

    def with_interval(self, name: str, figure: Figure) -> dict[str, float]:
        """`{name, name_low, name_high}`. The interval is infinite where there are too few users."""
        value, draws = self.of(figure)
        low, high = interval(draws, self.certainty.confidence) if self.enough else (-np.inf, np.inf)
        return {name: value, f"{name}_low": low, f"{name}_high": high}

    def change(self, name: str, figure: Figure) -> dict[str, float]:
        """`with_interval` of a difference to the last blessed model, and the ends at the confidence of
        slices."""
        value, draws = self.of(figure)
        least, most = (
            normal_interval(value, draws, self.certainty.slice_confidence)
            if self.enough
            else (-np.inf, np.inf)
        )
        result = self.with_interval(f"{name}_change", figure)
        return result | {f"{name}_change_least": least, f"{name}_change_most": most}


def change_names(name: str) -> list[str]:
    """What `Estimates.change` gives."""
    return [f"{name}_change{end}" for end in ("", "_low", "_high", "_least", "_most")]
