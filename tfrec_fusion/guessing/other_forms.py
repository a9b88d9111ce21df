"""Forms of choices that are no rows of user and item, each with a command that makes rows of it."""

from __future__ import annotations

import pyarrow as pa

from tfrec_fusion.datasets import cells
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.table_profiles import TableProfile

WIDE = 10  # columns that hold the same kind of number


def other_form(table: TableProfile) -> str:
    """What form a table has, by its values, and how rows are made of it; "" where it is none of these.

    Args:
        table: as its file has it, neither joined nor taken apart.
    """
    return _document(table) or _records(table) or _lines_of_ids(table) or _matrix(table) or _objects(table)


def _document(table: TableProfile) -> str:
    """One object of JSON that holds the rows in a list: `{"data": [{…}, …]}`."""
    for column in table.columns.values():
        if table.rows <= 3 and _has_records(column) and len(column.array.flatten()) > 5 * table.rows:
            return (
                f"the file is one object, and {column.name} is its list of rows; a run reads JSON lines, or a"
                ' list of rows. To write them so: python -c "import json; [print(json.dumps(row)) for row in'
                f" json.load(open('{table.path}', encoding='utf-8'))[{column.name!r}]]\" > rows.jsonl"
            )
    return ""


def _has_records(column: Column) -> bool:
    kind = column.array.type
    return column.known_strings is None and cells.is_list(kind) and pa.types.is_struct(kind.value_type)


def _objects(table: TableProfile) -> str:
    """Rows of JSON with objects in their cells, `{"user": {"id": 7}}`, as document databases write them."""
    inside = [column.name for column in table.columns.values() if pa.types.is_struct(column.array.type)]
    if len(inside) < 2:
        return ""
    return (
        f"{', '.join(inside)} hold objects; a run reads one value a cell. To write their parts as columns:"
        ' python -c "import json, pandas; pandas.json_normalize([json.loads(line) for line in'
        f" open('{table.path}', encoding='utf-8')], sep='_')"
        ".to_json('rows.jsonl', orient='records', lines=True)\""
    )


def _records(table: TableProfile) -> str:
    """Sessions or playlists of JSON, with what was chosen as records in a list."""
    for column in table.columns.values():
        if not _has_records(column):
            continue
        inner = column.array.type.value_type
        fields = [inner.field(position) for position in range(inner.num_fields)]
        names = [field.name for field in fields]
        plain = [field for field in fields if not pa.types.is_nested(field.type)]
        elements = column.array.flatten()
        if len(plain) < 2 or len(elements) < 1.5 * len(column.values):
            continue
        if len(table.columns) > 12 or not any(_comes_again(elements, field.name) for field in plain):
            continue
        return (
            f"{column.name} holds a list of records ({', '.join(names[:6])}) in each cell; a run reads one"
            ' row each. To write them so, of JSON lines: python -c "import json, sys;'
            f" [print(json.dumps({{**row, **record, {column.name!r}: None}})) for row in map(json.loads,"
            f' sys.stdin) for record in row[{column.name!r}] or []]" < {table.path} > rows.jsonl'
        )
    return ""


def _comes_again(records: pa.StructArray, name: str) -> bool:
    """Whether a field holds values that come again in other records, as ids of items do."""
    values = records.field(name).drop_null()
    return len(values) > 20 and 5 <= len(values.unique()) < 0.8 * len(values)


def _lines_of_ids(table: TableProfile) -> str:
    """A line for each user, with the ids of their items and nothing between but spaces."""
    if len(table.columns) != 1:
        return ""
    (column,) = table.columns.values()
    sample = column.values[:1000].astype("string").str.strip()
    if len(sample) < 5 or sample.str.fullmatch(r"[\w.\-]*\d[\w.\-]*(?:\s+[\w.\-]*\d[\w.\-]*)+").mean() < 0.9:
        return ""
    parts = sample.str.split()
    lengths = parts.str.len()
    if lengths.nunique() < 2:
        return (
            f"one column; spaces divide {lengths.iloc[0]} in it, it seems. Put a sign between them:"
            f" sed -E 's/ +/,/g' {table.path} > table.csv"
        )
    counted = (parts.str[0] == (lengths - 1).astype(str)).mean() > 0.9
    first = parts.str[0].nunique() > 0.95 * len(sample) and not counted
    meaning = "their number, then ids" if counted else "an id, then others" if first else "ids"
    user, start = ("$1", 2) if first else ("NR", 2 if counted else 1)
    return (
        f"each line holds {meaning}, such as {sample.iloc[0][:40]!r}: a user's items, it seems. A run reads"
        f" a row for each choice. To write them so: awk '{{for (i = {start}; i <= NF; i++) print"
        f' {user} "," $i}}\' {table.path} > choices.csv'
    )


def _matrix(table: TableProfile) -> str:
    """A row for each user and a column for each item, as Jester and many spreadsheets have them."""
    scale = [column for column in table.columns.values() if _is_number_or_empty(column)]
    if len(scale) < WIDE or len(scale) < 0.7 * len(table.columns):
        return ""
    # One scale: the columns' values lie in one range, and most columns hold most of the others' extremes.
    ends = [(float(column.numbers.min()), float(column.numbers.max())) for column in scale if column.distinct]
    if len(ends) < WIDE:
        return ""
    lows, highs = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    middle = len(ends) // 2
    width = highs[middle] - lows[middle]
    alike = sum(
        abs(low - lows[middle]) <= 0.2 * width and abs(high - highs[middle]) <= 0.2 * width
        for low, high in ends
    )
    if not width or alike < 0.8 * len(ends) or not _is_grade(scale):
        return ""
    rest = [column.name for column in table.columns.values() if column not in scale]
    user = rest[0] if len(rest) == 1 else None
    names = f"index_col={user!r}" if user else "header=None" if table.headerless else ""
    return (
        f"{len(scale)} columns hold numbers of one scale, from {lows[middle]:g} to {highs[middle]:g}: a"
        " column for each item and a row for each user, it seems. A run reads a row for each choice. To write"
        f" them so: pandas.read_csv({table.path!r}{', ' + names if names else ''}).rename_axis(index='user',"
        " columns='item').stack().rename('rating').reset_index().to_csv('choices.csv', index=False); leave"
        " out first what is no item, and values that stand for none, such as 0 or 99"
    )


def _is_number_or_empty(column: Column) -> bool:
    return not column.is_native_list and not column.is_time_type and (column.is_number or not column.distinct)


def _is_grade(columns: list[Column]) -> bool:
    """Whether numbers are few steps, or both below and above 0 within 100, or often missing: parts of vectors
    are neither."""
    few = sum(column.distinct <= 21 and column.is_integer for column in columns) > 0.8 * len(columns)
    holes = sum(column.filled < 0.8 for column in columns) > 0.5 * len(columns)
    marked = sum(float((column.numbers == 99).any()) for column in columns) > 0.5 * len(columns)
    return few or holes or marked
