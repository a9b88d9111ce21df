"""The Evaluators' configuration: what is computed for which slices, and what a model must show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from pipeline.config.pipeline_config import EvaluationConfig, code_digest
from pipeline.evaluation.ranking import RankingCombiner
from pipeline.evaluation.retrieval import RetrievalCombiner
from pipeline.evaluation.slices import PREFIX
from pipeline.evaluation.wording import lower_is_better
from tfrec_fusion.config import ConfigError, LabelKind

CODE = ("pipeline/evaluation", "tfrec_fusion/metrics")


def retrieval_eval_config(
    config: EvaluationConfig, baselines: Iterable[str] = ("popularity",)
) -> config_pb2.EvalConfig:
    """The retrieval model's figures, slices and thresholds.

    Args:
        config: the settings.
        baselines: those whose ranks the Examples bring.

    Raises:
        ConfigError: for a threshold on a figure that is not computed, or without any threshold.
    """
    baselines = list(baselines)
    thresholds = Thresholds(config, RetrievalCombiner(list(config.k), baselines, blessed="baseline"))
    deciding = f"ndcg@{config.k[0]}"
    for baseline in baselines:
        gain = f"{deciding}_gain_over_{baseline}"
        demand = config.baselines[baseline]
        if demand == "beat":
            thresholds.bound(f"{gain}_low", low=config.min_ndcg_gain)
        elif demand == "match":
            thresholds.bound(f"{gain}_high", low=0.0)
    thresholds.no_worse_anywhere(deciding)
    thresholds.check("retrieval")
    thresholds.bound("items_without_score", high=0.0)
    metric = _metric("retrieval", "RetrievalMetrics", config, cutoffs=list(config.k), baselines=baselines)
    return thresholds.eval_config(metric)


def ranking_eval_config(
    config: EvaluationConfig, has_rating: bool, labels: Mapping[str, LabelKind] | None = None
) -> config_pb2.EvalConfig:
    """The ranking model's figures, slices and thresholds: errors of ratings where there are any, else the AUC
    of choices beside that of how often each item was chosen. By these the model is judged; of further labels
    only what `config.thresholds` and `config.changes` name.

    Args:
        config: the settings.
        has_rating: whether there are ratings.
        labels: further labels with their kinds.

    Raises:
        ConfigError: without any threshold.
    """
    thresholds = Thresholds(config, RankingCombiner(has_rating, blessed="baseline", labels=labels))
    if has_rating:
        if config.baselines["biases"] == "beat":
            thresholds.bound("rmse_gain_over_biases_low", low=config.min_rmse_gain)
        elif config.baselines["biases"] == "match":
            # A few hundred ratings tell two good predictors hardly apart: better on average is asked for, not
            # more.
            thresholds.bound("rmse_gain_over_biases", low=config.min_rmse_gain)
            thresholds.bound("rmse_gain_over_biases_high", low=0.0)
        thresholds.no_worse_anywhere("rmse")
    else:
        thresholds.bound("auc", low=0.5)
        if config.baselines["click_rate"] == "beat":
            thresholds.bound("auc_gain_over_click_rate_low", low=0.0)
        elif config.baselines["click_rate"] == "match":
            thresholds.bound("auc_gain_over_click_rate_high", low=0.0)
        thresholds.no_worse_anywhere("log_loss")
    thresholds.check("ranking")
    further = {"labels": dict(labels)} if labels else {}
    metric = _metric("ranking", "RankingMetrics", config, has_rating=has_rating, **further)
    return thresholds.eval_config(metric)


def check_names(
    config: EvaluationConfig,
    baselines: Iterable[str],
    has_rating: bool | None,
    labels: Mapping[str, LabelKind] | None = None,
) -> None:
    """Raises ConfigError where a threshold names a figure of neither model: each Evaluator takes those that
    it knows.

    Args:
        config: the settings.
        baselines: of the retrieval model.
        has_rating: whether there are ratings; None where there is no ranking model.
        labels: further labels with their kinds.
    """
    names = set(RetrievalCombiner(list(config.k), list(baselines)).names())
    if has_rating is not None:
        names |= set(RankingCombiner(has_rating, labels=labels).names())
    for position, name_given in (
        ("thresholds", config.thresholds),
        ("changes", config.changes),
        *((f"slice_thresholds.{name}", values) for name, values in config.slice_thresholds.items()),
        *((f"slice_changes.{name}", values) for name, values in config.slice_changes.items()),
    ):
        for name in name_given:
            if name not in names:
                raise ConfigError(
                    f"`evaluation.{position}` names `{name}`, which is not computed. Known:"
                    f" {', '.join(sorted(names))}."
                )
    for position, parts in (
        ("slice_thresholds", config.slice_thresholds),
        ("slice_changes", config.slice_changes),
    ):
        for name in parts:
            if name.partition("=")[0] not in config.slices:
                raise ConfigError(
                    f"`evaluation.{position}` names `{name}`, but `evaluation.slices` is"
                    f" {', '.join(config.slices)}. Write it as feature=value, or as a feature for all its"
                    " values, and add the feature to `evaluation.slices`."
                )


class Thresholds:
    """Collects what a model must show.

    Args:
        config: the settings; its own thresholds are added as far as `combiner` computes them.
        combiner: knows the names of the figures.
    """

    def __init__(self, config: EvaluationConfig, combiner: RetrievalCombiner | RankingCombiner):
        self.config = config
        self.found: dict[str, list[config_pb2.PerSliceMetricThreshold]] = {}
        names = set(combiner.names())
        self._bounds(config.thresholds, names, config_pb2.SlicingSpec())
        self._changes(config.changes, combiner, config_pb2.SlicingSpec())
        for part, bounds in config.slice_thresholds.items():
            self._bounds(bounds, names, slicing_spec(part))
        for part, drops in config.slice_changes.items():
            self._changes(drops, combiner, slicing_spec(part))

    def _changes(self, drops: dict[str, float], combiner: Any, part: config_pb2.SlicingSpec) -> None:
        for name, drop in drops.items():
            if name in combiner.own_names():
                self.no_worse(name, drop, combiner.names_with_change(), part)

    def _bounds(self, bounds: dict[str, float], names: set[str], part: config_pb2.SlicingSpec) -> None:
        for name, bound in bounds.items():
            if name in names:
                ends = {"high": bound} if lower_is_better(name) else {"low": bound}
                self.bound(name, part=part, **ends)

    def bound(
        self,
        name: str,
        low: float | None = None,
        high: float | None = None,
        part: config_pb2.SlicingSpec | None = None,
    ) -> None:
        """A figure must lie between two bounds; overall, unless a slice is given (without one, TFMA would
        mean all)."""
        value = config_pb2.GenericValueThreshold()
        if low is not None:
            value.lower_bound.value = low
        if high is not None:
            value.upper_bound.value = high
        self._add(name, config_pb2.MetricThreshold(value_threshold=value), part or config_pb2.SlicingSpec())

    def change(self, name: str, drop: float, higher_is_better: bool, part: config_pb2.SlicingSpec) -> None:
        """A figure may be worse than the last blessed model's by at most `drop`."""
        direction = config_pb2.HIGHER_IS_BETTER if higher_is_better else config_pb2.LOWER_IS_BETTER
        change = config_pb2.GenericChangeThreshold(
            direction=direction, absolute={"value": -drop if higher_is_better else drop}
        )
        self._add(name, config_pb2.MetricThreshold(change_threshold=change), part)

    def no_worse(
        self, name: str, drop: float, with_interval: Iterable[str], part: config_pb2.SlicingSpec | None = None
    ) -> None:
        """A figure may not be worse than the last blessed model's by more than `drop`: significantly, where
        it is one `with_interval`: the end of the interval that is kindest to the candidate must still be a
        loss for it to count."""
        better = not lower_is_better(name)
        kindest = f"{name}_change_{'high' if better else 'low'}" if name in with_interval else name
        self.change(kindest, drop, better, part or config_pb2.SlicingSpec())

    def no_worse_anywhere(self, name: str) -> None:
        """The deciding figure may not fall significantly against the last blessed model, overall and in no
        slice."""
        better = not lower_is_better(name)
        if self.config.max_drop is not None:
            self.no_worse(name, self.config.max_drop, [name])
        if self.config.max_slice_drop is not None:
            kindest = f"{name}_change_{'most' if better else 'least'}"
            for feature in self.config.slices:
                part = config_pb2.SlicingSpec(feature_keys=[PREFIX + feature])
                self.change(kindest, self.config.max_slice_drop, better, part)

    def _add(self, name: str, threshold: config_pb2.MetricThreshold, part: config_pb2.SlicingSpec) -> None:
        entry = config_pb2.PerSliceMetricThreshold(slicing_specs=[part], threshold=threshold)
        self.found.setdefault(name, []).append(entry)

    def check(self, kind: str) -> None:
        """Raises ConfigError where a first run could not be judged: TFX would write no blessing, without a
        word."""
        entries = [entry for entries in self.found.values() for entry in entries]
        if not any(entry.threshold.HasField("value_threshold") for entry in entries):
            raise ConfigError(
                f"The {kind} model has no threshold that a first run can be judged by, and would never be"
                f" blessed (tensorflow/tfx#5148). Received: `evaluation.baselines` {self.config.baselines}"
                f" and `evaluation.thresholds` {self.config.thresholds}. Let a baseline be beaten or matched,"
                " or set a threshold."
            )

    def eval_config(self, metric: config_pb2.MetricConfig) -> config_pb2.EvalConfig:
        """All of it as TFMA takes it."""
        slices = [config_pb2.SlicingSpec()] + [
            config_pb2.SlicingSpec(feature_keys=[PREFIX + name]) for name in self.config.slices
        ]
        thresholds = {
            name: config_pb2.PerSliceMetricThresholds(thresholds=entries)
            for name, entries in self.found.items()
        }
        return config_pb2.EvalConfig(
            model_specs=[
                config_pb2.ModelSpec(name="candidate", signature_name="serving_default"),
                config_pb2.ModelSpec(name="baseline", signature_name="serving_default", is_baseline=True),
            ],
            slicing_specs=slices,
            metrics_specs=[config_pb2.MetricsSpec(metrics=[metric], per_slice_thresholds=thresholds)],
            options=config_pb2.Options(include_default_metrics={"value": False}),
        )


def slicing_spec(part: str) -> config_pb2.SlicingSpec:
    """TFMA's name of `feature=value`, or of every value of `feature`."""
    feature, sign, value = part.partition("=")
    if sign:
        return config_pb2.SlicingSpec(feature_values={PREFIX + feature: value})
    return config_pb2.SlicingSpec(feature_keys=[PREFIX + feature])


def _metric(module: str, name: str, config: EvaluationConfig, **arguments: Any) -> config_pb2.MetricConfig:
    arguments["certainty"] = {
        "confidence": config.confidence,
        "slice_confidence": config.slice_confidence,
        "min_users": config.min_users,
    }
    arguments["most"] = config.max_interactions
    arguments["code"] = code_digest(*CODE)
    return config_pb2.MetricConfig(
        class_name=name, module=f"pipeline.evaluation.{module}", config=json.dumps(arguments)
    )
