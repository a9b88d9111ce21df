"""Versions under a model server's base path, and which of them are baselines that fill in for a model."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from tfrec_fusion import files

# Says of a SavedModel that it is a baseline: what was blessed never gives way to one.
MARK = "assets.extra/baseline.json"
# Says of a version that it is an earlier one, pushed again by `tfrec rollback`.
ROLLED_BACK = "rollback.json"


def versions(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The version folders under a base path by number, oldest first; other names are ignored, as TF Serving
    does."""
    entries = folder.iterdir() if folder.is_dir() else ()
    folders = {files.version_of(entry.name): entry for entry in entries}
    return {number: folders[number] for number in sorted(key for key in folders if key is not None)}


def latest_version(folder: pathlib.Path) -> pathlib.Path | None:
    """The newest version that holds a model, or None."""
    folder_of_version = reversed(versions(folder).values())
    return next((entry for entry in folder_of_version if (entry / "saved_model.pb").is_file()), None)


def baseline_of(model: pathlib.Path) -> dict[str, Any] | None:
    """What a SavedModel says of the baseline that it is (`baseline`, `k`, `ndcg`, `model_ndcg`); None for a
    trained model."""
    mark = model / MARK
    return json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None


def origin_of(model: pathlib.Path) -> int | None:
    """The version whose files a version has; its own number unless `tfrec rollback` pushed it."""
    mark = model / "assets.extra" / ROLLED_BACK
    if mark.is_file():
        return int(json.loads(mark.read_text(encoding="utf-8"))["version"])
    return files.version_of(model.name)


def serves_a_trained_model(folder: pathlib.Path) -> bool:
    """Whether any version under a base path is no baseline."""
    return any(baseline_of(version) is None for version in versions(folder).values())
