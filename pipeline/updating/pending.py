"""Push of an update's models together: a kill leaves it either not begun or to be finished.

Everything that the update brings is written first: the models, the state that the next update starts from,
the report, and last `push.json`, which numbers the versions. What comes then are renames that may be done
again. A kill before `push.json` leaves the earlier models in charge; after it, whoever holds the lock next
finishes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.data.pushed_versions import versions
from pipeline.data.pushing import push
from pipeline.updating.bases import STATE
from tfrec_fusion import files

REPORT = "update.json"
REPORTS = "updates"
_PLAN = "push.json"


def folder_of(config: PipelineConfig) -> pathlib.Path:
    """Where an update writes what it would push; `KIND/1` for a model, `STATE` for the state."""
    return config.home / ".update-push"


@contextlib.contextmanager
def preparing(config: PipelineConfig) -> Iterator[pathlib.Path]:
    """The folder, empty; it goes where something goes wrong."""
    folder = folder_of(config)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def seal(config: PipelineConfig, kinds: Sequence[str], report: dict[str, Any], name: str) -> None:
    """Decides that all is pushed.

    Args:
        config: of the runs.
        kinds: of the models, which are there.
        report: what `update.json` will hold, but for `pushed` and `versions`.
        name: the report's file among those of all updates.
    """
    numbers = {
        kind: max(int(time.time()), *(number + 1 for number in (0, *versions(config.push_folder / kind))))
        for kind in kinds
    }
    folders = {kind: str(config.push_folder / kind / str(number)) for kind, number in numbers.items()}
    written = {**report, "pushed": folders["retrieval"], "versions": folders}
    plan = {"versions": numbers, "report": written, "name": name}
    files.write_json(folder_of(config) / _PLAN, plan)


def finish(config: PipelineConfig) -> dict[str, Any] | None:
    """Pushes what was sealed, and removes what was not; the lock of the runs must be held.

    Returns:
        The report; None where nothing was sealed, or where something newer was pushed since.

    Raises:
        OSError: where the disk is full or read-only; the next call goes on.
    """
    folder = folder_of(config)
    try:
        plan = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    newer = any(
        number > version
        for kind, version in plan["versions"].items()
        for number in versions(config.push_folder / kind)
    )
    if not newer:
        for kind, version in plan["versions"].items():
            push(str(folder / kind / "1"), str(config.push_folder / kind), version=version)
        if (folder / STATE).is_dir():
            shutil.rmtree(config.home / STATE, ignore_errors=True)
            os.rename(folder / STATE, config.home / STATE)
        files.write_json(config.home / REPORTS / plan["name"], plan["report"])
        files.write_json(config.home / REPORT, plan["report"])
    (folder / _PLAN).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return None if newer else plan["report"]
