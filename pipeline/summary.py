"""What a run found, in words and in `summary.json`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import pathlib
from typing import Any

from pipeline.config import PipelineConfig

KINDS = ("retrieval", "ranking")


class StepFailed(RuntimeError):
    """A component failed for a reason that is not the user's data or settings."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A component of a run: `state` is done or cached, memory the peak in megabytes."""

    name: str
    state: str
    seconds: float
    megabytes: float
    artifacts: dict[str, Any]
    result: str


def describe(name: str, artifacts: dict[str, Any]) -> str:
    """The result of a component in a few words."""
    if "report" in artifacts:
        report = _json(artifacts["report"].uri, "report.json")
        kept = {table: f"{counts['kept']:,} {table}" for table, counts in report["tables"].items()}
        rejected = sum(counts["rejected"] for counts in report["tables"].values())
        return ", ".join(kept.values()) + f"; {rejected:,} rows rejected"
    if "text_vectors" in artifacts:
        report = _json(artifacts["text_vectors"].uri, "report.json")
        return f"{report['encoded']:,} texts encoded in {report['encoding_seconds']:.1f} s, {report['reused']:,} reused"
    if "model_run" in artifacts:
        history = _json(artifacts["model_run"].uri, "history.json")
        return ", ".join(f"{key} {values[-1]:.4g}" for key, values in history.items() if values)[:70]
    if "pushed_model" in artifacts:
        pushed = artifacts["pushed_model"]
        if not pushed.get_int_custom_property("pushed"):
            return "not pushed"
        return f"version {pushed.get_string_custom_property('pushed_version')}"
    if name.endswith("ServingValidator"):
        report = _json(artifacts["blessing"].uri, "report.json")
        if not report["ok"]:
            return f"NOT servable: {report['reason'][:60]}"
        return f"loads in {report['load_seconds']:.1f} s, answers in {report['milliseconds']:.1f} ms"
    if "evaluation" in artifacts:
        verdict = judge(artifacts)
        shown = _deciding(verdict["metrics"].get("overall", {}))
        return ("blessed: " if verdict["blessed"] else "NOT blessed: ") + shown
    if "anomalies" in artifacts:
        return "no anomalies"
    return ""


def _deciding(metrics: dict[str, float]) -> str:
    wanted = ("ndcg@10", "popularity_ndcg@10", "recall@100", "rmse", "baseline_rmse", "auc")
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in wanted if name in metrics)


def judge(artifacts: dict[str, Any]) -> dict[str, Any]:
    """An Evaluator's verdict: blessed or not, the reasons in words, and all metrics by slice."""
    import tensorflow_model_analysis as tfma

    import pipeline.evaluation  # noqa: F401  (TFMA loads the metrics by name)

    folder = artifacts["evaluation"].uri
    result = tfma.load_eval_result(folder, model_name="candidate" if _compared(folder) else None)
    metrics: dict[str, dict[str, float]] = {}
    for key, outputs in result.slicing_metrics:
        name = ", ".join(f"{feature}={value}" for feature, value in key) or "overall"
        found = metrics.setdefault(name, {})
        for output in outputs.values():
            for sub in output.values():
                for metric, value in sub.items():
                    if "doubleValue" in value and not isinstance(value["doubleValue"], str):
                        found[metric] = round(value["doubleValue"], 6)
    validation = tfma.load_validation_result(folder)
    reasons = []
    for failure in validation.metric_validations_per_slice:
        name = ", ".join(
            f"{single.column}={single.bytes_value.decode() or single.int64_value}" for single in failure.slice_key.single_slice_keys
        ) or "overall"  # fmt: skip
        for metric in failure.failures:
            value = metric.message or f"is {metric.metric_value.double_value.value:.4f}"
            reasons.append(f"{name}: {metric.metric_key.name} {value} and misses {_bound(metric)}")
    if not reasons:
        reasons = ["every threshold was met: " + ", ".join(_thresholds(folder))]
    return {"blessed": bool(validation.validation_ok), "reasons": reasons, "metrics": metrics}


