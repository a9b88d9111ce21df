"""Counts that a run will meet, taken in seconds without Beam: unusable rows by reason, splits, cold items."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import SplitConfig
from tfrec_fusion.datasets import cells, markup
from tfrec_fusion.datasets.events import NO_CHOICE, EventColumns, read_events
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.settling import settle_interactions, settle_items
from tfrec_fusion.datasets.splits import SPLITS, Event, cutoffs_of, divide, dividing_times, in_order
from tfrec_fusion.datasets.tables import IdRule, Interactions, Items, Users

MOST_ROWS = 3_000_000
MOST_UNKNOWN = 100_000


@dataclasses.dataclass(frozen=True)
class Entities:
    """Items or users.

    Attributes:
        ids: in the form by which tables are matched.
        rows: rows read.
        rejects: unusable rows by reason.
        filled: of each column, the share of rows with a value.
        frame: the cells as a run reads them, strings or lists.
        whole: whether that is all.
        bad_rows: some of the rows that could not be read, with file and line.
        notes: how the files were read, where the configuration leaves that open.
        row_ids: of each row of `frame` its id.
    """

    ids: frozenset[str]
    rows: int
    rejects: dict[str, int]
    filled: dict[str, float]
    frame: pd.DataFrame
    whole: bool = True
    bad_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    row_ids: pd.Series = dataclasses.field(default_factory=lambda: pd.Series(dtype=object))

    def texts(self, column: str) -> pd.Series:
        """A column's cells as strings, of a list its values with spaces between; None where there is
        nothing."""
        values = self.frame[column]
        return values.map(
            lambda value: " ".join(map(str, value)) if isinstance(value, (list, np.ndarray)) else value
        )

    @property
    def reject_share(self) -> float:
        return sum(self.rejects.values()) / max(1, self.rows)


@dataclasses.dataclass(frozen=True)
class Choices:
    """Interactions.

    Attributes:
        frame: usable ones as columns `user`, `item`, `time` (nanoseconds since 1970), `label` (NaN where
            nothing is given), `weight`.
        rows: rows read; of lists of items, their values.
        rejects: unusable rows by reason.
        whole: whether that is all.
        left_out: rows by reason that the configuration says are no choices.
        bad_rows: some of the rows that could not be read, with file and line.
        notes: how the files were read, where the configuration leaves that open.
        time_format: how times were read; None without times.
        unknown_items: some of the ids that the table of items does not hold.
    """

    frame: pd.DataFrame
    rows: int
    rejects: dict[str, int]
    whole: bool = True
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    bad_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    time_format: str | None = None
    unknown_items: frozenset[str] = frozenset()

    @property
    def reject_share(self) -> float:
        return sum(self.rejects.values()) / max(1, self.rows)

    @property
    def period(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """First and last time, in UTC; None without times."""
        if self.time_format is None or self.frame.empty:
            return None
        first, last = pd.to_datetime([self.frame.time.min(), self.frame.time.max()], utc=True)
        return first, last


@dataclasses.dataclass(frozen=True)
class Split:
    """How a split divides the interactions.

    Attributes:
        sizes: interactions in training, validation and test.
        known_users: of the test's users, the share with interactions in training.
        cold_items: of the test's interactions, the share whose item has none in training.
        repeats: of what is held out of users with a past, the share that they had chosen before.
    """

    sizes: dict[str, int]
    known_users: float
    cold_items: float
    repeats: float = 0.0


def measure_entities(
    table: Items | Users, name: str, most_rows: int = MOST_ROWS, rule: IdRule = "as_written"
) -> Entities:
    """Reads items or users as the run does.

    Args:
        table: the table.
        name: `items` or `users`, for messages.
        most_rows: reading stops there; `whole` says whether it did.
        rule: how ids are written, as in `Tables`.

    Raises:
        ConfigError: where the files or columns are not there, or a column cannot be what it is named as.
    """
    notes: tuple[str, ...] = ()
    if isinstance(table, Items):
        table, notes = settle_items(table)
    columns, bad = table.columns(), list[BadRow]()
    frames, values, rows, whole = [], [], 0, True
    vectors: collections.Counter[str] = collections.Counter()
    for file in find_files(table.path, name):
        for batch in read_batches(file, columns, name, csv=table.csv, report=bad.append):
            if rows >= most_rows:
                whole = False
                break
            values.append(ids(batch.column(table.id), rule, f"column {table.id!r} of the {name} table"))
            frames.append(_frame(batch, table, name))
            for column in table.vectors if isinstance(table, Items) else ():
                _, broken = cells.vectors(batch.column(column), f"column {column!r} of the {name} table")
                vectors[f"a vector of {column!r} that holds NaN, an infinity or no number"] += int(
                    broken.sum()
                )
            rows += batch.num_rows
    frame = (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame({name: [] for name in columns}, dtype=object)
    )
    keys = pd.Series([key for part in values for key in part.to_pylist()], dtype=object)
    rejects = collections.Counter(row.reason for row in bad)
    if not table.distinct:
        rejects["missing id"] = int(keys.isna().sum())
        rejects["duplicate id"] = int(keys.dropna().duplicated().sum())
        rejects.update(vectors)
    filled = {name: float(frame[name].notna().mean()) for name in columns}
    return Entities(
        frozenset(keys.dropna()),
        len(frame) + len(bad),
        _some(rejects),
        filled,
        frame,
        whole,
        _shown(bad),
        notes,
        keys,
    )


def _frame(batch: pa.RecordBatch, table: Items | Users, name: str) -> pd.DataFrame:
    """The cells as a run reads them: strings, and lists where the file has lists."""
    columns = {}
    texts = (table.title, *table.text) if isinstance(table, Items) else ()
    for column in batch.schema.names:
        array = cells.plain(batch.column(column))
        if not cells.is_list(array.type) or (column in texts and column not in getattr(table, "lists", ())):
            array = cells.strings(array, f"column {column!r} of the {name} table", join_lists=column in texts)
            if column in texts and getattr(table, "clean_html", False):
                array = markup.cleaned(array)
        columns[column] = array.to_pandas()
    return pd.DataFrame(columns)


def _shown(bad: list[BadRow]) -> tuple[str, ...]:
    """The first rows of each kind that could not be read, with file and line."""
    kinds: dict[str, list[str]] = {}
    for row in bad:
        kinds.setdefault(row.reason, []).append(str(row))
    return tuple(text for texts in kinds.values() for text in texts[:3])


def measure_choices(
    table: Interactions,
    items: frozenset[str] | None,
    most_rows: int = MOST_ROWS,
    user_ids: IdRule = "as_written",
    item_ids: IdRule = "as_written",
) -> Choices:
    """Reads interactions as the run does.

    Args:
        table: the table.
        items: ids of the known items, or None where every item is known.
        most_rows: reading stops there.
        user_ids, item_ids: how ids are written, as in `Tables`.

    Raises:
        ConfigError: where the files or columns are not there, or times cannot be told.
    """
    table, notes = settle_interactions(table)
    frames, rows, whole, bad = [], 0, True, list[BadRow]()
    rejects: collections.Counter[str] = collections.Counter()
    reader = InteractionRows(table)
    for file in find_files(table.path, "interactions"):
        for batch in reader.batches(file, bad.append):
            if rows >= most_rows:
                whole = False
                break
            events = read_events(batch, table, user_ids, item_ids)
            rows += len(events.rows)
            rejects.update(events.reason[~events.good])
            frames.append(_events_frame(events))
    frame = (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=["user", "item", "time", "label", "weight"])
    )
    left_out = {reason: rejects.pop(reason) for reason in list(rejects) if reason.startswith(NO_CHOICE)}
    rejects.update(row.reason for row in bad)
    unknown: frozenset[str] = frozenset()
    if items is not None:
        known = frame.item.isin(items)
        unknown = frozenset(frame.item[~known].head(MOST_UNKNOWN))
        rejects["unknown item"] = int((~known).sum())
        frame = frame[known]
    repeated = frame.duplicated(["user", "item", "time"])
    rejects["duplicate"] = int(repeated.sum())
    return Choices(
        frame[~repeated],
        rows + len(bad),
        _some(rejects),
        whole,
        left_out,
        _shown(bad),
        notes,
        table.time_format,
        unknown,
    )


def _events_frame(events: EventColumns) -> pd.DataFrame:
    """The usable rows of a batch."""
    frame = pd.DataFrame(
        {"user": events.users.to_pandas(), "item": events.items.to_pandas(), "time": events.times}
    )
    frame["label"] = events.labels if events.labels is not None else math.nan
    frame["weight"] = events.weights
    for name, values in events.further_labels.items():
        frame[f"labels.{name}"] = values
    return frame[events.good]


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}


def measure_split(choices: pd.DataFrame, split: SplitConfig) -> Split:
    """What a split makes of the interactions, by the very rules of a run (`tfrec_fusion.datasets.splits`)."""
    choices = choices.drop_duplicates(["user", "item", "time"])
    codes, users = pd.factorize(choices["user"])
    order = np.lexsort((choices["time"].to_numpy(), codes))
    codes, ordered = codes[order], choices.iloc[order]
    times, items = ordered["time"].tolist(), ordered["item"].tolist()
    ends = np.cumsum(np.bincount(codes, minlength=len(users))).tolist()
    parts = list(zip([0, *ends[:-1]], ends, strict=True)) if len(users) else []
    # Only where moments are shared does the order take more than sorting by time.
    shared = np.flatnonzero((codes[1:] == codes[:-1]) & (np.diff(ordered["time"].to_numpy()) == 0))
    for code in np.unique(codes[shared]).tolist():
        own = slice(*parts[code])
        kept, _ = in_order(users[code], list(map(Event, times[own], items[own])))
        items[own] = [event.item for event in kept]
    cutoffs = None
    if split.by_time:
        dividing = (dividing_times(times[start:end], split.method) for start, end in parts)
        cutoffs = cutoffs_of(itertools.chain.from_iterable(dividing), split.validation, split.test)
    divisions = [divide(times[start:end], split.method, cutoffs) for start, end in parts]

    def chosen(part: int) -> list[str]:
        return [
            items[start + position]
            for (start, _), division in zip(parts, divisions, strict=True)
            for position in division[part]
        ]

    trained, validation, tested = map(chosen, range(len(SPLITS)))
    known = set(trained)
    # Whose choices are in training, or of a session those before the one that is to be found.
    pasts = [division.test.start > 0 if split.method == "sessions" else len(division.train) > 0
             for division in divisions if division.test]  # fmt: skip
    again: list[bool] = []
    for (start, _), division in zip(parts, divisions, strict=True):
        for held in (division.validation, division.test):
            if held and held.start:
                met = set(items[start : start + held.start])
                again += [items[start + position] in met for position in held]
    return Split(
        {"train": len(trained), "validation": len(validation), "test": len(tested)},
        sum(pasts) / max(1, len(pasts)),
        sum(item not in known for item in tested) / max(1, len(tested)),
        sum(again) / max(1, len(again)),
    )
