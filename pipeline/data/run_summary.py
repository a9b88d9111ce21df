"""Summaries of runs: `summary.json`, the latest, and `summaries/`, one a run."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from tfrec_fusion.config import ConfigError

LOCK = "run.lock"
"""In a configuration's home: whoever holds it is the only one to write there."""
DRIFT = "drift.json"
"""There too: the drift as it was measured last."""
START = "warm_start.json"
"""In a trainer's `model_run`: what the model started from, where that was trained on other domains."""


def read_summary(home: pathlib.Path) -> dict[str, Any] | None:
    """What the latest run under a folder found; None where there was no run.

    Raises:
        ConfigError: for a file that is not whole.
    """
    path = home / "summary.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"{path} must be what a run wrote. Received: {error}. Run `tfrec run` again; what did not change"
            " is not done again."
        ) from error


def read_summaries(home: pathlib.Path) -> list[dict[str, Any]]:
    """Every run so far, oldest first; a file that is not whole is passed over."""
    summaries = []
    for path in sorted((home / "summaries").glob("*.json")):
        try:
            summaries.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            continue
    return summaries
