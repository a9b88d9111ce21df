"""Lines of the log into Parquet by day: each list and each event once, feedback beside what it is about.

It may be run as often as one likes, on logs that grow, are cut in the middle, repeat themselves or come out
of order: what is there already is not added again. Feedback is joined by the answer's id and never by time,
so that clocks may differ and events may be days late.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.impressions.contract import KINDS, VERSION, Feedback, FeedbackError, Shown
from tfrec_fusion.impressions.log import LOG_FILE
from tfrec_fusion.impressions.schema import EVENTS, IMPRESSIONS, days_of, missing_days, partition

__all__ = ["STATE", "Collected", "collect", "write_table"]

STATE = "collected.json"
_LOCK = ".collect.lock"
_AHEAD = datetime.timedelta(days=1)
_MICROSECONDS = 1_000_000
_LONGEST_LINE = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Collected:
    """What a collection found.

    Attributes:
        shown: items shown in the table, and how many of them are new.
        events: feedback in the table, likewise.
        new_shown, new_events: of these, the new ones.
        unmatched: events whose item was not shown, as far as is known.
        days: that were written.
        missing: days between the first and the last of which nothing was shown.
        faults: reason → lines of the log that could not be used.
    """

    shown: int
    events: int
    new_shown: int
    new_events: int
    unmatched: int
    days: tuple[str, ...]
    missing: tuple[str, ...]
    faults: dict[str, int]


def collect(log: str, folder: str, *, late_days: int = 30, now: float | None = None) -> Collected:
    """Brings the table in a folder up to what a log says.

    Args:
        log: the folder that an `ImpressionLog` writes, or a glob of such folders (one a server).
        folder: receives `impressions/day=…` and `feedback/day=…`. A day's file appears whole or not at all.
        late_days: feedback that comes later than so many days after its item was shown is kept, and changes
            the table no more.
        now: seconds since 1970; what is more than a day ahead of it is a fault. The machine's where None.

    Raises:
        ConfigError: there is no log.
        AtWork: another process collects into the same folder.
    """
    if late_days < 0:
        raise ConfigError(f"`late_days` must be at least 0. Received: {late_days}. The usual is 30.")
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.lock(target / _LOCK, "tfrec feedback collect"):
        for left in (*target.glob("impressions/day=*"), *target.glob("feedback/day=*")):
            files.clear_unfinished(left)
        return _Collection(target, late_days, now).run(_log_files(log))


def _log_files(log: str) -> list[pathlib.Path]:
    path = pathlib.Path(log).expanduser()
    folders = [path] if path.is_dir() else sorted(pathlib.Path().glob(log) if not path.is_absolute()
                                                  else path.parent.glob(path.name))  # fmt: skip
    found = [entry for one in folders if one.is_dir() for entry in one.iterdir()]
    found = sorted(entry for entry in found if LOG_FILE.fullmatch(entry.name) and not entry.is_symlink())
    if not found:
        raise ConfigError(
            "The log must be a folder with files such as shown-2026-11-30.jsonl. Received:"
            f" {log!r}, which has none. `tfrec serve --impressions FOLDER` writes them."
        )
    return found


class _Collection:
    def __init__(self, target: pathlib.Path, late_days: int, now: float | None):
        moment = datetime.datetime.now(datetime.timezone.utc).timestamp() if now is None else now
        self.target, self.late_days = target, late_days
        self.latest = int((moment + _AHEAD.total_seconds()) * _MICROSECONDS)
        self.faults: collections.Counter[str] = collections.Counter()

    def run(self, sources: Sequence[pathlib.Path]) -> Collected:
        state = self._state()
        signs = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in sources}
        changed = [file for file in sources if state.get(str(file)) != signs[str(file)]]
        shown: dict[str, list[Shown]] = {}
        events: dict[str, list[Feedback]] = {}
        for file in changed:
            for line in self._lines(file):
                if isinstance(line, Shown):
                    shown.setdefault(_day(line.time), []).append(line)
                else:
                    events.setdefault(_day(line.time), []).append(line)
        new_events, asked = self._keep_events(events)
        days = {day for day in days_of(self.target, "impressions") if self._answers(day, asked)} | set(shown)
        new_shown = sum(self._write_day(day, shown.get(day, [])) for day in sorted(days))
        # Last: a collection that is killed before reads these files again, and adds nothing twice.
        files.write_json(self.target / STATE, {**state, **signs})
        return self._outcome(new_shown, new_events, sorted(days))

    def _state(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.target / STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _lines(self, file: pathlib.Path) -> Iterator[Shown | Feedback]:
        kind = file.name.partition("-")[0]
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            while text := stream.readline(_LONGEST_LINE):
                if not text.strip():
                    continue
                try:
                    line = json.loads(text)
                    if not isinstance(line, dict):
                        raise ValueError
                except (ValueError, RecursionError):
                    self.faults["no whole line"] += 1
                    continue
                if line.get("v") != VERSION:
                    self.faults[f"of version {str(line.get('v'))[:20]}, not {VERSION}"] += 1
                    continue
                try:
                    value = Shown.read(line) if kind == "shown" else Feedback.of(line)
                except (FeedbackError, TypeError) as error:
                    self.faults[str(error).split(" Received")[0][:100]] += 1
                    continue
                if value.time > self.latest:
                    self.faults["more than a day ahead of this machine's clock"] += 1
                    continue
                yield value

    def _keep_events(self, events: dict[str, list[Feedback]]) -> tuple[int, set[str]]:
        """Adds to the events' table; how many are new, and the answers that they are about."""
        count, asked = 0, set()
        for day, rows in events.items():
            before = _read(partition(self.target, "feedback", day), EVENTS)
            made = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], EVENTS)
            both = _once(pa.concat_tables([before, made]), ["event_id"])
            if len(both) > len(before):
                asked |= set(both.slice(len(before)).column("request_id").to_pylist())
                count += len(both) - len(before)
                write_table(partition(self.target, "feedback", day), both)
        return count, asked

    def _answers(self, day: str, asked: set[str]) -> bool:
        """Whether something that a day showed has new feedback."""
        if not asked:
            return False
        column = pq.read_table(partition(self.target, "impressions", day), columns=["request_id"])
        return not asked.isdisjoint(column.column(0).to_pylist())

    def _write_day(self, day: str, shown: list[Shown]) -> int:
        path = partition(self.target, "impressions", day)
        before = _read(path, IMPRESSIONS)
        made = _table(shown)
        both = _once(pa.concat_tables([before, made]), ["request_id", "item"])
        rewards = self._rewards(day, set(both.column("request_id").to_pylist()))
        keys = both.select(["request_id", "item"]).to_pandas()
        joined = keys.merge(rewards, "left", ["request_id", "item"]) if len(rewards) else keys
        for kind in KINDS:
            values = joined[kind].fillna(0.0) if kind in joined else pd.Series(0.0, index=keys.index)
            both = both.set_column(both.schema.get_field_index(kind), IMPRESSIONS.field(kind),
                                   pa.array(values.to_numpy(), pa.float64()))  # fmt: skip
        order = [(name, "ascending") for name in ("time", "request_id", "position")]
        write_table(path, both.sort_by(order))
        return len(both) - len(before)

    def _rewards(self, day: str, asked: set[str]) -> pd.DataFrame:
        """Sums of values by item shown and kind, of events from the day before (clocks) to `late_days`
        after."""
        first = datetime.date.fromisoformat(day)
        low, high = str(first - _AHEAD), str(first + datetime.timedelta(self.late_days))
        parts = []
        for other in days_of(self.target, "feedback"):
            if low <= other <= high:
                table = _read(partition(self.target, "feedback", other), EVENTS).to_pandas()
                parts.append(table[table.request_id.isin(asked)])
        events = pd.concat(parts) if parts else pd.DataFrame()
        if not len(events):
            return pd.DataFrame()
        events = events.drop_duplicates("event_id")
        table = events.pivot_table("value", ["request_id", "item"], "kind", "sum", fill_value=0.0)
        return table.reset_index()

    def _outcome(self, new_shown: int, new_events: int, days: list[str]) -> Collected:
        shown_days = days_of(self.target, "impressions")
        rows, seen = 0, set()
        for day in shown_days:
            table = pq.read_table(partition(self.target, "impressions", day), columns=["request_id", "item"])
            rows += len(table)
            seen |= set(zip(*table.to_pydict().values(), strict=True))
        events = unmatched = 0
        for day in days_of(self.target, "feedback"):
            table = pq.read_table(partition(self.target, "feedback", day), columns=["request_id", "item"])
            events += len(table)
            unmatched += sum(key not in seen for key in zip(*table.to_pydict().values(), strict=True))
        return Collected(
            rows, events, new_shown, new_events, unmatched, tuple(days), tuple(missing_days(shown_days)),
            dict(self.faults),
        )  # fmt: skip


