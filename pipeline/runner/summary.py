"""Summary of a run, in words and in `summary.json`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import pathlib
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, flat_settings
from pipeline.data.private_runs import read_privacy
from pipeline.data.pushed_versions import latest_version
from pipeline.data.refits import REPORT
from pipeline.data.run_summary import START
from pipeline.evaluation.wording import doubtful_cutoffs, doubtful_texts
from pipeline.runner.unpushed import describe_baseline
from tfrec_fusion import files
from tfrec_fusion.errors import TfrecError

NO_CANDIDATE = "there is no candidate"


class StepFailed(TfrecError, RuntimeError):
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
    if "generated_texts" in artifacts:
        report = _json(artifacts["generated_texts"].uri, "report.json")
        counts = [f"{count:,} {verdict}" for verdict, count in report["items"].items() if verdict != "all"]
        return f"{', '.join(counts)}; asked {report['asked']:,}"
    if "text_vectors" in artifacts:
        report = _json(artifacts["text_vectors"].uri, "report.json")
        return (
            f"{report['encoded']:,} texts encoded in {report['encoding_seconds']:.1f} s, {report['reused']:,}"
            " reused"
        )
    if name == "BaselineBuilder":
        report = _json(artifacts["model_run"].uri, "report.json")
        return describe_baseline(report) if report["built"] else f"not needed: {report['reason']}"
    if name == "RecommenderBuilder":
        report = _json(artifacts["model_run"].uri, "report.json")
        if not report["built"]:
            return f"not built: {report['reason']}"
        if not report["validation_ndcg@10"]:
            return "the retrieval orders alone: validation would tell of its users"
        gains = report["validation_ndcg@10"][report["head"]]
        return (
            f"{report['head']} counts {report['rank_weight']:.0%}: val_ndcg_10"
            f" {gains[str(report['rank_weight'])]:.4f}, without {gains['0.0']:.4f}"
        )
    if name.endswith("IndexBuilder"):
        report = _json(artifacts["model_run"].uri, "report.json")
        return (
            f"{report['offered']:,} items: {report['new']:,} new, {report['removed']:,} removed, "
            f"{report['texts_encoded']:,} texts encoded"
        )
    if name.endswith("Refit"):
        return describe_refit(_json(artifacts["model_run"].uri, REPORT))
    if name == "ClassifierTrainer":
        return describe_classifier(_json(artifacts["model_run"].uri, "classifier.json"))
    if "model_run" in artifacts:
        spent = read_privacy({"model": artifacts["model_run"].uri})
        if spent:
            return f"ε {spent['model']['epsilon']:.3g} at δ {spent['model']['delta']:g} towards each user"
        history = _json(artifacts["model_run"].uri, "history.json")
        return ", ".join(f"{key} {values[-1]:.4g}" for key, values in history.items() if values)[:70]
    if "pushed_model" in artifacts:
        pushed = artifacts["pushed_model"]
        if not pushed.get_int_custom_property("pushed"):
            return "not pushed"
        return f"version {pushed.get_string_custom_property('pushed_version')}"
    if name.endswith("ServingValidator"):
        report = _json(artifacts["blessing"].uri, "report.json")
        if not report["ok"] and name.startswith("Baseline") and NO_CANDIDATE in report["reason"]:
            return "nothing to ask"
        if not report["ok"]:
            return f"NOT servable: {report['reason'][:60]}"
        return f"loads in {report['load_seconds']:.1f} s, answers in {report['milliseconds']:.1f} ms"
    if "evaluation" in artifacts:
        from pipeline.evaluation.verdict import deciding, judge

        verdict = judge(artifacts["evaluation"].uri)
        shown = deciding(verdict["metrics"].get("overall", {}))
        doubt = "; too good to be true?" if verdict["doubts"] else ""
        return ("blessed: " if verdict["blessed"] else "NOT blessed: ") + shown + doubt
    if "anomalies" in artifacts:
        return "no anomalies"
    return ""


def describe_classifier(report: dict[str, Any]) -> str:
    """What a classifier is worth."""
    verdict, figures = "blessed" if report["blessed"] else "NOT blessed", report["figures"]
    words = f"accuracy {figures['accuracy']:.4f}, macro F1 {figures['macro_f1']:.4f}"
    return f"{verdict}: {words}, {len(report['classes'])} classes"


def describe_refit(report: dict[str, Any]) -> str:
    """What a refit came to: how many rows, and the figure on validation before and after."""
    if not report["used"]:
        return f"the judged model as it is: {report['reason']}"
    words = f"{report['rows']:,} rows"
    for name, value in report.get("refitted", {}).items():
        words += f", val_{name} {value:.4f} (judged {report['judged'][name]:.4f})"
    return words


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
        What was written: `components`, `data`, `text`, `doubts` (what is too good to be true, in words),
            `privacy` (what private training spent, by model and in `total`), and for `retrieval` and
            `ranking` (unless left out) metrics by slice, the baselines' figures, blessing, reasons, what to
            try, the judged `model`, its `refit`, which is pushed where there is one, and the folder pushed
            to; for `retrieval` also `baseline`, which one answers in its place and where it was pushed,
            and `warm_start`, what it started from where that was trained on other domains; for `recommender`
            how it was built, whether it answers, and the folder; for `classifier` its report per class,
            figures, baselines and verdict; `artifacts` holds the folder of each output
            by component.
    """
    # Imported here: TFMA is slow to import, and of no use to whoever only reads a summary.
    from pipeline.evaluation.advice import advice
    from pipeline.evaluation.verdict import judge

    by_name = {step.name: step for step in steps}
    models: dict[str, Any] = {}
    for kind in config.kinds:
        title = kind.title()
        pushed = by_name[f"{title}Pusher"].artifacts["pushed_model"]
        validated = _json(by_name[f"{title}ServingValidator"].artifacts["blessing"].uri, "report.json")
        verdict = judge(by_name[f"{title}Evaluator"].artifacts["evaluation"].uri)
        history = _json(by_name[f"{title}Trainer"].artifacts["model_run"].uri, "history.json")
        models[kind] = verdict | {
            "advice": advice(config, kind, verdict, history),
            "servable": validated,
            "pushed": pushed.get_string_custom_property("pushed_destination") or None,
            "model": by_name[f"{title}Trainer"].artifacts["model"].uri,
            "refit": _refit(by_name, kind),
        }
    spent = read_privacy(
        {kind: by_name[f"{kind.title()}Trainer"].artifacts["model_run"].uri for kind in config.kinds}
    )
    models["retrieval"]["warm_start"] = _start(by_name["RetrievalTrainer"])
    if "BaselineBuilder" in by_name:
        models["retrieval"]["baseline"] = _baseline(by_name, config)
    artifacts = {
        f"{step.name}/{name}": artifact.uri for step in steps for name, artifact in step.artifacts.items()
    }
    if config.builds_recommender:
        models["recommender"] = _recommender(by_name)
    if "ClassifierTrainer" in by_name:
        models["classifier"] = _classifier(by_name)
    data = _json(by_name["TablesExampleGen"].artifacts["report"].uri, "report.json")
    text = (
        _json(by_name["TextEmbeddings"].artifacts["text_vectors"].uri, "report.json") if config.text else None
    )
    items = data["splits"]["items/all"]
    doubts = [f"{kind}: {words}" for kind, model in models.items() for words in model.get("doubts", ())]
    training = sum(
        step.seconds
        for step in steps
        if step.name.endswith(("Trainer", "Refit")) or step.name == "TextEmbeddings"
    )
    summary = {
        "name": config.name,
        "settings": flat_settings(config),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "seconds_without_training_and_encoding": round(seconds - training, 1),
        "peak_memory_mb": round(megabytes),
        "data": data,
        "text": text,
        "doubts": doubts + doubtful_texts(text, items) + doubtful_cutoffs(config.evaluation.k, items),
        **models,
        "privacy": spent,
        "components": _components(steps),
        "artifacts": artifacts,
        "log": str(log),
        "serving": str(config.push_folder),
    }
    _write(summary, config.home / "summaries" / f"{started:%Y%m%d-%H%M%S}.json", config.home / "summary.json")
    return summary


