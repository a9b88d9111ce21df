"""Subjects that a language model is asked about: items by their table, users by what they chose.

Reads tables as a run does. What users chose together, and their histories, are taken from training
interactions alone, so that no text tells the model what it is judged by.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_fusion.config import ConfigError, EnrichmentConfig, SplitConfig
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import cutoffs_of, divide, dividing_times
from tfrec_fusion.datasets.tables import Items, Tables
from tfrec_fusion.enrichment.prompts import is_suspicious, messages, record
from tfrec_fusion.enrichment.templates import ITEMS, RULES, USERS
from tfrec_fusion.features.columns import item_features, text_features
from tfrec_fusion.features.whole_tables import Rejected, read_choices, read_entities

__all__ = ["Subject", "read_subjects"]

TOGETHER = 2  # users who chose two items both, at least, before one is named with the other
TOLD = ("categorical", "categories")


@dataclasses.dataclass(frozen=True)
class Subject:
    """An item or a user that is asked about.

    Attributes:
        kind: `item` or `user`.
        id: of the item or the user; never sent.
        messages: what is sent; empty where there is nothing to tell.
        suspicious: whether its texts read like instructions.
    """

    kind: str
    id: str
    messages: tuple[dict[str, str], ...]
    suspicious: bool = False

    @property
    def instructions(self) -> str:
        """What is asked for."""
        return self.messages[0]["content"]

    @property
    def told(self) -> str:
        """The record."""
        return self.messages[1]["content"]


def read_subjects(tables: Tables, split: SplitConfig, config: EnrichmentConfig) -> list[Subject]:
    """Every item, and where `config.users` says so every user with a history.

    Args:
        tables: the tables.
        split: how a run divides the interactions.
        config: what is asked.

    Raises:
        ConfigError: for tables that cannot be read, or a column that items do not have.
    """
    tables = settle(
        dataclasses.replace(tables, items=dataclasses.replace(tables.items, generated=None))
    ).tables
    told = _told(tables, config)
    rejects: Rejected = collections.Counter()
    items = read_entities(tables.items, "items", tables, rejects)
    histories: dict[str, list[str]] = {}
    if config.users or config.chosen_with:
        histories = _histories(tables, items, split)
    together = _chosen_together(histories, config.chosen_with) if config.chosen_with else {}
    instructions = f"{config.instructions or ITEMS[config.template]}\n\n{RULES}"
    subjects = []
    for item in sorted(items):
        fields: dict[str, Any] = {name: items[item].get(feature) or "" for name, feature in told.items()}
        others = [_title(items, other) for other in together.get(item, ())]
        fields["Often chosen by the same people"] = others
        subjects.append(_subject("item", item, instructions, fields))
    if config.users:
        instructions = f"{USERS}\n\n{RULES}"
        for user in sorted(histories):
            titles = [_title(items, item) for item in histories[user][-config.user_history :]]
            subjects.append(_subject("user", user, instructions, {"Chosen": titles}))
    return subjects


def _subject(kind: str, key: str, instructions: str, fields: Mapping[str, Any]) -> Subject:
    content = record(fields)
    if not content:
        return Subject(kind, key, ())
    values = [text for value in fields.values() for text in ([value] if isinstance(value, str) else value)]
    return Subject(kind, key, tuple(messages(instructions, content)), is_suspicious(values))


def _told(tables: Tables, config: EnrichmentConfig) -> dict[str, str]:
    """Shown name → feature, of the columns that the model is told of."""
    table: Items = tables.items
    columns: dict[str, str] = {}
    if table.title:
        columns[table.title] = "title"
    for feature in (*text_features(tables), *item_features(tables)):
        if feature.kind in TOLD:
            columns.setdefault(feature.column, feature.name)
    unknown = [column for column in config.columns if column not in columns]
    if unknown:
        raise ConfigError(
            "`enrich.columns` must be of the items' title, text, categories and lists"
            f" ({', '.join(map(repr, columns)) or 'there are none'}). Received:"
            f" {', '.join(map(repr, unknown))}."
        )
    if not columns:
        raise ConfigError(
            "A language model needs columns that say something about items. Received: none. Name"
            " `data.items.title`, `text`, `categories` or `lists`."
        )
    chosen = config.columns or tuple(columns)
    return {column: columns[column] for column in chosen}


def _title(items: Mapping[str, Mapping[str, Any]], item: str) -> str:
    """What an item is called, and never its id."""
    row = items[item]
    if row.get("title"):
        return str(row["title"])
    return next((value for name, value in row.items() if name.startswith("text__") and value), "")


def _histories(tables: Tables, items: Mapping[str, Any], split: SplitConfig) -> dict[str, list[str]]:
    """What each user chose in training, in order."""
    events = read_choices(tables, items, collections.Counter())
    cutoffs = None
    times = {user: [event.time for event in rows] for user, rows in events.items()}
    if split.by_time:
        dividing = (time for own in times.values() for time in dividing_times(own, split.method))
        cutoffs = cutoffs_of(dividing, split.validation, split.test)
    histories = {}
    for user, rows in events.items():
        if train := divide(times[user], split.method, cutoffs).train:
            histories[user] = [rows[position].item for position in train]
    return histories


def _chosen_together(histories: Mapping[str, Sequence[str]], most: int) -> dict[str, list[str]]:
    """Of each item those that the same users chose, the most telling first: by how many did, over the root of
    how many chose either (cosine), ties by id."""
    users: dict[str, set[str]] = collections.defaultdict(set)
    for user, history in histories.items():
        for item in history:
            users[item].add(user)
    result = {}
    for item, chosen_by in users.items():
        counts = collections.Counter(
            other for user in chosen_by for other in set(histories[user]) if other != item
        )
        scored = [
            (-(count**2) / len(users[other]), other) for other, count in counts.items() if count >= TOGETHER
        ]
        result[item] = [other for _, other in sorted(scored)[:most]]
    return result
