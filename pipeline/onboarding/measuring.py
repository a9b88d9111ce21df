"""Counts that a run will meet, taken in seconds without Beam: unusable rows by reason, splits, cold items."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config.pipeline_config import SplitConfig
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.events import NO_CHOICE, read_events
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.splits import temporal_cutoffs, tie_order
from tfrec_fusion.datasets.tables import IdRule, Items, Tables, Users

MOST_ROWS = 3_000_000


@dataclasses.dataclass(frozen=True)
class Entities:
    """Items or users.

    Attributes:
        ids: in the form in which they are compared.
        rows: that were read.
        rejects: rows that cannot be used, by reason.
        table: the columns that are needed, as Arrow read them.
        id_column: the column of ids.
        rule: how ids are compared.
        whole: whether all rows were read.
    """

    ids: frozenset[str]
    rows: int
    rejects: dict[str, int]
    table: pa.Table
    id_column: str
    rule: IdRule = "as_written"
    whole: bool = True

    @property
    def reject_share(self) -> float:
        return sum(self.rejects.values()) / max(1, self.rows)

    @property
    def row_ids(self) -> pd.Series:
        """Of each row its id."""
        found = ids(cells.plain(self.table.column(self.id_column)), self.rule, f"column {self.id_column!r}")
        return pd.Series(found.to_numpy(zero_copy_only=False), dtype=object)

    def strings(self, column: str) -> pd.Series:
        """A column's cells as strings, None where there is nothing."""
        text = cells.strings(self.table.column(column), f"column {column!r}", join_lists=True)
        return pd.Series(text.to_numpy(zero_copy_only=False), dtype=object)


@dataclasses.dataclass(frozen=True)
class Choices:
    """Interactions.

    Attributes:
        frame: the usable ones: `user`, `item`, `time` (nanoseconds), `label` (NaN where nothing was said), `weight`.
        rows: events that were read.
        rejects: events that cannot be used, by reason.
        left_out: events that are no choices, as the configuration says, by reason.
        unknown_items: ids that the table of items does not hold.
        whole: whether all rows were read.
    """

    frame: pd.DataFrame
    rows: int
    rejects: dict[str, int]
    left_out: dict[str, int]
    unknown_items: frozenset[str]
    whole: bool = True

    @property
    def reject_share(self) -> float:
        return sum(self.rejects.values()) / max(1, self.rows)


@dataclasses.dataclass(frozen=True)
class Split:
    """How a split divides the interactions.

    Attributes:
        sizes: interactions in training, validation and test.
        known_people: of the test's people, the share with interactions in training.
        cold_items: of the test's interactions, the share whose item has none in training.
    """

    sizes: dict[str, int]
    known_people: float
    cold_items: float


class _Rows:
    """Counts rows that cannot be read."""

    def __init__(self) -> None:
        self.bad = 0

    def __call__(self, row: BadRow) -> None:
        self.bad += 1


def measure_entities(
    table: Items | Users, name: str, rule: IdRule = "as_written", most_rows: int = MOST_ROWS
) -> Entities:
    """Reads items or users as the run does.

    Args:
        table: the table.
        name: `items` or `users`, for messages.
        rule: how ids are compared.
        most_rows: reading stops there; `whole` says whether it did.

    Raises:
        ConfigError: where the files or columns are not there.
    """
    wanted, report = table.columns(), _Rows()
    batches: list[pa.RecordBatch] = []
    rows, whole = 0, True
    for file in find_files(table.path, name):
        for batch in read_batches(file, wanted, name, csv=table.csv, report=report):
            if rows >= most_rows:
                whole = False
                break
            batches.append(batch)
            rows += batch.num_rows
    joined = _table(batches, wanted)
    known = pd.Series(ids(joined.column(table.id).combine_chunks(), rule, f"column {table.id!r}").to_numpy(zero_copy_only=False))
    rejects = {"cannot be read": report.bad}
    if not table.distinct:
        rejects["missing id"] = int(known.isna().sum())
        rejects["duplicate id"] = int(known.dropna().duplicated().sum())
    return Entities(frozenset(known.dropna()), rows + report.bad, _some(rejects), joined, table.id, rule, whole)


