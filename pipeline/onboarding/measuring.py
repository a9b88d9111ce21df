"""Counts that a run will meet, taken in seconds without Beam: unusable rows by reason, splits, cold items."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import pandas as pd

from pipeline.config.pipeline_config import SplitConfig
from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.splits import Event, cutoffs_of, held_out_starts, in_order
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users, find_files, read_batches
from tfrec_fusion.datasets.values import clean_ids

MOST_ROWS = 3_000_000


@dataclasses.dataclass(frozen=True)
class Entities:
    """Items or people: their ids, rows read, rejects by reason, and of each column the share of rows with a value."""

    ids: frozenset[str]
    rows: int
    rejects: dict[str, int]
    filled: dict[str, float]
    frame: pd.DataFrame
    whole: bool = True

    @property
    def reject_share(self) -> float:
        return sum(self.rejects.values()) / max(1, self.rows)


@dataclasses.dataclass(frozen=True)
class Choices:
    """Interactions: usable ones as columns `user`, `item`, `time`, `label`; rows read; rejects by reason."""

    frame: pd.DataFrame
    rows: int
    rejects: dict[str, int]
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


def measure_entities(table: Items | Users, name: str, most_rows: int = MOST_ROWS) -> Entities:
    """Reads items or people as the run does.

    Args:
        table: the table.
        name: `items` or `users`, for messages.
        most_rows: reading stops there; `whole` says whether it did.

    Raises:
        ConfigError: where the files or columns are not there.
    """
    wanted = _columns(table)
    frames, rows, whole = [], 0, True
    for file in find_files(table.path, name):
        for batch in read_batches(file, wanted, name, csv=table.csv):
            if rows >= most_rows:
                whole = False
                break
            frames.append(batch.to_pandas())
            rows += batch.num_rows
    frame = pd.concat(frames, ignore_index=True)
    ids = clean_ids(frame[table.id])
    rejects = {}
    if not table.distinct:
        rejects["missing id"] = int(ids.isna().sum())
        rejects["duplicate id"] = int(ids.dropna().duplicated().sum())
    filled = {name: float(frame[name].notna().mean()) for name in wanted}
    return Entities(frozenset(ids.dropna()), len(frame), _some(rejects), filled, frame, whole)


def _columns(table: Items | Users) -> tuple[str, ...]:
    if isinstance(table, Items):
        return Tables(Interactions(""), table).columns()[1][2]
    return Tables(Interactions(""), Items(""), table).columns()[2][2]


def measure_choices(table: Interactions, items: frozenset[str] | None, most_rows: int = MOST_ROWS) -> Choices:
    """Reads interactions as the run does.

    Args:
        table: the table.
        items: ids of the known items, or None where every item is known.
        most_rows: reading stops there.

    Raises:
        ConfigError: where the files or columns are not there.
    """
    frames, rows, whole = [], 0, True
    rejects: collections.Counter[str] = collections.Counter()
    for file in find_files(table.path, "interactions"):
        for batch in read_batches(file, table.columns(), "interactions", csv=table.csv):
            if rows >= most_rows:
                whole = False
                break
            events = read_events(batch.to_pandas(), table)
            rows += batch.num_rows
            rejects.update(events.reason[events.reason != ""])
            frame = pd.DataFrame({"user": events.users, "item": events.items, "time": events.times})
            frame["label"] = events.labels if events.labels is not None else math.nan
            frames.append(frame[events.reason == ""])
    frame = pd.concat(frames, ignore_index=True)
    frame["time"] = frame.time.astype("int64")
    if items is not None:
        known = frame.item.isin(items)
        rejects["unknown item"] = int((~known).sum())
        frame = frame[known]
    repeated = frame.duplicated(["user", "item", "time"])
    rejects["duplicate"] = int(repeated.sum())
    return Choices(frame[~repeated], rows, _some(rejects), whole)


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
    cutoffs = cutoffs_of(times, split.validation, split.test) if split.method == "temporal" else None
    starts = [held_out_starts(times[start:end], split.method, cutoffs) for start, end in parts]
    known = {
        item
        for (start, _), (end, _) in zip(parts, starts, strict=True)
        for item in items[start : start + end]
    }
    held_out = [
        item
        for (start, end), (_, test) in zip(parts, starts, strict=True)
        for item in items[start + test : end]
    ]
    tested = [train for (start, end), (train, test) in zip(parts, starts, strict=True) if start + test < end]
    train = sum(validation for validation, _ in starts)
    return Split(
        {"train": train, "validation": len(items) - train - len(held_out), "test": len(held_out)},
        sum(train > 0 for train in tested) / max(1, len(tested)),
        sum(item not in known for item in held_out) / max(1, len(held_out)),
    )
