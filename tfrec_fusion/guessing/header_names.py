"""Names for the columns of files without a header line, from the roles that the columns have."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.table_profiles import TableProfile

NAMES = {
    ("interactions", "user"): "user_id",
    ("interactions", "item"): "item_id",
    ("interactions", "time"): "time",
    ("interactions", "label"): "rating",
    ("interactions", "quantity"): "chosen",
    ("interactions", "event"): "event",
    ("interactions", "outcomes"): "chosen",
    ("interactions", "position"): "position",
    ("items", "id"): "item_id",
    ("items", "title"): "title",
    ("users", "id"): "user_id",
}


def name_headers(found: Tables, tables: list[TableProfile], ledger: Ledger) -> Tables:
    """Gives columns with made-up names the names of their roles, in the tables, in `csv.header` and in the
    reasons."""
    for table in tables:
        if table.headerless:
            renames = _renames(table, ledger)
            ledger.choices = [
                dataclasses.replace(choice, column=renames.get(choice.column, choice.column))
                if choice.path == table.path
                else choice
                for choice in ledger.choices
            ]
            ledger.left = [
                dataclasses.replace(
                    entry,
                    column=renames.get(entry.column or "", entry.column),
                    offer=_renamed(entry.offer, renames),
                )
                if entry.path == table.path
                else entry
                for entry in ledger.left
            ]
            found = _apply(found, table, renames)
    return found


def _renames(table: TableProfile, ledger: Ledger) -> dict[str, str]:
    renames: dict[str, str] = {}
    for choice in ledger.choices:
        name = NAMES.get((choice.table, choice.role))
        if (
            choice.path == table.path
            and name
            and choice.column not in renames
            and name not in renames.values()
        ):
            renames[choice.column] = name
    return renames


def _apply(tables: Tables, table: TableProfile, renames: dict[str, str]) -> Tables:
    header = tuple(renames.get(name, name) for name in table.columns)
    changed: dict[str, Any] = {}
    for name in ("interactions", "items", "users"):
        described = getattr(tables, name)
        if described is None:
            continue
        if described.path == table.path:
            csv = dataclasses.replace(described.csv, header=header)
            values = {
                field.name: _renamed(getattr(described, field.name), renames)
                for field in dataclasses.fields(described)
                if field.name
                not in (
                    "path",
                    "csv",
                    "separator",
                    "time_format",
                    "explode",
                    "join",
                    "label_values",
                    "events",
                    "outcomes",
                )
            }
            if name == "interactions":
                values["outcomes"] = {
                    renames.get(key, key): entry for key, entry in described.outcomes.items()
                }
            described = dataclasses.replace(described, csv=csv, **values)
        elif name == "interactions" and described.join and described.join.path == table.path:
            described = _renamed_join(described, header, renames)
        changed[name] = described
    return dataclasses.replace(tables, **changed)


def _renamed_join(interactions: Any, header: tuple[str, ...], renames: dict[str, str]) -> Any:
    join = interactions.join
    csv: Csv = dataclasses.replace(join.csv, header=header)
    right = renames.get(join.right, join.right)
    on = join.left if right == join.left else f"{join.left}={right}"
    return dataclasses.replace(interactions, join=dataclasses.replace(join, on=on, csv=csv))


def _renamed(value: Any, renames: dict[str, str]) -> Any:
    if isinstance(value, str):
        return renames.get(value, value)
    if isinstance(value, tuple):
        return tuple(_renamed(entry, renames) for entry in value)
    if isinstance(value, list):
        return [_renamed(entry, renames) for entry in value]
    if isinstance(value, dict):
        return {key: _renamed(entry, renames) for key, entry in value.items()}
    return value
