"""JSON values and numbers as TF Serving prints them: in its messages (RapidJSON's pretty writer) and its
answers."""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Iterable
from typing import Any

MAX_CHARS = 64 * 1024
"""Text of a value in a message: an indented document is many times as long as the request that held it."""


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type, as TF Serving's messages print it."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


class Members(dict[str, Any]):
    """A JSON object that has a key twice: a look-up finds the first, as RapidJSON's does; `pairs` holds every
    member."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(reversed(pairs))
        self.pairs = pairs


def members(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Every member of a JSON object in its order, repeated keys included."""
    return value.pairs if isinstance(value, Members) else value.items()


class _NotWritable(Exception):
    """RapidJSON's writer stops at a NaN inside a document, and ours at `MAX_CHARS`; the message then ends
    there."""


class _Parts(list[str]):
    """Text in parts, which takes no more when there is enough of it."""

    size = 0

    def append(self, part: str) -> None:
        self.size += len(part)
        super().append(part if self.size <= MAX_CHARS else part[:MAX_CHARS])
        if self.size > MAX_CHARS:
            raise _NotWritable


def value_to_string(value: Any) -> str:
    """A value as TF Serving's messages print it: indented by four, a lone number in its shortest float
    form."""
    if type(value) is float:
        if abs(value) <= 3.4028234e38:
            return format_decimal(struct.unpack("f", struct.pack("f", value))[0], 9)
        return format_decimal(value, 17)
    parts = _Parts()
    with contextlib.suppress(_NotWritable):
        _write(value, 0, parts)
    return "".join(parts)


def _write(value: Any, level: int, parts: _Parts) -> None:
    if isinstance(value, dict):
        pairs = ((quote(key[: MAX_CHARS + 1]) + ": ", member) for key, member in members(value))
        _write_members(pairs, "{}", level, parts)
    elif isinstance(value, list):
        _write_members((("", element) for element in value), "[]", level, parts)
    elif isinstance(value, str):
        parts.append(quote(value[: MAX_CHARS + 1]))
    elif type(value) is float:
        if not math.isfinite(value):
            raise _NotWritable
        parts.append(_shortest_double(value))
    else:
        parts.append(
            str(value) if type(value) is int else {None: "null", True: "true", False: "false"}[value]
        )


def _write_members(members: Iterable[tuple[str, Any]], brackets: str, level: int, parts: _Parts) -> None:
    separator = brackets[0] + "\n"
    for prefix, member in members:
        parts.append(separator + "    " * (level + 1) + prefix)
        _write(member, level + 1, parts)
        separator = ",\n"
    parts.append(brackets if separator[0] == brackets[0] else "\n" + "    " * level + brackets[1])


def _shortest_double(value: float) -> str:
    """The shortest digits that read back, laid out as RapidJSON does (plain up to 1e21, no sign in
    exponents)."""
    digits = repr(value)
    if "e" not in digits:
        return digits
    mantissa, exponent = digits.split("e")
    power = int(exponent)
    sign = "-" if mantissa.startswith("-") else ""
    significant = mantissa.lstrip("-").replace(".", "")
    if 16 <= power <= 20:
        return f"{sign}{significant.ljust(power + 1, '0')}.0"
    if -6 <= power <= -5:
        return f"{sign}0.{'0' * (-power - 1)}{significant}"
    return f"{mantissa}e{power}"


_ESCAPE = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def quote(text: str) -> str:
    """A JSON string as RapidJSON writes it: only quotes, backslashes and control characters are escaped."""
    escaped = _ESCAPE.sub(lambda match: _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04X}", text)
    return f'"{escaped}"'


def format_decimal(value: float, full_digits: int) -> str:
    """A float as TF Serving writes it: `%.6g` if that reads back the same, else all digits; `.0` on whole
    numbers.

    Args:
        value: the number; a float32 comes widened, which loses nothing.
        full_digits: 9 for float32, 17 for float64.
    """
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    back = float(text)
    if full_digits == 9 and back != value:
        try:
            back = struct.unpack("f", struct.pack("f", back))[0]
        except OverflowError:
            back = math.inf
    if back != value:
        text = f"{value:.{full_digits}g}"
    return text if "." in text or "e" in text else text + ".0"
