"""Runs of a configuration as rows, two of them beside each other, and the removal of old ones."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.run_summary import LOCK, read_summaries
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

KINDS = ("retrieval", "ranking", "recommender", "classifier")
FIGURES = ("ndcg@10", "recall@100", "mrr", "coverage@10", "rmse", "auc")


@dataclasses.dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        started: when, as its files are called.
        seconds: how long.
        interactions: of all splits.
        figures: of each model, overall, by name.
        pushed: version by model; those that were not pushed are left out.
    """

    started: str
    seconds: float
    interactions: int
    figures: dict[str, dict[str, float]]
    pushed: dict[str, str]


def rows(config: PipelineConfig) -> list[Row]:
    """The runs whose summaries are there, oldest first.

    Raises:
        ConfigError: where there are none.
    """
    found = [_row(summary) for summary in read_summaries(config.home) if "started" in summary]
    if not found:
        raise ConfigError(f"There is no run in {config.home}. Run `tfrec run` first.")
    return found


def chosen(found: list[Row], name: str) -> Row:
    """The run that a name means: the beginning of its start (`2026-11-30`), or `-1` for the latest, `-2` for
    the one before.

    Raises:
        ConfigError: for none or several.
    """
    if name.lstrip("-").isdecimal() and len(name) <= 4 and -len(found) <= int(name) < 0:
        return found[int(name)]
    fitting = [row for row in found if row.started.startswith(name.replace(" ", "T"))]
    if len(fitting) != 1:
        raise ConfigError(
            f"A run is named by the beginning of its start, or -1 for the latest. Received: {name!r}, which"
            f" fits {len(fitting)} of {', '.join(row.started for row in found)}."
        )
    return fitting[0]


def differences(first: Row, second: Row) -> list[tuple[str, float | None, float | None]]:
    """What both runs measured: name and both values, None where one has none."""
    results: list[tuple[str, float | None, float | None]] = [
        ("seconds", first.seconds, second.seconds),
        ("interactions", first.interactions, second.interactions),
    ]
    for kind in KINDS:
        values = first.figures.get(kind, {}), second.figures.get(kind, {})
        names = sorted({*values[0], *values[1]}, key=lambda name: (_position(name), name))
        results += [(f"{kind} {name}", values[0].get(name), values[1].get(name)) for name in names]
    return results


def clean(config: PipelineConfig, keep: int) -> tuple[int, int]:
    """Removes what all but the last runs made, and their summaries.

    What is served, what a new candidate is compared with and what the next run reuses stays
    (`runner.pruning`).

    Args:
        config: of the runs.
        keep: how many stay.

    Returns:
        How many summaries went, and how many bytes became free.

    Raises:
        AtWork: where a run is at work in the same folder.
    """
    from pipeline.runner.pruning import prune

    summaries = sorted((config.home / "summaries").glob("*.json"))
    with files.lock(config.home / LOCK, "tfrec runs clean"):
        blessed = blessed_of(config)
        serving = dataclasses.replace(config.serving, keep_versions=keep)
        freed = prune(dataclasses.replace(config, keep_runs=keep, serving=serving), blessed)
        for path in summaries[:-keep]:
            freed += path.stat().st_size
            path.unlink()
    return len(summaries[:-keep]), freed


def blessed_of(config: PipelineConfig) -> list[str]:
    """Folders of the models that the next candidate is compared with."""
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    from pipeline.runner.pruning import blessed_models

    record = config.home / "metadata.sqlite"
    if not record.is_file():
        return []
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(record)
    return blessed_models(metadata_store.MetadataStore(connection))


def _row(summary: dict[str, Any]) -> Row:
    splits = summary.get("data", {}).get("splits", {})
    models = {kind: summary[kind] for kind in KINDS if summary.get(kind)}
    return Row(
        summary["started"],
        float(summary.get("seconds", 0.0)),
        sum(count for name, count in splits.items() if name.startswith("interactions/")),
        {kind: _figures(model.get("metrics", {}).get("overall", {})) for kind, model in models.items()},
        {kind: model["pushed"].rsplit("/", 1)[-1] for kind, model in models.items() if model.get("pushed")},
    )


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and not name.endswith(("_low", "_high"))
    }


def _position(name: str) -> int:
    return FIGURES.index(name) if name in FIGURES else len(FIGURES)
