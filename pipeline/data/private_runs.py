"""File that private training leaves in its `model_run`, and what several of them spent together."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

PRIVACY = "privacy.json"
"""What `tfrec_fusion.training.privacy.report.PrivacyReport.to_json` gives."""


def read_privacy(model_runs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What each private model spent, and `total` of all; empty where none was private.

    Args:
        model_runs: the trainer's `model_run` by the model's name.
    """
    paths = {kind: pathlib.Path(folder, PRIVACY) for kind, folder in model_runs.items()}
    found = {kind: json.loads(path.read_text("utf-8")) for kind, path in paths.items() if path.is_file()}
    if not found:
        return {}
    # Imported here: nobody else who reads a summary needs it.
    from tfrec_fusion.training.privacy.report import PrivacyReport, as_json

    return as_json({kind: PrivacyReport.from_json(values) for kind, values in found.items()})
