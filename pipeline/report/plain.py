"""Texts from tables made safe for where they are shown: one line without control characters, and Markdown
that is text."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200
REPLACED = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # which scripts and emoji need
# What Markdown, or HTML or mathematics in it, would take for more than text.
SPECIAL = re.compile(r"[\\`*<>&$]|\](?=\()|(?<=~)~|(?<![^\W_])_|_(?![^\W_])")
# Only what this project writes itself is code: keys and their values.
CODE = re.compile(r"(`[A-Za-z0-9_.:=/, -]+`)")


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text on one line, cut where it is long; what would control a terminal or the direction of writing
    becomes `�`."""
    shown = "".join(
        "\ufffd" if sign not in JOINERS and unicodedata.category(sign) in REPLACED else sign
        for sign in " ".join(text.split())
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, headings, links, emphasis or formulas; keys in backticks
    stay code.

    Entities, since dialects differ in what a backslash may stand before.
    """
    parts = CODE.split(one_line(text, 10**6))
    return "".join(part if index % 2 else SPECIAL.sub(_entity, part) for index, part in enumerate(parts))


def _entity(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"&#{ord(match[0])};")
