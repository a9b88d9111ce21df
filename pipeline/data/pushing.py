"""A new version of a served model, which appears whole or not at all: it is staged beside the others, then
renamed."""

from __future__ import annotations

import pathlib
import shutil
import time
from collections.abc import Mapping
from typing import Any

from pipeline.data.pushed_versions import versions
from tfrec_fusion import files

__all__ = ["push"]


def push(
    model: str, base: str, notes: Mapping[str, Any] | None = None, version: int | None = None
) -> tuple[str, str]:
    """Copies a SavedModel to `base/<version>` so that no reader ever sees a part of it, however many push at
    once.

    Args:
        model: folder of the SavedModel.
        base: the base path that a model server watches.
        notes: name → content of further JSON files in the version's `assets.extra`.
        version: the new version's number; one that is there already stays as it is. None for seconds since
            1970, or the one after the latest where that is taken.

    Returns:
        The version and its folder.

    Raises:
        OSError: where the disk is full or read-only; nothing is left in `base` but a folder that servers
            ignore.
    """
    folder = pathlib.Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    with files.folder_lock(folder) as held:
        if held:
            # Nobody else is pushing: what is unfinished was left by a push that was killed.
            files.clear_unfinished(folder)
            for stale in folder.glob(".staging-*"):
                shutil.rmtree(stale, ignore_errors=True)
        if version is None:
            version = max([int(time.time())] + [number + 1 for number in versions(folder)])
        elif version in versions(folder):
            return str(version), str(versions(folder)[version])
        target = folder / str(version)
        with files.whole_folder(target) as staging:
            # The same files under another name, where the disk can: a model is never changed once it is
            # written.
            shutil.copytree(model, staging, dirs_exist_ok=True, copy_function=files.share)
            for name, content in (notes or {}).items():
                (staging / "assets.extra").mkdir(exist_ok=True)
                (staging / "assets.extra" / name).unlink(missing_ok=True)  # shared with the other version
                files.write_json(staging / "assets.extra" / name, content)
    return str(version), str(target)