def _table(shown: Sequence[Shown]) -> pa.Table:
    rows = [
        {
            "request_id": one.request_id,
            "time": one.time,
            "model": one.model,
            "version": one.version,
            "arm": one.arms[index] if one.arms else one.arm,
            "user": one.user,
            "item": item,
            "position": index + 1,
            "propensity": one.propensities[index] if one.propensities else None if one.arms else 1.0,
            "score": one.scores[index] if one.scores else None,
            **dict.fromkeys(KINDS, 0.0),
        }
        for one in shown
        for index, item in enumerate(one.items)
    ]
    return pa.Table.from_pylist(rows, IMPRESSIONS)


def _day(moment: int) -> str:
    return str(datetime.datetime.fromtimestamp(moment / _MICROSECONDS, datetime.timezone.utc).date())


def _once(table: pa.Table, key: list[str]) -> pa.Table:
    """Rows whose key did not come before."""
    repeated = table.select(key).to_pandas().duplicated().to_numpy()
    return table.filter(pa.array(~repeated))


def _read(path: pathlib.Path, schema: pa.Schema) -> pa.Table:
    if not path.is_file():
        return schema.empty_table()
    try:
        with pq.ParquetFile(path) as file:
            return file.read().select(schema.names).cast(schema)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise ConfigError(
            f"{path} must be a table that `tfrec feedback collect` wrote. Received: {error}. Remove the file"
            f" and {STATE} beside it, and collect again."
        ) from error


def write_table(path: pathlib.Path, table: pa.Table) -> None:
    """Writes a file of a table, its owner's alone, whole or not at all."""
    with files.whole_file(path, binary=True) as stream:
        os.fchmod(stream.fileno(), 0o600)
        pq.write_table(table, stream, compression="zstd")
