"""Check whether the first line of a text file holds the columns' names, or is a row like the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d{1,2})?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?")
_ADDRESS = re.compile(r"\w+://")
_LITERAL = re.compile(r"\[.*\]$|\{.*\}$")
LONG = 60  # characters; names of columns are shorter


def has_no_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Judges the first line by the rows below it.

    Args:
        first: cells of the first line.
        rows: cells of the lines below.
    """
    first = [cell.strip() for cell in first]
    if not rows or not first:
        return False
    if sum(_is_value(cell) for cell in first if cell) > len(first) / 2:
        return True
    columns = [
        (cell, [row[position].strip() for row in rows if position < len(row)])
        for position, cell in enumerate(first)
    ]
    # A name may be `2019` or `{x}`: one cell tells less than several that are clearly names.
    return sum(_is_like(*column) for column in columns) > sum(_is_name(*column) for column in columns)


def made_up_names(count: int) -> tuple[str, ...]:
    """`column_1` and so on."""
    return tuple(f"column_{number}" for number in range(1, count + 1))


def _is_value(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _DATE.fullmatch(cell))


def _is_long(cell: str) -> bool:
    return len(cell) > LONG


def _is_like(cell: str, below: list[str]) -> bool:
    """Whether a cell of the first line is of the kind of those below it, as no name is."""
    below = [value for value in below if value]
    if not cell or len(below) < 2:
        return False
    for kind in (_is_value, _is_long, _ADDRESS.match, _LITERAL.match):
        if kind(cell):
            return sum(bool(kind(value)) for value in below) > len(below) / 2
    if any(sign.isdigit() for sign in cell):
        for shape in (_shape, _code):  # `N55528` above `N19639`, a hash above hashes
            if shape(cell) and sum(shape(value) == shape(cell) for value in below) > 0.9 * len(below):
                return True
    return below.count(cell) > 1  # `lifestyle` above `lifestyle`


def _is_name(cell: str, below: list[str]) -> bool:
    """Whether a word stands above numbers, dates or ids of one shape."""
    below = [value for value in below if value]
    if not re.search(r"[^\W\d_]", cell) or _is_value(cell) or len(below) < 2:
        return False
    if all(map(_is_value, below)):
        return True
    if sum(any(sign.isdigit() for sign in value) for value in below) <= 0.9 * len(below):
        return False
    for shape in (_shape, _code):  # `user_id` above `u17`, above hashes
        shapes = [shape(value) for value in below]
        usual = max(set(shapes), key=shapes.count)
        if usual not in ("", shape(cell)) and shapes.count(usual) > 0.9 * len(shapes):
            return True
    return False


def _shape(cell: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


def _code(cell: str) -> str:
    """Where signs stand in a code of eight letters and digits or more, which may be any: `4f1a-9c` is
    `aaaa-aa`."""
    return re.sub(r"[^\W_]", "a", cell) if len(cell) >= 8 and " " not in cell else ""
