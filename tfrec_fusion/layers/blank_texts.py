"""Texts that say nothing: white space, controls, format characters, marks without a letter, and fillers."""

from __future__ import annotations

import unicodedata

BLANK = r"[\s\p{Z}\p{Cc}\p{Cf}\p{Co}\p{M}\x{FFFD}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}]*"
"""RE2 for a whole text that says nothing."""


def is_blank(text: str) -> bool:
    """Whether a text says nothing: what `BLANK` matches."""
    fillers = "\ufffd\u115f\u1160\u2800\u3164\uffa0"
    return all(
        char in fillers
        or char.isspace()
        or unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Mn", "Mc", "Me")
        for char in text
    )