def _eval_config(folder: str) -> dict:
    with open(os.path.join(folder, "eval_config.json")) as stream:
        return json.load(stream)


def _compared(folder: str) -> bool:
    """Whether an evaluation had a blessed model to compare the candidate with."""
    return len(_eval_config(folder).get("modelLocations", {})) > 1


def _thresholds(folder: str) -> list[str]:
    """What was checked, in words."""
    checked = []
    for spec in _eval_config(folder)["evalConfig"]["metricsSpecs"]:
        named = dict(spec.get("perSliceThresholds", {}))
        for metric in spec.get("metrics", []):
            if "perSliceThresholds" in metric:
                named[metric["className"].lower()] = {"thresholds": metric["perSliceThresholds"]}
        for name, thresholds in named.items():
            for entry in thresholds["thresholds"]:
                threshold = entry["threshold"]
                if "valueThreshold" in threshold:
                    checked.append(f"{name} >= {threshold['valueThreshold'].get('lowerBound', 0)}")
                if "changeThreshold" in threshold:
                    checked.append(f"{name} no worse than the last blessed model's")
    return checked


def _bound(metric) -> str:
    threshold = metric.metric_threshold
    if threshold.HasField("value_threshold"):
        return f"the lower bound {threshold.value_threshold.lower_bound.value:.4f}"
    change = threshold.change_threshold
    return f"what the last blessed model allows (change {change.absolute.value:+.4f})"


def write_summary(
    config: PipelineConfig,
    steps: list[Step],
    started: datetime.datetime,
    seconds: float,
    megabytes: float,
    log: pathlib.Path,
) -> dict[str, Any]:
    """Collects a run's results and writes them to `summary.json`, in the run's own folder and as the latest.

    Returns:
        What was written: `components`, `data`, `text`, and for `retrieval` and `ranking` metrics by slice, the baseline's
        figures, blessing, reasons and the folder pushed to.
    """
    by_name = {step.name: step for step in steps}
    models = {}
    for kind in KINDS:
        title = kind.title()
        pushed = by_name[f"{title}Pusher"].artifacts["pushed_model"]
        validated = _json(by_name[f"{title}ServingValidator"].artifacts["blessing"].uri, "report.json")
        verdict = judge(by_name[f"{title}Evaluator"].artifacts)
        models[kind] = verdict | {
            "servable": validated,
            "pushed": pushed.get_string_custom_property("pushed_destination") or None,
            "model": by_name[f"{title}Trainer"].artifacts["model"].uri,
        }
    training = sum(
        step.seconds
        for step in steps
        if step.name in ("RetrievalTrainer", "RankingTrainer", "TextEmbeddings")
    )
    summary = {
        "name": config.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "seconds_without_training_and_encoding": round(seconds - training, 1),
        "peak_memory_mb": round(megabytes),
        "data": _json(by_name["TablesExampleGen"].artifacts["report"].uri, "report.json"),
        "text": _json(by_name["TextEmbeddings"].artifacts["text_vectors"].uri, "report.json")
        if config.text
        else None,
        **models,
        "components": [
            {
                "name": step.name,
                "state": step.state,
                "seconds": round(step.seconds, 1),
                "peak_memory_mb": round(step.megabytes),
                "result": step.result,
            }
            for step in steps
            if step.megabytes  # the resolvers are no steps that anybody waits for
        ],
        "log": str(log),
        "serving": str(config.push_folder),
    }
    folder = config.home / "summaries"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(summary), indent=2, ensure_ascii=False)
    for path in (folder / f"{started:%Y%m%d-%H%M%S}.json", config.home / "summary.json"):
        staging = path.with_suffix(".staging")
        staging.write_text(text)
        staging.replace(path)
    return summary


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(folder: str, name: str) -> Any:
    return json.loads(pathlib.Path(folder, name).read_text())
