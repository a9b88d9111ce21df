"""The ranking model's figures in TFMA: errors of ratings, clicks, and the order of each user's own
items."""

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
    Figure,
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
from pipeline.evaluation.label_figures import figure_names, label_columns, label_figures
from tfrec_fusion.config import LabelKind
from tfrec_fusion.features.columns import label_feature
from tfrec_fusion.metrics.pointwise import log_losses, per_user_auc, per_user_ndcg, placements

FIELDS = (
    "click",
    "label",
    "click_score",
    "rating",
    "baseline_rating",
    "baseline_click_score",
    "blessed_click_score",
    "blessed_rating",
)
CLICKS = ("auc", "user_auc", "log_loss", "calibration", "calibration_error", "user_ndcg")
PER_USER = ("user_auc", "user_ndcg")  # means over those users of whom they are known
RATINGS = ("rmse", "mae")


def _by_head(predictions: Any) -> Any:
    """Predictions by name: of a model with clicks alone TFMA unwraps the only output."""
    return predictions if isinstance(predictions, Mapping) or predictions is None else {"click": predictions}


class RankingCombiner(beam.CombineFn):
    """Gathers labels and predictions as packed bytes (40 an example, 12 more a further label), and ends
    in errors and in averages over users.

    Args:
        has_rating: whether Examples have a `label` and the model predicts a `rating`.
        model, blessed, certainty, most: as in `RetrievalCombiner`.
        labels: further labels with their kinds (`label_figures`).
    """

    def __init__(
        self,
        has_rating: bool,
        model: str = "",
        blessed: str | None = None,
        certainty: Certainty | None = None,
        most: int = 1_000_000,
        labels: Mapping[str, LabelKind] | None = None,
    ):
        self.most = most
        self.labels = dict(labels or {})
        places = range(len(self.labels))
        further = [f"{part}_{place}" for place in places for part in ("label", "score", "blessed_score")]
        self.fields = (*FIELDS, *further)
        self.row_type = np.dtype([("user", "<i8"), *((name, "<f4") for name in self.fields)])
        self.figures: dict[str, Callable[[str], Figure]] = dict(_FIGURES)
        for label, kind in self.labels.items():
            self.figures |= label_figures(label, kind)
        self.has_rating, self.model, self.blessed = has_rating, model, blessed
        self.certainty = certainty or Certainty()

    def create_accumulator(self) -> bytearray:
        return bytearray()

    def pack(self, element: metric_types.StandardMetricInputs) -> bytes:
        """What is kept of examples."""
        features = element.get_features()
        own = _by_head(element.get_predictions(self.model) if self.model else element.get_predictions())
        other = (_by_head(element.get_predictions(self.blessed)) if self.blessed else None) or {}
        users = id_keys(features["user_id"])
        fields = {
            "click": features["click"],
            "label": features.get("label"),
            "click_score": own["click"],
            "rating": own.get("rating"),
            "baseline_rating": own.get("baseline_rating"),
            "baseline_click_score": own.get("baseline_click"),
            "blessed_click_score": other.get("click"),
            "blessed_rating": other.get("rating"),
        }
        for place, label in enumerate(self.labels):
            fields[f"label_{place}"] = features.get(label_feature(label))
            fields[f"score_{place}"], fields[f"blessed_score_{place}"] = own.get(label), other.get(label)
        rows = np.empty(len(users), self.row_type)
        rows["user"] = users
        for name in self.fields:
            rows[name] = column(fields[name], len(users))
        return rows.tobytes()

    def add_input(self, accumulator: bytearray, element: Any) -> bytearray:
        """Takes what `pack` makes."""
        accumulator += element
        return self._bounded(accumulator)

    def merge_accumulators(self, accumulators: Iterable[bytearray]) -> bytearray:
        merged = bytearray()
        for accumulator in accumulators:
            merged += accumulator
            merged = self._bounded(merged)
        return merged

    def _bounded(self, accumulator: bytearray) -> bytearray:
        return (
            self.compact(accumulator)
            if len(accumulator) > 2 * self.most * self.row_type.itemsize
            else accumulator
        )

    def compact(self, accumulator: bytearray) -> bytearray:
        rows = np.frombuffer(bytes(accumulator), self.row_type)
        return bytearray(sample_users(rows, self.most).tobytes())

    def extract_output(self, accumulator: Any) -> dict[metric_types.MetricKey, Any]:
        rows = sample_users(np.frombuffer(bytes(accumulator), self.row_type), self.most)
        if not len(rows):
            return of_nobody(self.keys())
        rows = rows[np.argsort(rows["user"], kind="stable")]
        _, user = np.unique(rows["user"], return_inverse=True)
        estimates = Estimates(user, self._columns(rows, user), self.certainty)
        values = {
            metric_key(name, self.model): value for name, value in self._values(rows, estimates).items()
        }
        for prefix, model in (("", self.model), ("blessed_", self.blessed)):
            if model is not None:
                own = self._own(estimates, prefix)
                values |= {metric_key(name, model): value for name, value in own.items()}
        if self.blessed is not None:
            changes: dict[str, float] = {}
            for name in self.names_with_change():
                before, after = self.figures[name]("blessed_"), self.figures[name]("")
                changes |= estimates.change(name, less(after, before))
            values |= {metric_key(name, self.model, change=True): value for name, value in changes.items()}
        return values

    def keys(self) -> list[metric_types.MetricKey]:
        keys = [metric_key(name, self.model) for name in self.names()]
        if self.blessed is not None:
            keys += [metric_key(name, self.blessed) for name in self.own_names()]
            changes = [end for name in self.names_with_change() for end in change_names(name)]
            keys += [metric_key(name, self.model, change=True) for name in changes]
        return keys

    def names_with_change(self) -> list[str]:
        """Figures whose difference to the last blessed model has an interval: functions of sums over
        users."""
        rated = RATINGS if self.has_rating else ()
        return ["log_loss", "auc", *PER_USER, *rated, *figure_names(self.labels)]

    def own_names(self) -> list[str]:
        """What is computed of a model alone."""
        return [*CLICKS, *(RATINGS if self.has_rating else ()), *figure_names(self.labels)]

    def names(self) -> list[str]:
        """Every figure of the candidate."""
        intervals = ["log_loss", "calibration", "auc", *PER_USER, *figure_names(self.labels)]
        others = ["users", EXAMPLES]
        if self.has_rating:
            intervals += ["rmse", "mae", "rmse_gain_over_biases"]
            others += ["baseline_rmse", "rmse_gain_over_biases"]
        else:
            intervals += ["auc_gain_over_click_rate"]
            others += ["baseline_auc", "auc_gain_over_click_rate"]
        return [
            *self.own_names(),
            *(f"{name}{end}" for name in intervals for end in ("_low", "_high")),
            *others,
        ]

    def _columns(self, rows: np.ndarray, user: np.ndarray) -> dict[str, np.ndarray]:
        """What is summed over users; `rows` one user after the other."""
        fields = {name: rows[name].astype(np.float64) for name in self.fields}
        clicked = fields["click"] > 0
        columns = {"examples": np.ones(len(rows)), "click": fields["click"]}
        columns |= {"clicks": clicked.astype(np.float64), "others": (~clicked).astype(np.float64)}
        # A choice without a grade is in no error of grades and in nobody's order of grades.
        rated = ~np.isnan(fields["label"])
        ordered_by = rated if self.has_rating else np.ones(len(rows), bool)
        gains = np.maximum(fields["label" if self.has_rating else "click"], 0)
        columns["rated"] = rated.astype(np.float64)
        first = np.flatnonzero(np.diff(user, prepend=-1))
        for prefix in ("", "blessed_") if self.blessed is not None else ("",):
            scores = fields[f"{prefix}click_score"]
            columns[f"{prefix}click_score"] = scores
            columns[f"{prefix}log_loss"] = log_losses(fields["click"], scores)
            columns |= _auc_columns(prefix, clicked, scores)
            ordered = fields[f"{prefix}rating"] if self.has_rating else scores
            ndcg = _user_ndcg(user, gains, ordered, ordered_by)
            known = per_user_auc(user, clicked, scores), ndcg
            for name, values in zip(PER_USER, known, strict=True):
                columns[f"{prefix}{name}"], columns[f"{prefix}{name}_known"] = np.zeros((2, len(rows)))
                columns[f"{prefix}{name}"][first] = np.nan_to_num(values)
                columns[f"{prefix}{name}_known"][first] = ~np.isnan(values)
        if not self.has_rating:
            columns |= _auc_columns("baseline_", clicked, fields["baseline_click_score"])
        for prefix in ("", "blessed_", "baseline_"):
            error = np.where(rated, fields[f"{prefix}rating"] - fields["label"], 0.0)
            columns[f"{prefix}squared"], columns[f"{prefix}absolute"] = error**2, np.abs(error)
        for place, (label, kind) in enumerate(self.labels.items()):
            for prefix in ("", "blessed_") if self.blessed is not None else ("",):
                values, scores = fields[f"label_{place}"], fields[f"{prefix}score_{place}"]
                columns |= label_columns(label, kind, prefix, values, scores)
        return columns

    def _values(self, rows: np.ndarray, estimates: Estimates) -> dict[str, float]:
        """Figures with intervals, and the baseline's."""
        values = {"users": float(len(np.unique(rows["user"]))), EXAMPLES: float(len(rows))}
        shown = ["log_loss", "calibration", "auc", *PER_USER, *(RATINGS if self.has_rating else ())]
        for name in [*shown, *figure_names(self.labels)]:
            values |= estimates.with_interval(name, self.figures[name](""))
        if self.has_rating:
            biases, own = _FIGURES["rmse"]("baseline_"), _FIGURES["rmse"]("")
            values["baseline_rmse"] = estimates.of(biases)[0]
            values |= estimates.with_interval(
                "rmse_gain_over_biases", lambda totals: biases(totals) - own(totals)
            )
        else:
            rate, own = _FIGURES["auc"]("baseline_"), _FIGURES["auc"]("")
            values["baseline_auc"] = estimates.of(rate)[0]
            gain = estimates.with_interval(
                "auc_gain_over_click_rate", lambda totals: own(totals) - rate(totals)
            )
            values |= gain
        return values

    def _own(self, estimates: Estimates, prefix: str) -> dict[str, float]:
        """Figures of one model: the candidate (prefix empty) or the last blessed one."""
        values = {
            name: estimates.of(self.figures[name](prefix))[0]
            for name in self.own_names()
            if name != "calibration_error"
        }
        return values | {"calibration_error": abs(values["calibration"] - 1)}


