"""What the Evaluators compute, and what a model must show to be blessed.

Retrieval is judged over the whole catalogue: the model's `serving_default` signature answers with the rank of each
held-out item, seen items excluded, and the metric here turns ranks into figures per person and averages over people.
Slices are cut before people are grouped, so that a slice of items judges exactly the held-out items in it (TFMA's own
`query_key` would cut whole people and mix other items in).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from pipeline.config import ConfigError, EvaluationConfig, code_digest

SAMPLED = ("recall", "ndcg", "hit_rate", "map")


def per_person_figures(
    people: np.ndarray, ranks: np.ndarray, cutoffs: Iterable[int]
) -> dict[str, np.ndarray]:
    """Metrics of each person from the ranks of the items that were held out.

    With `n` held-out items at ranks `r` (from 1) and cutoff `k`:
    `recall = |{r <= k}| / n`; `hit_rate = [any r <= k]`;
    `ndcg = sum_{r <= k} 1 / log2(r + 1) / sum_{i <= min(n, k)} 1 / log2(i + 1)`;
    `map = sum_{r <= k} (held-out items at or above r) / r / min(n, k)`; `mrr = 1 / min(r)`.

    Args:
        people: `[targets]`, equal where two targets belong to one person.
        ranks: float `[targets]`.
        cutoffs: the values of `k`.

    Returns:
        `{"ndcg@10": float64 [people], …, "mrr": …}`.
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
        figures[f"map@{k}"] = total(hit * place / ranks) / most
    return figures


def _key(name: str, model_name: str) -> metric_types.MetricKey:
    """The key under which TFMA looks for thresholds given by a metric's name: weighting undefined, not off."""
    return metric_types.MetricKey(name, model_name=model_name, example_weighted=None)


class RankCombiner(beam.CombineFn):
    """Gathers (person, rank by the model, rank by popularity) and ends in averages over people.

    An accumulator holds 16 bytes a held-out item, so that one slice of 10 million needs 160 MB where it is finished.
    """

    def __init__(self, cutoffs: list[int], model_name: str):
        self.cutoffs, self.model_name = cutoffs, model_name

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, element):
        predictions = (
            element.get_predictions(self.model_name) if self.model_name else element.get_predictions()
        )
        rank = float(np.ravel(predictions["rank"])[0])
        if np.isfinite(rank):
            user = np.ravel(element.get_features()["user_id"])[0]
            digest = hashlib.blake2b(
                user if isinstance(user, bytes) else str(user).encode(), digest_size=8
            ).digest()
            popular = float(np.ravel(predictions["popularity_rank"])[0])
            accumulator.append((int.from_bytes(digest, "little", signed=True), rank, popular))
        return accumulator

    def merge_accumulators(self, accumulators):
        return [entry for accumulator in accumulators for entry in accumulator]

    def extract_output(self, accumulator):
        return {self.key(name): value for name, value in self.figures(accumulator).items()}

    def key(self, name: str) -> metric_types.MetricKey:
        return _key(name, self.model_name)

    def names(self) -> list[str]:
        """Every figure that comes out."""
        metrics = ["mrr", *(f"{name}@{k}" for k in self.cutoffs for name in SAMPLED)]
        gains = [f"ndcg@{k}_gain_over_popularity" for k in self.cutoffs]
        return metrics + [f"popularity_{name}" for name in metrics] + gains + ["people", "held_out_items"]

    def figures(self, accumulator) -> dict[str, float]:
        if not accumulator:
            return {
                name: 0.0 if name in ("people", "held_out_items") else float("nan") for name in self.names()
            }
        people = np.array([entry[0] for entry in accumulator], np.int64)
        found = {"": [entry[1] for entry in accumulator], "popularity_": [entry[2] for entry in accumulator]}
        values: dict[str, float] = {}
        for prefix, ranks in found.items():
            for name, figure in per_person_figures(people, np.array(ranks, np.float64), self.cutoffs).items():
                values[prefix + name] = float(figure.mean())
        for k in self.cutoffs:
            values[f"ndcg@{k}_gain_over_popularity"] = values[f"ndcg@{k}"] - values[f"popularity_ndcg@{k}"]
        return values | {"people": float(len(np.unique(people))), "held_out_items": float(len(people))}


