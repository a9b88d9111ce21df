"""Reads JSON as TF Serving does: the same documents are accepted and refused, with the same messages.

TF Serving parses with RapidJSON, iteratively, with its flag for NaN, without checking encodings, and stops
where the document ends: what follows it is not looked at. orjson reads what both accept at full speed;
whatever it refuses (NaN, Infinity, invalid UTF-8, text after the document, real mistakes) is read again by
the exact parser here, whose messages and byte offsets are RapidJSON 1.1.0's.

Integers that fit 64 bits stay `int`, every other number is a `float`; bytes that are not UTF-8 survive as
surrogate escapes, so that a string tensor receives them unchanged.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from tfrec_fusion.serving.protocol.status import invalid_argument
from tfrec_fusion.serving.server import deadline
from tfrec_fusion.serving.server.json_numbers import ParseError, read_number
from tfrec_fusion.serving.server.json_size import outside_texts
from tfrec_fusion.serving.server.json_text import Members, value_to_string

MAX_DEPTH = 200
"""Nesting that is followed. TF Serving parses deeper and then overflows its stack (CVE-2025-0649); no array
here has over 64 axes (`json_tensors.MAX_AXES`)."""

_WHITESPACE = re.compile(rb"[ \n\r\t]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPES = {
    0x22: b'"',
    0x5C: b"\\",
    0x2F: b"/",
    0x62: b"\b",
    0x66: b"\f",
    0x6E: b"\n",
    0x72: b"\r",
    0x74: b"\t",
}
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")


def parse_object(body: bytes) -> dict[str, Any]:
    """Reads a request's body, which must hold one JSON object.

    Args:
        body: the bytes, plain (not compressed).

    Returns:
        The object; a `Members` where it has a key twice, of which the first counts.

    Raises:
        StatusError: INVALID_ARGUMENT with RapidJSON's message and offset, or `JSON Value: … Is not object`.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = parse_exactly(body)
    else:
        # orjson keeps a repeated key's last value alone.
        if _repeats_a_key(document, body):
            document = parse_exactly(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {value_to_string(document)} Is not object")
    return document


def _repeats_a_key(document: Any, body: bytes) -> bool:
    """Whether the text has more members than what was read of it: one colon each, and those in strings do not
    count."""
    colons = body.count(b":")
    if type(document) is dict and colons == len(document):
        return False  # no objects inside, which is most requests
    num_members = _num_members(document)
    return colons != num_members and sum(piece.count(b":") for piece in outside_texts(body)) != num_members


def _num_members(document: Any) -> int:
    count, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            count += len(value)
            waiting.extend(value.values())
        elif type(value) is list and not {dict, list}.isdisjoint(map(type, value)):
            waiting.extend(value)
    return count


def parse_exactly(body: bytes) -> Any:
    """Reads any JSON value the way RapidJSON does with its NaN flag.

    Raises:
        StatusError: INVALID_ARGUMENT `JSON Parse error: MESSAGE at offset: BYTES`.
    """
    try:
        return _Parser(body).document()
    except ParseError as error:
        raise invalid_argument(f"JSON Parse error: {error.message} at offset: {error.offset}") from None


class _Parser:
    """A cursor over the bytes; a NUL byte ends the document, as it ends RapidJSON's stream."""

    def __init__(self, body: bytes):
        self.body = body
        self.at = 3 if body.startswith(b"\xef\xbb\xbf") else 0
        self.steps = 0

    def tick(self) -> None:
        """Counts what takes time here (values and escapes), and ends where the request's time has."""
        self.steps += 1
        if not self.steps & 0xFFF:
            deadline.check()

    def peek(self) -> int:
        return self.body[self.at] if self.at < len(self.body) else 0

    def skip(self) -> None:
        self.at = _WHITESPACE.match(self.body, self.at).end()  # type: ignore[union-attr]  # matches nothing, too

    def take(self, text: bytes) -> None:
        """Consumes `text`; the offset of a mismatch is where it begins to differ."""
        for byte in text:
            if self.peek() != byte:
                raise ParseError("Invalid value.", self.at)
            self.at += 1

    def document(self) -> Any:
        self.skip()
        if self.peek() in b"\0,:]}":  # none of which begins a value; RapidJSON has no other word for it
            raise ParseError("The document is empty.", self.at)
        return self.value(0)

    def value(self, depth: int) -> Any:
        self.tick()
        byte = self.peek()
        if byte == 0x22:
            return self.string()
        if byte in b"{[" and byte:
            if depth >= MAX_DEPTH:
                raise ParseError(f"Nesting is limited to {MAX_DEPTH} levels.", self.at)
            return self.object(depth) if byte == 0x7B else self.array(depth)
        if byte == 0x6E:
            self.take(b"null")
            return None
        if byte == 0x74:
            self.take(b"true")
            return True
        if byte == 0x66:
            self.take(b"false")
            return False
        value, self.at = read_number(self.body, self.at)
        return value

    def object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        self.skip()
        pairs: list[tuple[str, Any]] = []
        if self.peek() == 0x7D:
            self.at += 1
            return {}
        while True:
            if self.peek() != 0x22:
                raise ParseError("Missing a name for object member.", self.at)
            name = self.string()
            self.skip()
            if self.peek() != 0x3A:
                raise ParseError("Missing a colon after a name of object member.", self.at)
            self.at += 1
            self.skip()
            pairs.append((name, self.value(depth + 1)))
            self.skip()
            byte = self.peek()
            self.at += 1
            if byte == 0x7D:
                members = dict(pairs)
                return members if len(members) == len(pairs) else Members(pairs)
            if byte != 0x2C:
                raise ParseError("Missing a comma or '}' after an object member.", self.at - 1)
            self.skip()

    def array(self, depth: int) -> list[Any]:
        self.at += 1
        self.skip()
        elements: list[Any] = []
        if self.peek() == 0x5D:
            self.at += 1
            return elements
        while True:
            elements.append(self.value(depth + 1))
            self.skip()
            byte = self.peek()
            self.at += 1
            if byte == 0x5D:
                return elements
            if byte != 0x2C:
                raise ParseError("Missing a comma or ']' after an array element.", self.at - 1)
            self.skip()

    def string(self) -> str:
        self.at += 1
        parts: list[bytes] = []
        while True:
            plain = _PLAIN.match(self.body, self.at)
            assert plain is not None  # it matches nothing, too
            parts.append(plain.group())
            self.at = plain.end()
            byte = self.peek()
            if byte == 0x22:
                self.at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == 0:
                raise ParseError("Missing a closing quotation mark in string.", self.at)
            if byte != 0x5C:
                raise ParseError("Invalid escape character in string.", self.at)
            self.tick()
            parts.append(self.escape())

    def escape(self) -> bytes:
        start = self.at
        self.at += 1
        byte = self.peek()
        self.at += 1
        if byte in _ESCAPES:
            return _ESCAPES[byte]
        if byte != 0x75:
            raise ParseError("Invalid escape character in string.", start)
        point = self.hex4(start)
        if 0xD800 <= point <= 0xDBFF:
            if self.body[self.at : self.at + 2] != b"\\u":
                raise ParseError("The surrogate pair in string is invalid.", start)
            self.at += 2
            low = self.hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise ParseError("The surrogate pair in string is invalid.", start)
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        return chr(point).encode(
            "utf-8", "surrogatepass"
        )  # a lone low surrogate passes, as in RapidJSON 1.1.0

    def hex4(self, start: int) -> int:
        match = _HEX4.match(self.body, self.at)
        if match is None:
            raise ParseError("Incorrect hex digit after \\u escape in string.", start)
        self.at = match.end()
        return int(match.group(), 16)
