"""A run's settings, figures and artifacts in MLflow, where it is installed and the configuration names a
store."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, flat_settings
from tfrec_fusion.config import ConfigError

__all__ = ["check", "log_run"]

LONGEST = 500
SIGNS = str.maketrans("@=,*", "....")


def check(config: PipelineConfig) -> None:
    """Raises ConfigError where the configuration asks for MLflow and it is not installed, before hours are
    spent."""
    if config.mlflow is None:
        return
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"`mlflow` needs the package of that name. Received: {config.mlflow!r}, and no such package."
            " `pip install mlflow-skinny`, or leave the key out; `tfrec runs` needs nothing."
        ) from None


def log_run(config: PipelineConfig, summary: dict[str, Any]) -> str:
    """Logs a run that has ended.

    Args:
        config: of the run; its `mlflow` is a folder, or the address of a tracking server.
        summary: what `summary.json` holds.

    Returns:
        MLflow's id of the run.
    """
    # MLflow 3.7 and later refuse folders unless they are told that one is meant.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    assert config.mlflow is not None
    store = config.mlflow if "://" in config.mlflow else pathlib.Path(config.mlflow).absolute().as_uri()
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(config.name)
    number = experiment.experiment_id if experiment else client.create_experiment(config.name)
    run = client.create_run(number, run_name=summary["started"]).info.run_id
    for key, value in flat_settings(config).items():
        client.log_param(run, _name(key), str(value)[:LONGEST])
    for key, value in metrics(summary):
        client.log_metric(run, _name(key), value)
    for kind in ("retrieval", "ranking", "recommender", "classifier"):
        if (summary.get(kind) or {}).get("pushed"):
            client.set_tag(run, f"pushed.{kind}", summary[kind]["pushed"])
    client.log_artifact(run, str(config.home / "summary.json"))
    client.set_terminated(run)
    return run


def metrics(summary: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Figures of a summary, overall and by slice, as name and value."""
    yield "seconds", float(summary["seconds"])
    for kind in ("retrieval", "ranking", "recommender", "classifier"):
        for part, values in ((summary.get(kind) or {}).get("metrics") or {}).items():
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    yield f"{kind}/{part}/{name}", float(value)


def _name(key: str) -> str:
    """A name that MLflow takes: letters, digits, and few other signs."""
    return "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in "_-./ :") else "_"
        for sign in key.translate(SIGNS)
    )[:250]
