"""Writes the first configuration for a folder of tables: what was guessed, what the data ask for, and why."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from typing import Any

import pandas as pd
import yaml

from pipeline.config.pipeline_config import SplitConfig
from pipeline.onboarding.guessing import Guess, guess
from pipeline.onboarding.id_columns import Hints
from pipeline.onboarding.measuring import (
    Choices,
    Entities,
    Split,
    measure_choices,
    measure_entities,
    measure_split,
)
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Csv, Tables

TOKENS_PER_WORD = 1.4
FEWEST = 30


@dataclasses.dataclass(frozen=True)
class Start:
    """A first configuration.

    Attributes:
        guess: roles of tables and columns.
        text: the YAML file.
        facts: what was counted, a line each.
    """

    guess: Guess
    text: str
    facts: list[str]


def start(folder: pathlib.Path, name: str, relative_to: pathlib.Path, hints: Hints | None = None) -> Start:
    """Looks at a folder and writes a configuration for it.

    Args:
        folder: holds CSV or Parquet files.
        name: of the pipeline.
        relative_to: the folder in which the YAML file will stand; paths in it start there.
        hints: what the caller knows better.

    Raises:
        ConfigError: where the tables cannot be told, or hold too little to learn from.
    """
    found = guess(folder, hints)
    tables = _absolute(found.tables, folder)
    items = measure_entities(tables.items, "items")
    choices = measure_choices(tables.interactions, None if tables.items.distinct else items.ids)
    if len(choices.frame) < FEWEST:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in choices.rejects.items()) or "there are no more"
        )
        raise ConfigError(
            f"At least {FEWEST} usable interactions are needed to begin with. Received: {len(choices.frame)} of "
            f"{choices.rows} rows of {tables.interactions.path} ({reasons}). Are these the right columns: "
            f"user {tables.interactions.user!r}, item {tables.interactions.item!r}, time {tables.interactions.time!r}? "
            "Name others with --user, --item and --time."
        )
    people = measure_entities(tables.users, "users") if tables.users else None
    split, why_split, measured = _split(choices, tables)
    facts = [
        f"{len(choices.frame):,} interactions of {choices.frame.user.nunique():,} people with "
        f"{choices.frame.item.nunique():,} of {len(items.ids):,} items",
        f"training {measured.sizes['train']:,}, validation {measured.sizes['validation']:,}, test "
        f"{measured.sizes['test']:,}; {measured.cold_items:.0%} of the test's items are new there",
    ]
    paths = _relative(found.tables, folder, relative_to)
    lines = [
        f"# Written by `tfrec init` from {folder.name or folder}/. Change what is wrong, then: tfrec validate, tfrec run.",
        "# Only what differs from the defaults stands here.",
        f"name: {name}",
        "",
        "data:",
    ]
    for table in ("interactions", "items", "users"):
        described = getattr(paths, table)
        if described:
            lines += _table(table, described, found)
    lines += _thresholds(choices, tables)
    lines += _rejects(choices, items, people, facts)
    lines += ["", "split:", f"  method: {split.method}  # {why_split}"]
    lines += _text(tables, items, choices)
    lines += _evaluation(len(items.ids))
    if found.unused:
        lines += ["", "# Left out:"] + [f"#   {reason}" for reason in found.unused]
    return Start(found, "\n".join(lines) + "\n", facts)


def name_for(folder: pathlib.Path) -> str:
    """A pipeline's name from a folder's."""
    name = re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.lower()).strip("_")
    return name or "recommender"


def _absolute(tables: Tables, folder: pathlib.Path) -> Tables:
    return _with_paths(tables, lambda path: str(folder.absolute() / path))


def _relative(tables: Tables, folder: pathlib.Path, start: pathlib.Path) -> Tables:
    folder, start = folder.absolute(), start.absolute()
    if folder.is_relative_to(start):
        return _with_paths(tables, lambda path: (folder / path).relative_to(start).as_posix())
    return _with_paths(tables, lambda path: (folder / path).as_posix())


def _with_paths(tables: Tables, change) -> Tables:
    changed = {
        name: dataclasses.replace(table, path=change(table.path))
        for name in ("interactions", "items", "users")
        if (table := getattr(tables, name))
    }
    return dataclasses.replace(tables, **changed)


def _scalar(value: Any) -> str:
    """A value as YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
        .strip()
        .removesuffix("...")
        .strip()
    )


def _table(name: str, table: Any, found: Guess) -> list[str]:
    reasons = {(choice.role, choice.column): choice.why for choice in found.choices if choice.table == name}
    lines = [f"  {name}:"]
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Csv):
            differs = {
                key: entry for key, entry in dataclasses.asdict(value).items() if entry != getattr(Csv(), key)
            }
            if differs:
                lines.append(f"    csv: {_scalar({key: _plain(entry) for key, entry in differs.items()})}")
        elif field.name in ("path", "user", "item", "id", "time") or value not in ({}, field.default):
            columns = value if isinstance(value, tuple) else (value,)
            why = reasons.get((field.name, columns[0])) if len(columns) == 1 else None
            comment = f"  # {why}" if why else _NOTES.get(field.name, "")
            lines.append(f"    {field.name}: {_scalar(_plain(value))}{comment}")
    return lines


