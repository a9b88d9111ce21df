"""Ids of users and items in the one form by which tables are matched."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.tables import IdRule


def ids(array: pa.Array, rule: IdRule, where: str) -> pa.Array:
    """Cells as ids; null where there is none.

    Args:
        array: any column.
        rule: as in `Tables`.
        where: the column, for messages.
    """
    return normalised(cells.strings(array, where), rule)


def normalised(text: pa.Array, rule: IdRule) -> pa.Array:
    """Trimmed strings in the form that a rule asks for; `number` leaves what is no whole number as it is."""
    if rule == "number":
        digits = pc.replace_substring_regex(text, r"^\+?(-?)0*(\d+)(?:\.0*)?$", r"\1\2")
        return pc.if_else(pc.equal(digits, "-0"), "0", digits)
    if rule == "folded":
        # Not Arrow's `utf8_lower`: ß and ss are one when case does not count.
        folded = [None if value is None else " ".join(value.casefold().split()) for value in text.to_pylist()]
        return pa.array(folded, pa.string())
    return text
