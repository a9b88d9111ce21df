"""Tables that only together say who chose what: orders with their lines, and lists of ids in one cell."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.tables import Join
from tfrec_fusion.guessing import column_names as names
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.table_profiles import TableProfile

DIVIDERS = ("|", ";", ",", " ", "::", "/")
MOST_ROWS = 300_000


def joined_tables(tables: list[TableProfile]) -> list[TableProfile]:
    """Each pair of tables that share a key which is unique in one of them: the lines, with the other's
    columns beside."""
    tables_joined = []
    for lines in tables:
        for orders in tables:
            if lines is not orders and (pair := _shared_key(lines, orders)):
                tables_joined.append(_join(lines, orders, *pair))
    return tables_joined


def _shared_key(lines: TableProfile, orders: TableProfile) -> tuple[Column, Column] | None:
    """The key of orders and the column of lines that holds it, or None."""
    best: tuple[float, Column, Column] | None = None
    for key in orders.columns.values():
        if (
            not key.name
            or "=" in key.name
            or key.is_list
            or key.distinct < max(2, 0.99 * orders.rows)
            or key.filled < 0.99
            or key.median_words > 1
        ):
            continue
        known = set(key.unique)
        for column in lines.columns.values():
            if (
                not column.name
                or "=" in column.name
                or column.is_list
                or column.distinct < 2
                or (column.is_number and not column.is_integer)
            ):
                continue
            alike = column.words_of_name == key.words_of_name
            overlap = column.unique.isin(known).mean()
            # Whole numbers are found among any: they need the same name.
            if (
                overlap > 0.5
                and (alike or not key.is_integer)
                and (best is None or overlap + alike > best[0])
            ):
                best = (overlap + alike, column, key)
    return (best[1], best[2]) if best else None


def _join(lines: TableProfile, orders: TableProfile, left: Column, right: Column) -> TableProfile:
    rows = right.strings.drop_duplicates()
    position = pd.Series(rows.index, index=rows.to_numpy()).reindex(left.strings.to_numpy())
    columns = dict(lines.columns)
    for name, column in orders.columns.items():
        if name not in columns and column is not right:
            moved = column.strings.reindex(position.to_numpy()).reset_index(drop=True)
            moved = moved.astype(object).where(moved.notna(), None)
            columns[name] = Column(name, column.path, column.array[:0], column.decimal, column.unnamed, moved)
    on = left.name if left.name == right.name else f"{left.name}={right.name}"
    join = Join(orders.path, on, orders.csv)
    return dataclasses.replace(lines, columns=columns, join=join)


def exploded_tables(tables: list[TableProfile]) -> list[TableProfile]:
    """Each table with a column of several ids a cell: a row for each of them."""
    tables_exploded = []
    for table in tables:
        for column in table.columns.values():
            divider = list_divider(column, tables)
            if divider is not None:
                tables_exploded.append(_explode(table, column, divider))
    return tables_exploded


def list_divider(column: Column, tables: list[TableProfile]) -> str | None:
    """What divides the ids in a column's cells, or None where its cells are no lists of ids."""
    if column.is_number or column.is_flag or column.time or column.distinct < 5 or column.is_address:
        return None
    if column.is_list:
        parts = column.elements[:20_000].astype("string")
        return " " if len(parts) > len(column.values[:5000]) and _are_ids(parts, column, tables) else None
    sample = column.values[:2000].astype("string")
    for divider in DIVIDERS:
        if sample.str.contains(divider, regex=False).mean() < 0.5:
            continue
        parts = sample.str.split(divider, regex=False).explode().str.strip()
        if _are_ids(parts[parts != ""], column, tables):
            return divider
    return None


def _are_ids(parts: pd.Series, column: Column, tables: list[TableProfile]) -> bool:
    """Whether values are keys of another table, or short codes that come again and again."""
    distinct = parts.drop_duplicates()
    if len(distinct) < 5 or parts.str.contains(r"\s").mean() > 0.05:
        return False
    for table in tables:
        for key in table.columns.values():
            is_key = key.path != column.path and key.distinct >= 0.95 * table.rows and not key.is_list
            if is_key and distinct.isin(set(key.unique)).mean() > 0.8:
                return True
    codes = distinct.str.fullmatch(r"(?=.*\d)[\w.\-]{1,40}").mean()
    named = names.says(column.words_of_name, [*names.ITEM, "history", "session", "basket", "sequence"]) > 0
    return bool(codes > 0.9 and len(parts) > 2 * len(distinct) and named)


def _explode(table: TableProfile, column: Column, divider: str) -> TableProfile:
    source = column.array if column.known_strings is None else pa.array(column.strings, pa.string())
    lists = cells.lists(source, divider, f"column {column.name!r} of {table.path}")
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    positions = pd.Series(range(len(lengths))).repeat(lengths).to_numpy()[:MOST_ROWS]
    columns = {}
    for name, other in table.columns.items():
        if name == column.name:
            values = pd.Series(lists.flatten().to_numpy(zero_copy_only=False), dtype=object)[:MOST_ROWS]
        else:
            values = other.strings.iloc[positions].reset_index(drop=True)
        columns[name] = Column(name, other.path, other.array[:0], other.decimal, other.unnamed, values)
    return dataclasses.replace(
        table,
        columns=columns,
        rows=len(positions),
        explode=(column.name, divider),
        lists=int((lengths > 0).sum()),
    )


def marked_ids(column: Column) -> str | None:
    """An example where cells hold ids with a mark behind each, `N1-0 N2-1`, as logs of impressions do."""
    sample = column.values[:500].astype("string")
    if column.is_number or column.is_list or not len(sample):
        return None
    marked = sample.str.fullmatch(r"(?:\S+[-:=][01](?:\s+|,|;|$))+")
    return str(sample.iloc[0])[:40] if marked.mean() > 0.9 and sample.str.contains(r"[\s,;]").any() else None


def divider_words(divider: str) -> str:
    return {" ": "spaces"}.get(divider, repr(divider))