def _user_ndcg(user: np.ndarray, gains: np.ndarray, scores: np.ndarray, used: np.ndarray) -> np.ndarray:
    """`per_user_ndcg` by some rows alone, float64 `[users]`: NaN for who has none of them."""
    values = np.full(user.max(initial=-1) + 1, np.nan)
    if used.any():
        there, index = np.unique(user[used], return_inverse=True)
        values[there] = per_user_ndcg(index, gains[used], scores[used])
    return values


def _auc_columns(prefix: str, clicked: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Where clicks stand among the others, and the others among clicks: to first order the AUC moves with
    both kinds' means, each of which is the AUC."""
    positions = placements(clicked, scores)
    mean = positions[clicked].sum() / max(1, clicked.sum())
    return {
        f"{prefix}placed_clicks": np.where(clicked, positions, 0),
        f"{prefix}placed_others": np.where(clicked, 0, positions - mean),
    }


def _mean_over_users(name: str) -> Callable[[str], Figure]:
    return lambda prefix: lambda totals: totals[f"{prefix}{name}"] / totals[f"{prefix}{name}_known"]


# Each figure as a function of sums, by the prefix of whose predictions are judged.
_FIGURES = {
    "auc": lambda prefix: (
        lambda totals: (
            totals[f"{prefix}placed_clicks"] / totals["clicks"]
            + totals[f"{prefix}placed_others"] / totals["others"]
        )
    ),
    **{name: _mean_over_users(name) for name in PER_USER},
    "log_loss": lambda prefix: lambda totals: totals[f"{prefix}log_loss"] / totals["examples"],
    "calibration": lambda prefix: lambda totals: totals[f"{prefix}click_score"] / totals["click"],
    "rmse": lambda prefix: lambda totals: np.sqrt(totals[f"{prefix}squared"] / totals["rated"]),
    "mae": lambda prefix: lambda totals: totals[f"{prefix}absolute"] / totals["rated"],
}


def _computations(
    has_rating: Any,
    certainty: Any,
    most: Any,
    code: Any = "",
    name: Any = "",
    labels: Any = None,
    eval_config: Any = None,
    model_names: Any = None,
    **_: Any,
) -> list[metric_types.MetricComputation]:
    model, blessed = candidate_and_blessed(model_names)
    combiner = RankingCombiner(has_rating, model, blessed, Certainty(**certainty), most, labels)
    return [metric_types.MetricComputation(combiner.keys(), [Pack(combiner)], combiner)]


class RankingMetrics(metric_types.Metric):
    """AUC over all examples and per user, log loss, calibration (predicted over observed clicks), NDCG of
    each user's own items; with ratings RMSE, MAE, and the gain over a baseline of user and item biases,
    with intervals. Of further labels the AUC and the log loss, or RMSE and MAE.

    `labels` as in `RankingCombiner`; `certainty`, `most` and `code` as in `RetrievalMetrics`.
    """

    def __init__(
        self,
        has_rating: bool,
        certainty: dict[str, float],
        most: int,
        code: str = "",
        name: str = "ranking",
        labels: dict[str, LabelKind] | None = None,
    ):
        super().__init__(
            _computations,
            has_rating=has_rating,
            certainty=certainty,
            most=most,
            code=code,
            name=name,
            labels=labels or {},
        )