def _table(batches: list[pa.RecordBatch], names: tuple[str, ...]) -> pa.Table:
    """Batches in one; a column whose type differs from batch to batch (of JSON) as strings."""
    columns = {}
    for name in names:
        parts = [cells.plain(batch.column(name)) for batch in batches]
        if len({part.type for part in parts}) > 1:
            parts = [cells.strings(part, f"column {name!r}", join_lists=True) for part in parts]
        columns[name] = pa.chunked_array(parts) if parts else pa.array([], pa.string())
    return pa.table(columns)


def measure_choices(tables: Tables, items: frozenset[str] | None, most_rows: int = MOST_ROWS) -> Choices:
    """Reads interactions as the run does.

    Args:
        tables: with nothing left open (`settling.settle`).
        items: ids of the known items, or None where every item is known.
        most_rows: reading stops there.

    Raises:
        ConfigError: where the files or columns are not there.
    """
    table, report = tables.interactions, _Rows()
    frames, rows, whole = [], 0, True
    reasons: collections.Counter[str] = collections.Counter()
    reader = InteractionRows(table)
    for file in find_files(table.path, "interactions"):
        for batch in reader.batches(file, report=report):
            if rows >= most_rows:
                whole = False
                break
            events = read_events(batch, table, tables.user_ids, tables.item_ids)
            rows += len(events.reason)
            reasons.update(events.reason[~events.good])
            frame = pd.DataFrame(
                {
                    "user": events.users.to_numpy(zero_copy_only=False),
                    "item": events.items.to_numpy(zero_copy_only=False),
                    "time": events.times,
                    "label": events.labels if events.labels is not None else math.nan,
                    "weight": events.weights,
                }
            )
            frames.append(frame[events.good])
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["user", "item", "time", "label", "weight"])
    rejects = {reason: count for reason, count in reasons.items() if not reason.startswith(NO_CHOICE)}
    left_out = {reason: count for reason, count in reasons.items() if reason.startswith(NO_CHOICE)}
    rejects["cannot be read"] = report.bad
    unknown: frozenset[str] = frozenset()
    if items is not None:
        known = frame.item.isin(items)
        rejects["unknown item"] = int((~known).sum())
        unknown = frozenset(frame.item[~known])
        frame = frame[known]
    repeated = frame.duplicated(["user", "item", "time"])
    rejects["duplicate"] = int(repeated.sum())
    return Choices(frame[~repeated], rows + report.bad, _some(rejects), left_out, unknown, whole)


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}


def measure_split(choices: pd.DataFrame, split: SplitConfig) -> Split:
    """What a split makes of the interactions, in the order of a run."""
    if split.method == "temporal":
        counts = choices.time.value_counts()
        validation, test = temporal_cutoffs(
            list(zip(counts.index.tolist(), counts.tolist(), strict=True)), split.validation, split.test
        )
        part = pd.Series("train", index=choices.index)
        part[choices.time >= validation] = "validation"
        part[choices.time >= test] = "test"
    else:
        ordered = in_run_order(choices)
        people = ordered.groupby("user", sort=False)
        last, size = people.cumcount(ascending=False), people.user.transform("size")
        part = pd.Series("train", index=ordered.index)
        part[(last == 1) & (size >= 3)] = "validation"
        part[(last == 0) & (size >= 3)] = "test"
        part = part.reindex(choices.index)
    train, held_out = choices[part == "train"], choices[part == "test"]
    people = held_out.user.drop_duplicates()
    return Split(
        {name: int((part == name).sum()) for name in ("train", "validation", "test")},
        float(people.isin(set(train.user)).mean()) if len(people) else 0.0,
        float((~held_out.item.isin(set(train.item))).mean()) if len(held_out) else 0.0,
    )


def in_run_order(choices: pd.DataFrame) -> pd.DataFrame:
    """Interactions by time, those of one user and moment in the fixed shuffle of `splits.in_order`."""
    tied = choices.duplicated(["user", "time"], keep=False).to_numpy()
    order = np.full(len(choices), b"", dtype=object)
    order[tied] = [tie_order(user, item) for user, item in zip(choices.user[tied], choices.item[tied], strict=True)]
    return choices.assign(tie=order).sort_values(["time", "tie"], kind="stable").drop(columns="tie")
