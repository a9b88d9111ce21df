"""An Evaluator's verdict, read from what TFMA wrote, and its reasons in words."""

from __future__ import annotations

import json
import math
import os
import re
from typing import Any

import tensorflow_model_analysis as tfma

from pipeline.evaluation import ranking, retrieval  # noqa: F401  (TFMA finds the metrics by name)
from pipeline.evaluation.slices import PREFIX
from pipeline.evaluation.wording import (
    CHANGE,
    GAIN,
    NAMES,
    difference,
    doubtful_figures,
    figure_of,
    lower_is_better,
    telling_slices,
)

DECIDES = re.compile(r"ndcg@\d+|rmse|auc")


def judge(folder: str) -> dict[str, Any]:
    """What an Evaluator found.

    Args:
        folder: of its `evaluation` artifact.

    Returns:
        `blessed`; `reasons`, why or why not, in words; `doubts`, what is too good to be true; `missed`, the
        names of the figures that missed their thresholds; `shown`, the baselines that no threshold is set
        for, in words; `metrics` by slice and name, changes against the last blessed model
        among them (`…_change`, and what TFMA subtracts as `…_diff`).
    """
    metrics = read_metrics(folder)
    validation = tfma.load_validation_result(folder)
    failed: dict[str, list[str]] = {}
    missed: set[str] = set()
    for failure in validation.metric_validations_per_slice:
        name = _slice_name(
            (single.column, single.bytes_value.decode() or str(single.int64_value))
            for single in failure.slice_key.single_slice_keys
        )
        for metric in failure.failures:
            words = describe_failure(metric, metrics.get(name, {}))
            missed.add(metric.metric_key.name)
            if words not in failed.setdefault(name, []):
                failed[name].append(words)
    reasons = [f"{name}: {words}" for name, entries in failed.items() for words in entries]
    for missing in validation.missing_slices:
        values = [f"{feature}={value}" for feature, value in missing.feature_values.items()]
        name = ", ".join(values or missing.feature_keys).replace(PREFIX, "")
        reasons.append(f"{name}: no test interaction belongs to this slice, which a threshold is set for")
    checked = thresholds(folder)
    if not reasons:
        reasons = describe_success(metrics, checked)
    return {
        "blessed": bool(validation.validation_ok),
        "reasons": reasons,
        "doubts": doubtful_figures(metrics.get("overall", {})),
        "missed": sorted(missed),
        "shown": describe_shown(metrics.get("overall", {}), checked),
        "metrics": metrics,
    }


def read_metrics(folder: str) -> dict[str, dict[str, float]]:
    """All figures of the candidate by slice; those that are no numbers are left out, infinite ends of
    intervals too."""
    result = tfma.load_eval_result(folder, model_name="candidate" if _compared(folder) else None)
    metrics: dict[str, dict[str, float]] = {}
    for key, outputs in result.slicing_metrics:
        figures = metrics.setdefault(_slice_name(key), {})
        for output in outputs.values():
            for sub in output.values():
                for metric, value in sub.items():
                    number = value.get("doubleValue", float("nan"))
                    if isinstance(number, (int, float)) and math.isfinite(number):
                        figures[metric.removesuffix("_diff") if "_change" in metric else metric] = round(
                            number, 6
                        )
    return metrics


def _slice_name(key: Any) -> str:
    return ", ".join(f"{feature.removeprefix(PREFIX)}={value}" for feature, value in key) or "overall"


def _eval_config(folder: str) -> dict:
    with open(os.path.join(folder, "eval_config.json"), encoding="utf-8") as stream:
        return json.load(stream)


def _compared(folder: str) -> bool:
    """Whether an evaluation had a blessed model to compare the candidate with."""
    return len(_eval_config(folder).get("modelLocations", {})) > 1


def thresholds(folder: str) -> list[tuple[str, bool]]:
    """(figure, whether it is a change against the last blessed model) of everything that was checked."""
    checked = []
    for spec in _eval_config(folder)["evalConfig"]["metricsSpecs"]:
        for name, entries in spec.get("perSliceThresholds", {}).items():
            kinds = {kind for entry in entries["thresholds"] for kind in entry.get("threshold", {})}
            checked += [(name, kind == "changeThreshold") for kind in sorted(kinds)]
    return checked


def describe_failure(failure: Any, metrics: dict[str, float]) -> str:
    """Why one threshold was missed.

    Args:
        failure: TFMA's `ValidationFailure`.
        metrics: the slice's figures.
    """
    name, value = failure.metric_key.name, failure.metric_value.double_value.value
    if failure.message:
        return f"{name}: {failure.message.strip().rstrip('.')}"
    num_users = int(metrics.get("users", 0))
    change, gain = CHANGE.fullmatch(name), GAIN.fullmatch(name)
    if math.isnan(value):
        return describe_nan(name, gain, num_users)
    if change:
        figure = change.group(1)
        return (
            f"{figure} is significantly worse than the last blessed model's:"
            f" {_with_interval(f'{figure}_change', metrics, sign='+')} over {num_users:,} users"
        )
    if gain:
        figure, baseline, end = gain.groups()
        shown = difference(figure, baseline, metrics)
        verb = "is significantly worse than" if end == "high" else "does not beat"
        if math.isinf(value):
            return (
                f"{figure} cannot be told from {NAMES.get(baseline, baseline)}'s: {num_users} users are too"
                " few (`evaluation.min_users`)"
            )
        return f"{figure} {verb} {NAMES.get(baseline, baseline)}: {shown} over {num_users:,} users"
    if name == "items_without_score":
        return f"the model gives {int(value):,} held-out items a score that is not a number"
    if failure.metric_threshold.HasField("change_threshold"):
        allowed = failure.metric_threshold.change_threshold.absolute.value
        return (
            f"{name} is {value:+.4f} against the last blessed model's, of which `evaluation.changes` allows"
            f" {allowed:+.4f}"
        )
    return f"{name} is {value:.4f} and misses {_bound(failure.metric_threshold.value_threshold)}"


