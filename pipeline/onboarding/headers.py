"""Whether the first line of a text file holds the columns' names, or is a row like the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d{1,2})?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?")
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
    return (
        sum(
            _is_like(cell, [row[place].strip() for row in rows if place < len(row)])
            for place, cell in enumerate(first)
        )
        >= 1
    )


def made_up_names(count: int) -> tuple[str, ...]:
    """`column_1` and so on."""
    return tuple(f"column_{place}" for place in range(1, count + 1))


def _is_value(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _DATE.fullmatch(cell) or len(cell) > LONG)


def _is_like(cell: str, below: list[str]) -> bool:
    """Whether a cell of the first line is of the kind of those below it, as no name is."""
    below = [value for value in below if value]
    if not cell or len(below) < 2:
        return False
    if re.match(r"\w+://|\[.*\]$|\{.*\}$", cell) or _is_value(cell):
        return True
    shape = _shape(cell)
    if any(sign.isdigit() for sign in cell) and sum(_shape(value) == shape for value in below) > 0.9 * len(
        below
    ):
        return True  # `N55528` above `N19639`
    return below.count(cell) > 1  # `lifestyle` above `lifestyle`


def _shape(cell: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))
