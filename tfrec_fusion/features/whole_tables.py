"""Whole tables in memory: each id's row, and each user's interactions in order."""

from __future__ import annotations

import collections
from collections.abc import Container, Iterable
from typing import Any

from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.splits import Event, in_order
from tfrec_fusion.datasets.tables import Items, Tables, Users
from tfrec_fusion.features.rows import (
    EntityReader,
    InteractionReader,
    Reject,
    interaction_readers,
    one_row,
)

__all__ = ["Rejected", "read_choices", "read_entities"]

Rejected = collections.Counter[tuple[str, str]]
"""How many rows could not be used, by table and reason."""


def read_entities(
    table: Items | Users, name: str, tables: Tables, rejects: Rejected
) -> dict[str, dict[str, Any]]:
    """Each id's row, by feature.

    Args:
        table: the items or users, settled.
        name: `items` or `users`.
        tables: how ids are written.
        rejects: is added to.
    """
    rule = tables.item_ids if name == "items" else tables.user_ids
    rows: dict[str, list[dict[str, Any]]] = {}
    for key, row in _read(EntityReader(table, name, rule), table.path, name, rejects):
        rows.setdefault(key, []).append(row)
    results = {}
    for key, same in rows.items():
        results[key], others = one_row(same, table.distinct)
        rejects[name, "duplicate id"] += len(others)
    return results


def read_choices(
    tables: Tables, items: Container[str], rejects: Rejected, texts: bool = False
) -> dict[str, list[Event]]:
    """Each user's interactions with known items, in order.

    Args:
        tables: settled.
        items: the known ids.
        rejects: is added to.
        texts: whether what users wrote is read too.
    """
    users: dict[str, list[Event]] = {}
    for table, reader, path in interaction_readers(tables, texts):
        for item, (user, *values) in _read(reader, path, table, rejects):
            if item in items:
                time, *rest = values
                users.setdefault(user, []).append(Event(time, item, *rest))
            else:
                rejects[table, "unknown item"] += 1
    kept = {}
    for user, events in users.items():
        kept[user], duplicates = in_order(user, events)
        rejects["interactions", "duplicate"] += len(duplicates)
    return kept


def _read(
    reader: InteractionReader | EntityReader, path: str, table: str, rejects: Rejected
) -> Iterable[Any]:
    for file in find_files(path, table):
        for entry in reader.read(file):
            if isinstance(entry, Reject):
                rejects[entry.table, entry.reason] += 1
            else:
                yield entry