def describe_nan(name: str, gain: re.Match[str] | None, num_users: int) -> str:
    """Why a figure that a threshold is set for is not a number."""
    if not num_users:
        return f"{name} is not a number: nobody could be judged"
    if gain:
        baseline = NAMES.get(gain.group(2), gain.group(2))
        return (
            f"{name} is not a number: no rank (or rating) of {baseline} is there for some of what was"
            " held out"
        )
    if name in ("auc", "user_auc"):
        return (
            f"{name} is not a number: all test interactions have the same label, or the model's scores are no"
            " numbers"
        )
    return f"{name} is not a number: the model's scores are no numbers"


def _bound(value: Any) -> str:
    if value.HasField("upper_bound"):
        return f"the upper bound {value.upper_bound.value:.4f}"
    return f"the lower bound {value.lower_bound.value:.4f}"


def _with_interval(name: str, metrics: dict[str, float], sign: str = "") -> str:
    """`0.1065 [0.0950, 0.1180]`, as far as it is known."""
    if name not in metrics:
        return "unknown"
    shown = f"{metrics[name]:{sign}.4f}"
    if f"{name}_low" in metrics and f"{name}_high" in metrics:
        shown += f" [{metrics[f'{name}_low']:{sign}.4f}, {metrics[f'{name}_high']:{sign}.4f}]"
    return shown


def describe_success(metrics: dict[str, dict[str, float]], checked: list[tuple[str, bool]]) -> list[str]:
    """What was shown, threshold by threshold."""
    overall, words = metrics.get("overall", {}), []
    compared: dict[str, str] = {}
    for name, against_blessed in sorted(checked, key=lambda entry: not entry[0].endswith("_low")):
        gain, change = GAIN.fullmatch(name), CHANGE.fullmatch(name)
        if change:
            figure = change.group(1)
            compared[figure] = f"{figure} {_with_interval(f'{figure}_change', overall, sign='+')}"
        elif against_blessed:
            compared[name] = f"{name} {_with_interval(f'{name}_diff', overall, sign='+')}"
        elif gain:
            figure, baseline, end = gain.groups()
            if end is None:
                continue
            # Whatever was demanded: where the whole interval is a gain, it is better and not only no worse.
            better = end == "low" or overall.get(f"{figure}_gain_over_{baseline}_low", 0.0) > 0
            line = (
                f"{figure} {overall.get(figure, float('nan')):.4f}"
                f" {'beats' if better else 'is no worse than'} "
            )
            line += f"{NAMES.get(baseline, baseline)}: {difference(figure, baseline, overall)}"
            words.append(line)
        elif name in overall and name != "items_without_score":
            words.append(f"{name} {overall[name]:.4f}")
    if compared:
        slices = [name for name in telling_slices(metrics) if name != "overall"]
        words.append(
            f"not significantly worse than the last blessed model ({', '.join(compared.values())}), nor in"
            f" any of {len(slices)} slices"
        )
    return words


def describe_shown(overall: dict[str, float], checked: list[tuple[str, bool]]) -> list[str]:
    """The baselines that are only shown: what they reach, and how far the model is from it."""
    judged = {gain.group(2) for name, _ in checked if (gain := GAIN.fullmatch(name))}
    figures: dict[str, list[str]] = {}
    for name in overall:
        gain = GAIN.fullmatch(name)
        if gain and not gain.group(3) and gain.group(2) not in judged and DECIDES.fullmatch(gain.group(1)):
            figures.setdefault(gain.group(2), []).append(gain.group(1))
    words = []
    for baseline, names in figures.items():
        figure = min(names, key=lambda name: (len(name), name))  # the first cutoff
        value = overall.get(figure_of(baseline, figure), float("nan"))
        words.append(
            f"{figure} of {NAMES.get(baseline, baseline)}: {value:.4f}, which no threshold asks for; this"
            f" model is {difference(figure, baseline, overall)} from it"
        )
    return words


def deciding(metrics: dict[str, float]) -> str:
    """The few figures that a line has room for."""
    names = ("ndcg@10", "popularity_ndcg@10", "recall@100", "rmse", "baseline_rmse", "auc")
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)


def worse(name: str, change: float) -> bool:
    """Whether a change of a figure is for the worse."""
    return change > 0 if lower_is_better(name) else change < 0
