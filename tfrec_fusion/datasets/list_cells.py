"""Lists that a cell holds as text, as JSON or Python write them: `["red", "big"]`,
`[{'id': 1, 'name': 'Drama'}]`."""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

LONGEST = 200_000  # characters; a longer text is no list of a few values
_NAMES = ("name", "title", "label", "value", "text", "id")


def parse_list(text: str) -> list[str | None] | None:
    """The values of a list that is written as JSON or Python, or as NumPy prints arrays; None where a text is
    no list."""
    if len(text) > LONGEST or not re.fullmatch(r"(?s)\[.*\]|\(.*\)|\{.*\}", text):
        return None
    found = _literal(text)
    if found is None and re.fullmatch(r"\[[-+.\w\s]*\]", text):
        return list(text[1:-1].split())  # [1 2 3]
    if isinstance(found, (set, frozenset)):
        found = sorted(found, key=str)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, (list, tuple)):
        return None
    return [text_of(value) for value in found]


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if "," not in text:
        text = re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text)  # NumPy writes no commas
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def text_of(value: Any) -> str | None:
    """A value of JSON or Python as a cell's text, by the rule of `cells.strings`."""
    if isinstance(value, dict):
        return name_of(value)
    if isinstance(value, (list, tuple)):
        return " ".join(filter(None, map(text_of, value)))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None or value != value else str(value)


def name_of(value: dict[str, Any] | None) -> str | None:
    """What an object is called: its name, title or the like, else its first text, else its first value."""
    if not value:
        return None
    by_name = {str(key).lower(): entry for key, entry in value.items()}
    for name in _NAMES[:-1]:
        if by_name.get(name) is not None and not isinstance(by_name[name], (dict, list)):
            return text_of(by_name[name])
    rest = [entry for entry in value.values() if entry is not None and not isinstance(entry, (dict, list))]
    texts = [entry for entry in rest if isinstance(entry, str)]
    return text_of((texts or rest or [None])[0])
