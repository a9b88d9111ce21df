"""Reasons why a model is not served, and what to try, from the latest run's summary, for every command that
would ask it."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.pushed_versions import baseline_of, latest_version
from pipeline.data.run_summary import read_summary as read_summary  # for commands, which name no file
from pipeline.evaluation.wording import CONFIG, NAMES
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

CANDIDATES = "candidate"
KINDS = ("retrieval", "ranking", "recommender", "classifier")


def why(summary: dict[str, Any] | None, kind: str, name: str = CONFIG) -> list[str]:
    """Why a model was not pushed, and what to try.

    Args:
        summary: of the latest run.
        kind: `retrieval`, `ranking` or `recommender`.
        name: of the configuration, as it is typed.

    Returns:
        Lines; the first a sentence, the rest what to try.
    """
    if summary is None:
        return [f"{kind} was never trained: `tfrec run {name}` trains and pushes it."]
    model = summary.get(kind)
    if model is None:
        off = "`ranking: null` leaves it out" if kind == "ranking" else "the configuration leaves it out"
        return [f"{kind} is not part of the latest run: {off}."]
    if model["pushed"]:
        return [f"{kind} was pushed to {model['pushed']} by the latest run."]
    if kind == "recommender" and not model["build"].get("built", True):
        refused = [part for part in KINDS[:2] if not summary.get(part, {}).get("blessed", True)]
        lines = [f"recommender was not pushed: {model['build']['reason']}."]
        return lines + [line for part in refused for line in why(summary, part, name)]
    reasons = [] if model.get("blessed", True) else model["reasons"]
    if not model["servable"]["ok"]:
        reasons = [*reasons, f"not servable: {model['servable']['reason']}"]
    lines = [f"{kind} was not pushed: {'; '.join(reasons)}."]
    return lines + [f"  {line.replace(CONFIG, name)}" for line in model.get("advice", [])]


def stands_in(home: pathlib.Path) -> str | None:
    """What answers in the retrieval model's place, in words; None where that is the model itself, or
    nothing."""
    version = latest_version(home / "serving" / "retrieval")
    baseline = baseline_of(version) if version else None
    return f"{describe_baseline(baseline)}, as version {version.name}" if version and baseline else None


def describe_baseline(baseline: dict[str, Any]) -> str:
    """A baseline that is served, with the figures that it was chosen by."""
    figure = f"ndcg@{baseline['k']}"
    reached = f" ({figure} {baseline['ndcg']:.4f}" if "ndcg" in baseline else ""
    if reached:
        reached += f", the trained model {baseline['model_ndcg']:.4f})" if "model_ndcg" in baseline else ")"
    return f"{NAMES[baseline['baseline']]}, the best baseline of the run{reached}"


def served_models(config: PipelineConfig) -> dict[str, str]:
    """Base paths of the models that have a version to serve, by name."""
    folders = sorted(config.push_folder.glob("*")) if config.push_folder.is_dir() else []
    return {folder.name: str(folder) for folder in folders if latest_version(folder) is not None}


def pushed_model(config: PipelineConfig, kind: str | None, name: str = CONFIG) -> str:
    """Folder of the newest version of a model.

    Args:
        config: of the run.
        kind: which; None for the recommender if it was pushed, else retrieval.
        name: of the configuration, as it is typed.

    Raises:
        ConfigError: where there is none, with the reason and what to try.
    """
    for one in (kind,) if kind else ("recommender", "retrieval"):
        version = latest_version(config.push_folder / one)
        if version is not None:
            return str(version)
    kind = kind or "retrieval"
    reasons = "\n".join(why(read_summary(config.home), kind, name))
    others = [other for other in served_models(config) if other != "ranking"]
    instead = f" Or ask another: `--model {others[0]}`." if others else ""
    raise ConfigError(f"No version of {kind} has been pushed to {config.push_folder}. {reasons}{instead}")


def seen_from_here(kind: str, config: str | None, folder: str = "runs") -> list[str]:
    """`why` for somebody who asked a server: of a configuration, or of the latest run that did not push the
    model.

    Args:
        kind: the model that was asked.
        config: a configuration's file or name; None looks at all runs in `folder`.
        folder: where runs are by default.
    """
    if config is not None:
        from pipeline.config.pipeline_config import load_config

        return why(read_summary(load_config(config).home), kind, config)
    paths = sorted(
        pathlib.Path(folder).glob("*/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for path in paths:
        summary = read_summary(path.parent)
        if summary and not (summary.get(kind) or {}).get("pushed"):
            return [f"In {path.parent}: {why(summary, kind)[0]}", *why(summary, kind)[1:]]
    return ["`tfrec serve CONFIG` says which models it serves, and why one is missing."]


def candidates(config: PipelineConfig) -> dict[str, str]:
    """Base paths to serve what the latest run trained and refused, beside what it pushed.

    Candidates lie under `candidate/` as version 1, their files shared with the run's artifacts.

    Raises:
        ConfigError: where there was no run, or it refused nothing, or what it trained is gone.
    """
    summary = read_summary(config.home)
    if summary is None:
        raise ConfigError(f"There is no run in {config.home}, and so no candidate. Run `tfrec run` first.")
    refused = [kind for kind in KINDS[:2] if kind in summary and not summary[kind]["pushed"]]
    if not refused:
        raise ConfigError(
            "`--candidate` serves models that were not pushed. Received: a latest run that pushed all of its"
            " models. Leave it out."
        )
    models = {
        kind: path for kind, path in served_models(config).items() if summary.get(kind, {}).get("pushed")
    }
    for kind in refused:
        source = pathlib.Path(summary[kind]["model"], "Format-Serving")
        if not (source / "saved_model.pb").is_file():
            raise ConfigError(f"The candidate for {kind} is gone from {source}. Run `tfrec run` again.")
        target = config.home / CANDIDATES / kind / "1"
        with files.whole_folder(target, replace=True) as staging:
            shutil.copytree(source, staging, dirs_exist_ok=True, copy_function=files.share)
        models[kind] = str(target.parent)
    return models