def _retrieval_computations(cutoffs, code="", name="", eval_config=None, model_names=None, **_):
    computations = []
    for model_name in model_names or [""]:
        combiner = RankCombiner(list(cutoffs), model_name)
        preprocessor = metric_types.FeaturePreprocessor(
            feature_keys=["user_id"], model_names=[model_name] if model_name else None
        )
        keys = [combiner.key(figure) for figure in combiner.names()]
        computations.append(metric_types.MetricComputation(keys, [preprocessor], combiner))
    return computations


class RetrievalMetrics(metric_types.Metric):
    """Recall, NDCG, hit rate and MAP at `cutoffs`, and MRR: by the model, by popularity, and the gain between them.

    `code` is not used: a digest of this module in it makes TFX's cache see changed code.
    """

    def __init__(self, cutoffs: list[int], code: str = "", name: str = "retrieval"):
        super().__init__(_retrieval_computations, cutoffs=cutoffs, code=code, name=name)


class GainCombiner(beam.CombineFn):
    """Root mean squared error of the biases' prediction less that of the model's."""

    def __init__(self, model_name: str):
        self.model_name = model_name

    def create_accumulator(self):
        return (0.0, 0.0, 0)

    def add_input(self, accumulator, element):
        predictions = (
            element.get_predictions(self.model_name) if self.model_name else element.get_predictions()
        )
        label = float(np.ravel(element.get_features()["label"])[0])
        own = float(np.ravel(predictions["rating"])[0]) - label
        baseline = float(np.ravel(predictions["baseline_rating"])[0]) - label
        return accumulator[0] + own**2, accumulator[1] + baseline**2, accumulator[2] + 1

    def merge_accumulators(self, accumulators):
        return tuple(sum(part) for part in zip(*accumulators, strict=True))

    def extract_output(self, accumulator):
        own, baseline, count = accumulator
        rmse, baseline_rmse = (np.sqrt(total / count) if count else float("nan") for total in (own, baseline))
        figures = {
            "rmse": rmse,
            "baseline_rmse": baseline_rmse,
            "rmse_gain_over_biases": baseline_rmse - rmse,
        }
        return {_key(name, self.model_name): value for name, value in figures.items()}


def _rating_computations(code="", name="", eval_config=None, model_names=None, **_):
    computations = []
    for model_name in model_names or [""]:
        names = ("rmse", "baseline_rmse", "rmse_gain_over_biases")
        keys = [_key(figure, model_name) for figure in names]
        preprocessor = metric_types.FeaturePreprocessor(
            feature_keys=["label"], model_names=[model_name] if model_name else None
        )
        computations.append(metric_types.MetricComputation(keys, [preprocessor], GainCombiner(model_name)))
    return computations


class RatingMetrics(metric_types.Metric):
    """RMSE of the ratings, of a baseline of user and item biases, and the gain between them. `code` as above."""

    def __init__(self, code: str = "", name: str = "rating_errors"):
        super().__init__(_rating_computations, code=code, name=name)


def _slices(config: EvaluationConfig) -> list[config_pb2.SlicingSpec]:
    return [config_pb2.SlicingSpec()] + [
        config_pb2.SlicingSpec(feature_keys=[name]) for name in config.slices
    ]


def _metric(name: str, **arguments) -> config_pb2.MetricConfig:
    arguments["code"] = code_digest("pipeline/evaluation.py")
    return config_pb2.MetricConfig(
        class_name=name, module="pipeline.evaluation", config=json.dumps(arguments)
    )


