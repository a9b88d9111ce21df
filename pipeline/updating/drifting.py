"""`tfrec drift`: how far data, features, scores and quality have moved since the pushed model was trained."""

from __future__ import annotations

import datetime
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.run_summary import DRIFT
from pipeline.updating.bases import in_memory_settings, origin
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.in_memory.drift import Drift, measure


def measure_drift(
    config: PipelineConfig,
    *,
    periods: int = 5,
    max_distance: float | None = None,
    max_drop: float | None = None,
) -> tuple[Drift, list[str]]:
    """Measures the drift and writes it to `drift.json`, from where the report shows it.

    Args:
        config: of the runs; its tables are read as they are now.
        periods: how many, of equal length.
        max_distance, max_drop: as in `Drift.reasons`.

    Returns:
        The drift, and what of it is more than the arguments allow.

    Raises:
        ConfigError: where there is no pushed model, nothing newer than it, or an argument out of range.
    """
    check_limits(max_distance, max_drop)
    if not config.home.is_dir():
        raise ConfigError(f"There is no run in {config.home}. Run `tfrec run` first.")
    found = measure(
        origin(config).base,
        tables_of(config),
        in_memory_settings(config),
        periods=periods,
        vectors=str(config.home / "text_vectors"),
    )
    reasons = found.reasons(max_distance, max_drop)
    content: dict[str, Any] = {
        "measured": datetime.datetime.now().isoformat(timespec="seconds"),
        **found.as_mapping(),
        "reasons": reasons,
    }
    files.write_json(config.home / DRIFT, content)
    return found, reasons


def check_limits(max_distance: float | None, max_drop: float | None) -> None:
    """Raises ConfigError for limits out of range."""
    for flag, value in (("--max-distance", max_distance), ("--max-drop", max_drop)):
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"`{flag}` must be from 0 to 1. Received: {value:g}.")