def write_index_summary(
    config: PipelineConfig,
    steps: list[Step],
    started: datetime.datetime,
    seconds: float,
    megabytes: float,
    log: pathlib.Path,
) -> dict[str, Any]:
    """Collects what a rebuilt index came to and writes it to `index.json`.

    Returns:
        What was written: `components`, `data`, and for each model with an index what changed in it (`build`),
            whether it
        answers (`servable`), and the folder pushed to.
    """
    by_name = {step.name: step for step in steps}
    models = {}
    for kind in ("retrieval", "recommender"):
        title = kind.title()
        if f"{title}IndexBuilder" not in by_name:
            continue
        built, pushed = (by_name[f"{title}{step}"].artifacts for step in ("IndexBuilder", "Pusher"))
        blessing = by_name[f"{title}ServingValidator"].artifacts["blessing"]
        models[kind] = {
            "build": _json(built["model_run"].uri, "report.json"),
            "servable": _json(blessing.uri, "report.json"),
            "pushed": pushed["pushed_model"].get_string_custom_property("pushed_destination") or None,
        }
    summary = {
        "name": config.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(megabytes),
        "data": _json(by_name["ItemsExampleGen"].artifacts["report"].uri, "report.json"),
        **models,
        "components": _components(steps),
        "log": str(log),
        "serving": str(config.push_folder),
    }
    _write(summary, config.home / "index.json")
    return summary


