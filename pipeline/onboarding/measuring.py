"""Counts that a run will meet, taken in seconds without Beam: unusable rows by reason, splits, cold items."""

from __future__ import annotations

import collections
import dataclasses
import math

import pandas as pd

from pipeline.config.pipeline_config import SplitConfig
from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.splits import temporal_cutoffs
from tfrec_fusion.datasets.tables import Interactions, Items, Users
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
    wanted = table.columns()
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
    """What a split makes of the interactions; with `leave_last_out`, ties of time are broken by order of rows."""
    if split.method == "temporal":
        counts = choices.time.value_counts()
        validation, test = temporal_cutoffs(
            list(zip(counts.index.tolist(), counts.tolist(), strict=True)), split.validation, split.test
        )
        part = pd.Series("train", index=choices.index)
        part[choices.time >= validation] = "validation"
        part[choices.time >= test] = "test"
    else:
        ordered = choices.sort_values("time", kind="stable")
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
