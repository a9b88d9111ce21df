"""Text from tables and servers, made safe for a terminal.

A title may hold escape sequences that move the cursor or set the clipboard, line breaks that forge a row, and
marks that turn the direction of writing. `safe` shows them as escapes; `Guarded` does so for whatever a
command prints.
"""

from __future__ import annotations

import textwrap
import unicodedata
from typing import Any, TextIO

__all__ = ["Guarded", "safe", "wrapped"]

WIDTH = 118

_JOINERS = "\u200c\u200d"
"""Needed in Persian, Indic scripts and emoji, and harmless."""


def safe(value: Any, breaks: str = "") -> str:
    """A value as text of one line in which nothing acts on the terminal.

    Args:
        value: what is printed.
        breaks: control characters that are left as they are.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in breaks or char in _JOINERS or _is_seen(char) else _escaped(char) for char in text
    )


def wrapped(start: str, text: Any) -> str:
    """A value as lines of at most 118 characters, safe for a terminal.

    Args:
        start: of the first line; the others are indented by its width.
        text: what is printed.
    """
    return textwrap.fill(
        safe(text),
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _is_seen(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    point = ord(char)
    if char in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[char]
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


class Guarded:
    """A stream that lets line breaks and tabs through and shows every other control character as an escape.

    Args:
        stream: what is written to; `unguarded` gives it back.
    """

    def __init__(self, stream: TextIO):
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Writes the text made safe; returns its own length.

        Raises:
            TypeError: for bytes.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str. Received: {type(text).__name__}.")
        self.unguarded.write(safe(text, breaks="\n\t"))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Writes each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)
