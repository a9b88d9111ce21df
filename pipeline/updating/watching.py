"""`tfrec watch`: looks at the tables, and updates where enough came or the data moved far enough."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data.run_summary import LOCK, read_summary
from pipeline.updating import pending
from pipeline.updating.drifting import check_limits, measure_drift
from pipeline.updating.pending import REPORT
from pipeline.updating.updates import run_update
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import split_users
from tfrec_fusion.datasets.storage import is_remote
from tfrec_fusion.features.whole_tables import read_choices, read_entities
from tfrec_fusion.in_memory.updating import NothingNew

STATE = "watch.json"


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to update: any of these is enough.

    Attributes:
        min_rows: so many interactions more than the last run or update read.
        min_share: the same as a share of what it read.
        max_distance, max_drop: of the newest period, as in `Drift.reasons`; None does not measure drift.
    """

    min_rows: int | None = None
    min_share: float | None = 0.01
    max_distance: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        check_limits(self.max_distance, self.max_drop)
        if self.min_rows is not None and self.min_rows < 1:
            raise ConfigError(f"`--min-rows` must be at least 1. Received: {self.min_rows}.")
        if self.min_share is not None and not self.min_share > 0:
            raise ConfigError(f"`--min-share` must be above 0. Received: {self.min_share:g}.")


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        before: interactions that the last run or update read.
        rows: that there are now; None where no file has changed since the last look.
        reasons: for an update; empty for none.
    """

    before: int
    rows: int | None
    reasons: tuple[str, ...]

    @property
    def new_rows(self) -> int:
        """How many more there are."""
        return 0 if self.rows is None else self.rows - self.before


def look(config: PipelineConfig, limits: Limits) -> Look:
    """Looks at the tables. Rows are counted as a run counts them: the same row again is none, one that cannot
    be used neither. Where no file has changed since a look that found no reason, none is read.

    Args:
        config: of the runs.
        limits: when to update.

    Raises:
        ConfigError: where there was no run, or tables cannot be read.
    """
    seen, before = _files(config), _rows_before(config)
    state = _state(config)
    if seen is not None and state == _content(limits, seen, before):
        return Look(before, None, ())
    rows = count_rows(config)
    new, reasons = rows - before, []
    if limits.min_rows is not None and new >= limits.min_rows:
        reasons.append(f"{new:,} new interactions, at least {limits.min_rows:,}")
    if limits.min_share is not None and new >= max(1.0, limits.min_share * before):
        reasons.append(f"{new:,} new interactions, at least {limits.min_share:.2%} of {before:,}")
    if not reasons and (limits.max_distance is not None or limits.max_drop is not None) and new > 0:
        _, drifted = measure_drift(config, max_distance=limits.max_distance, max_drop=limits.max_drop)
        reasons += drifted
    if not reasons:
        _remember(config, limits, seen, before)
    return Look(before, rows, tuple(reasons))


def watch(
    config: PipelineConfig,
    limits: Limits,
    *,
    replay: float = 0.2,
    epochs: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Look, dict[str, Any] | None]:
    """Looks, and updates where there is a reason.

    Args:
        config, limits: as in `look`.
        replay, epochs, say: as in `run_update`.

    Returns:
        What was seen, and the update's report; None without an update.
    """
    if pending.folder_of(config).is_dir():
        with files.lock(config.home / LOCK, "tfrec watch"):
            pending.finish(config)
    seen, found = _files(config), look(config, limits)
    if found.rows is None:
        say("no file has changed since the last look")
    else:
        say(f"{found.rows:,} interactions, {found.new_rows:+,} since the last run or update")
    if not found.reasons:
        return found, None
    for reason in found.reasons:
        say(f"updates: {reason}")
    try:
        return found, run_update(config, replay=replay, epochs=epochs, say=say)
    except NothingNew:
        say("what is new lies in the held-out windows alone; it is learned when these have moved on")
        _remember(config, limits, seen, found.before)
        return found, None


def count_rows(config: PipelineConfig) -> int:
    """Interactions of all splits, as a run would have them now."""
    tables = settle(tables_of(config)).tables
    rejects: collections.Counter[tuple[str, str]] = collections.Counter()
    items = read_entities(tables.items, "items", tables, rejects)
    events = read_choices(tables, items, rejects)
    return sum(map(len, split_users(events, config.split).values()))


def _rows_before(config: PipelineConfig) -> int:
    """Interactions that the last run or update read, whichever was later."""
    summary = read_summary(config.home)
    if summary is None:
        raise ConfigError(f"There is no run in {config.home}. Run `tfrec run` first.")
    splits = summary["data"]["splits"]
    rows = sum(count for name, count in splits.items() if name.startswith("interactions/"))
    try:
        report = json.loads((config.home / REPORT).read_text(encoding="utf-8"))
        if str(report["started"]) > summary["started"]:
            return int(report["rows"])
    except (OSError, ValueError, KeyError):
        pass  # no update, or one of an earlier release: the run counts
    return rows


def _files(config: PipelineConfig) -> list[list[Any]] | None:
    """Path, size and time of change of each file of interactions and impressions; None where something else
    than this machine's disk holds them."""
    tables = tables_of(config)
    found: list[list[Any]] = []
    for name, table in (("interactions", tables.interactions), ("impressions", tables.impressions)):
        for file in find_files(table.path, name) if table else ():
            if is_remote(file):
                return None
            status = os.stat(file)
            found.append([str(pathlib.Path(file)), status.st_size, status.st_mtime_ns])
    return found


def _content(limits: Limits, seen: list[list[Any]] | None, before: int) -> dict[str, Any]:
    return {"files": seen, "before": before, "limits": dataclasses.asdict(limits)}


def _remember(config: PipelineConfig, limits: Limits, seen: list[list[Any]] | None, before: int) -> None:
    """That there is nothing to do as long as no file changes."""
    files.write_json(config.home / STATE, _content(limits, seen, before))


def _state(config: PipelineConfig) -> dict[str, Any]:
    try:
        return json.loads((config.home / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