def _at_least(bound: float) -> config_pb2.MetricThreshold:
    return config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": bound})
    )


def _no_worse(drop: float, higher_is_better: bool) -> config_pb2.MetricThreshold:
    direction = config_pb2.HIGHER_IS_BETTER if higher_is_better else config_pb2.LOWER_IS_BETTER
    change = config_pb2.GenericChangeThreshold(
        direction=direction, absolute={"value": -drop if higher_is_better else drop}
    )
    return config_pb2.MetricThreshold(change_threshold=change)


def _overall(
    thresholds: dict[str, config_pb2.MetricThreshold],
) -> dict[str, config_pb2.PerSliceMetricThresholds]:
    """Thresholds for all examples together; without a slice TFMA would apply them to every slice."""
    return {
        name: config_pb2.PerSliceMetricThresholds(
            thresholds=[
                config_pb2.PerSliceMetricThreshold(
                    slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold
                )
            ]
        )
        for name, threshold in thresholds.items()
    }


def _models(**keys) -> list[config_pb2.ModelSpec]:
    return [
        config_pb2.ModelSpec(name="candidate", signature_name="serving_default", **keys),
        config_pb2.ModelSpec(name="baseline", signature_name="serving_default", is_baseline=True, **keys),
    ]


def retrieval_eval_config(config: EvaluationConfig) -> config_pb2.EvalConfig:
    """The retrieval model's figures, slices and thresholds.

    Raises:
        ConfigError: for a threshold on a figure that is not computed.
    """
    names = RankCombiner(list(config.k), "").names()
    deciding = f"ndcg@{config.k[0]}"
    thresholds = {
        f"{deciding}_gain_over_popularity": _at_least(config.min_ndcg_gain),
        deciding: _no_worse(config.max_drop, higher_is_better=True),
    }
    for name, bound in config.thresholds.items():
        if name not in names:
            raise ConfigError(
                f"`evaluation.thresholds` names `{name}`, which is not computed. Known: {', '.join(names)}."
            )
        thresholds[name] = _at_least(bound)
    metrics = [_metric("RetrievalMetrics", cutoffs=list(config.k))]
    return config_pb2.EvalConfig(
        model_specs=_models(),
        slicing_specs=_slices(config),
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics, per_slice_thresholds=_overall(thresholds))],
        options=config_pb2.Options(include_default_metrics={"value": False}),
    )


def ranking_eval_config(config: EvaluationConfig, has_rating: bool) -> config_pb2.EvalConfig:
    """The ranking model's figures, slices and thresholds: errors of ratings where there are any, AUC of clicks."""
    auc = config_pb2.MetricConfig(class_name="AUC")
    if not has_rating:
        auc.per_slice_thresholds.extend(_overall({"auc": _at_least(0.5)})["auc"].thresholds)
    others = [
        config_pb2.MetricConfig(class_name=name)
        for name in ("BinaryCrossentropy", "Calibration", "ExampleCount")
    ]
    click = config_pb2.MetricsSpec(output_names=["click"], metrics=[auc, *others])
    labels = {"click": "click"}
    specs = [click]
    if has_rating:
        labels["rating"] = "label"
        specs.append(
            config_pb2.MetricsSpec(
                metrics=[_metric("RatingMetrics")],
                per_slice_thresholds=_overall(
                    {
                        "rmse_gain_over_biases": _at_least(config.min_rmse_gain),
                        "rmse": _no_worse(config.max_drop, higher_is_better=False),
                    }
                ),
            )
        )
        specs.append(
            config_pb2.MetricsSpec(
                output_names=["rating"], metrics=[config_pb2.MetricConfig(class_name="MeanAbsoluteError")]
            )
        )
    return config_pb2.EvalConfig(
        model_specs=_models(label_keys=labels),
        slicing_specs=_slices(config),
        metrics_specs=specs,
        options=config_pb2.Options(include_default_metrics={"value": False}),
    )