def _refit(by_name: dict[str, Step], kind: str) -> dict[str, Any] | None:
    """The model that is pushed in place of the judged one, and how both stand on validation; None where the
    judged model itself is pushed."""
    step = by_name.get(f"{kind.title()}Refit")
    if step is None:
        return None
    return {**_json(step.artifacts["model_run"].uri, REPORT), "model": step.artifacts["model"].uri}


def _start(trainer: Step) -> dict[str, Any] | None:
    """What a model started from: the folder, and what it was made from; None where it started anew."""
    folder = trainer.artifacts["model_run"].uri
    return _json(folder, START) if pathlib.Path(folder, START).is_file() else None


def _components(steps: list[Step]) -> list[dict[str, Any]]:
    return [
        {
            "name": step.name,
            "state": step.state,
            "seconds": round(step.seconds, 1),
            "peak_memory_mb": round(step.megabytes),
            "result": step.result,
        }
        for step in steps
        if step.megabytes  # the resolvers are no steps that anybody waits for
    ]


def _write(summary: dict[str, Any], *paths: pathlib.Path) -> None:
    for path in paths:
        files.write_json(path, _finite(summary))


def _baseline(by_name: dict[str, Step], config: PipelineConfig) -> dict[str, Any] | None:
    """The baseline that this run pushed in the retrieval model's place, if it is what is served; None
    otherwise."""
    report = _json(by_name["BaselineBuilder"].artifacts["model_run"].uri, "report.json")
    pushed = by_name["BaselinePusher"].artifacts["pushed_model"]
    folder = pushed.get_string_custom_property("pushed_destination") or None
    if not report["built"]:
        return None
    served = latest_version(config.push_folder / "retrieval")
    if folder and (served is None or str(served) != folder):
        folder = None
    servable = _json(by_name["BaselineServingValidator"].artifacts["blessing"].uri, "report.json")
    return {
        **report,
        "pushed": folder,
        "servable": servable,
        "model": by_name["BaselineBuilder"].artifacts["model"].uri,
    }


def _recommender(by_name: dict[str, Step]) -> dict[str, Any]:
    pushed = by_name["RecommenderPusher"].artifacts["pushed_model"]
    return {
        "servable": _json(by_name["RecommenderServingValidator"].artifacts["blessing"].uri, "report.json"),
        "pushed": pushed.get_string_custom_property("pushed_destination") or None,
        "model": by_name["RecommenderBuilder"].artifacts["model"].uri,
        "build": _json(by_name["RecommenderBuilder"].artifacts["model_run"].uri, "report.json"),
    }


def _classifier(by_name: dict[str, Step]) -> dict[str, Any]:
    trained = by_name["ClassifierTrainer"].artifacts
    pushed = by_name["ClassifierPusher"].artifacts["pushed_model"]
    report = _json(trained["model_run"].uri, "classifier.json")
    return {
        **report,
        "metrics": {"overall": report["figures"]},
        "servable": _json(by_name["ClassifierServingValidator"].artifacts["blessing"].uri, "report.json"),
        "pushed": pushed.get_string_custom_property("pushed_destination") or None,
        "model": trained["model"].uri,
    }


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(folder: str, name: str) -> Any:
    return json.loads(pathlib.Path(folder, name).read_text(encoding="utf-8"))
