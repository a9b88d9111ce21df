"""A number of a JSON text as RapidJSON 1.1.0 reads it, with its flag for NaN: what it takes, refuses, and
where.

It looks at the exponent alone, and at no more digits than a double has, so that `0e309` is too big and
`2e308` infinite; and it reads a fraction and an exponent after NaN too. Digits are rounded correctly here,
where RapidJSON without its full precision is off by up to three units in the last place.
"""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(rb"\.[0-9]+")
_EXPONENT = re.compile(rb"[eE][+-]?[0-9]+")
_DIGITS_OF_A_DOUBLE = 17
_LARGEST_EXPONENT = 308


class ParseError(Exception):
    """A mistake in a JSON text: RapidJSON's message, and the offset in bytes."""

    def __init__(self, message: str, offset: int):
        super().__init__(message)
        self.message = message
        self.offset = offset


def read_number(body: bytes, at: int) -> tuple[int | float, int]:
    """Reads the number that begins at an offset.

    Args:
        body: the text.
        at: where the number begins.

    Returns:
        The number, an `int` where it has neither fraction nor exponent and fits 64 bits, and the offset
        behind it.

    Raises:
        ParseError: there is none, or it is too big.
    """
    start = at
    whole = _WHOLE.match(body, at)
    value: int | float
    if whole is None:
        value, at = _special(body, at)
        digits = b"-0" if body[start : start + 1] == b"-" else b"0"
    else:
        at, digits = whole.end(), whole.group()
        # Length first: a hundred thousand digits must not cost quadratic time.
        value = int(digits) if len(digits) <= 20 else float(digits)
        if math.isinf(value):
            raise ParseError("Number too big to be stored in double.", start)
    fraction = _part(body, at, b".", _FRACTION, "Miss fraction part in number.")
    at += len(fraction)
    exponent = _part(body, at, b"eE", _EXPONENT, "Miss exponent in number.")
    at += len(exponent)
    if not (fraction or exponent):
        fits = type(value) is float or -(2**63) <= value < 2**64
        return value if fits else float(value), at
    if exponent and int(exponent[1:12]) > _LARGEST_EXPONENT + _num_counted(
        digits.lstrip(b"-0"), fraction[1:]
    ):
        raise ParseError("Number too big to be stored in double.", start)
    return float(digits + fraction + exponent), at


def _num_counted(whole: bytes, fraction: bytes) -> int:
    """How many digits of a fraction RapidJSON takes into its significand, each of which lowers the exponent
    by one."""
    zeros = 0 if whole else len(fraction) - len(fraction.lstrip(b"0"))
    return min(len(fraction), zeros + max(0, _DIGITS_OF_A_DOUBLE - len(whole)))


def _part(body: bytes, at: int, first: bytes, pattern: re.Pattern[bytes], message: str) -> bytes:
    """The fraction or the exponent at an offset, with its first character; empty where there is none."""
    if at >= len(body) or body[at] not in first:
        return b""
    match = pattern.match(body, at)
    if match is None:
        signed = body[at] in b"eE" and body[at + 1 : at + 2] in (b"+", b"-")
        raise ParseError(message, at + (2 if signed else 1))
    return match.group()


def _special(body: bytes, at: int) -> tuple[float, int]:
    """NaN, Inf or Infinity; RapidJSON does not go back, so that `NaInf` is infinite."""
    sign, at = (-1.0, at + 1) if body[at : at + 1] == b"-" else (1.0, at)
    if body[at : at + 1] in (b"N", b"I"):
        at, is_nan = _eat(body, at, b"NaN")
        if is_nan:
            return math.nan, at
        at, is_infinite = _eat(body, at, b"Inf")
        if is_infinite and body[at : at + 1] == b"i":
            at, is_infinite = _eat(body, at, b"inity")
        if is_infinite:
            return sign * math.inf, at
    raise ParseError("Invalid value.", at)


def _eat(body: bytes, at: int, text: bytes) -> tuple[int, bool]:
    """Steps over as much of `text` as is there, and says whether that was all."""
    for byte in text:
        if at >= len(body) or body[at] != byte:
            return at, False
        at += 1
    return at, True