_NOTES = {
    "text": "  # what the text tower reads, in this order",
    "distinct": "  # each of many rows says what it is; the most frequent value counts",
    "time": "  # none; the order of each person's choices is a fixed shuffle",
}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _thresholds(choices: Choices, tables: Tables) -> list[str]:
    """The label from which on a choice counts as liked: four on a scale from one to five, or as high on another."""
    if not tables.interactions.label:
        return []
    labels = choices.frame.label
    low, high = labels.quantile(0.001), labels.quantile(0.999)
    wanted = high if labels.nunique() == 2 else low + 0.75 * (high - low)
    values = sorted(labels.unique())
    threshold = next((value for value in values if value >= wanted - 1e-9), values[-1])
    share = float((labels >= threshold).mean())
    if not 0.05 <= share <= 0.95:
        threshold = min(values, key=lambda value: abs(float((labels >= value).mean()) - 0.5))
        share = float((labels >= threshold).mean())
    return [f"  click_threshold: {threshold:g}  # a label from here on counts as liked: {share:.0%} of them"]


def _rejects(choices: Choices, items: Entities, people: Entities | None, facts: list[str]) -> list[str]:
    tables: dict[str, Choices | Entities] = {"interactions": choices, "items": items}
    if people:
        tables["users"] = people
    for name, table in tables.items():
        if table.rejects:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in table.rejects.items())
            facts.append(f"{table.reject_share:.1%} of the rows of {name} cannot be used: {reasons}")
    worst = max(table.reject_share for table in tables.values())
    if worst <= 0.04:
        return []
    share = min(1.0, math.ceil(100 * worst + 2) / 100)
    return [
        f"  max_reject_share: {share:g}  # {worst:.1%} of a table's rows cannot be used; above this share a run stops"
    ]


def _split(choices: Choices, tables: Tables) -> tuple[SplitConfig, str, Split]:
    """By time, unless that leaves nobody in the test whom the models know."""
    last_out = SplitConfig(method="leave_last_out")
    if tables.interactions.time is None:
        return last_out, "there are no times", measure_split(choices.frame, last_out)
    temporal = SplitConfig()
    measured = measure_split(choices.frame, temporal)
    other = measure_split(choices.frame, last_out)
    if not all(measured.sizes.values()):
        return last_out, "the times do not divide the interactions", other
    if measured.known_people < 0.4 and other.sizes["test"] >= 0.5 * choices.frame.user.nunique():
        why = (
            f"by one moment for all, only {measured.known_people:.0%} of the test's people would have a past"
        )
        return last_out, why, other
    return temporal, "a test of the future: the last tenth, from one moment on for everybody", measured


def _text(tables: Tables, items: Entities, choices: Choices) -> list[str]:
    if not tables.items.text:
        return ["", "text: none  # no column says in words what an item is"]
    frame = items.frame
    words = sum(
        frame[column].map(str, na_action="ignore").fillna("").str.count(r"\S+")
        for column in tables.items.text
    )
    tokens = float(words.quantile(0.9)) * TOKENS_PER_WORD
    lines = []
    length = 64 if tokens <= 64 else 128 if tokens <= 128 or len(items.ids) > 20_000 else 256
    if length != 64:
        lines = [
            "",
            "text:",
            f"  max_length: {length}  # tokens; nine of ten items have at most about {tokens:.0f}",
        ]
    if tables.items.title:
        query = _a_query(tables, frame, choices)
        if query:
            lines += [
                "",
                "serving:",
                f"  queries: {_scalar([query])}  # asked of each model before it is pushed; put your own",
            ]
    return lines


def _a_query(tables: Tables, frame: pd.DataFrame, choices: Choices) -> str | None:
    """Words of an item that many chose."""
    popular = choices.frame.item.value_counts().index[0]
    ids = frame[tables.items.id].astype("string").str.strip().str.removesuffix(".0")
    titles = frame.loc[(ids == popular).fillna(False), tables.items.title].dropna()
    text = re.sub(r"\s*\(\d{4}\)\s*$", "", str(titles.iloc[0])) if len(titles) else ""
    return " ".join(text.split()[:8]).lower() or None


def _evaluation(items: int) -> list[str]:
    """Cutoffs that the catalogue can bear: the first hundred of forty items say nothing."""
    kept = [k for k in (10, 50, 100) if k <= items / 2] or [min(5, max(1, items // 2))]
    return [] if len(kept) == 3 else ["", "evaluation:", f"  k: {kept}  # there are {items} items"]
