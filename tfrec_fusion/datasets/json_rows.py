"""Rows of JSON: an object a line, or a list of objects, as columns of Arrow."""

from __future__ import annotations

import ast
import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.list_cells import text_of

BLOCK = 1 << 20
LONGEST_ROW = 1 << 26


def json_objects(
    stream: Any, path: str, encoding: str, report: Callable[[int, str, str], None]
) -> Iterator[dict[str, Any]]:
    """The objects of a stream, one after the other.

    Args:
        stream: bytes of the file.
        path: for messages.
        encoding: of the file.
        report: is told line, reason and text of a line that is no object.
    """
    text = _Text(stream, encoding)
    start = text.peek()
    if start == "{" and _is_object(text.first_line()):
        for number, line in text.lines():
            record = _object(line)
            if record is not None:
                yield record
            elif line.strip():
                report(number, "no JSON object", line.strip())
        return
    yield from _objects_in_a_row(text, path)


def _is_object(line: str) -> bool:
    return _object(line) is not None


def _object(line: str) -> dict[str, Any] | None:
    """An object as JSON writes it, or as Python prints a dict."""
    line = line.strip().removesuffix(",")
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return record if isinstance(record, dict) else None


def _objects_in_a_row(text: _Text, path: str) -> Iterator[dict[str, Any]]:
    """Objects of a list, or one after the other, over any number of lines."""
    decoder = json.JSONDecoder()
    buffer, done, count = "", False, 0
    while True:
        buffer = buffer.lstrip(" \t\r\n,[" if count or not buffer else " \t\r\n[")
        if buffer[:1] == "]" and not (buffer := buffer[1:].strip()) and done:
            return
        try:
            record, end = decoder.raw_decode(buffer)
            if not isinstance(record, dict):
                raise ConfigError(
                    f"{path!r} must hold JSON objects, one a row. Received: {str(record)[:80]!r} after"
                    f" {count:,} rows."
                )
            yield record
            count, buffer = count + 1, buffer[end:]
            continue
        except json.JSONDecodeError as error:
            if done and not buffer.strip():
                return
            if done or len(buffer) > LONGEST_ROW:
                raise ConfigError(
                    f"{path!r} is broken after {count:,} rows: {error.msg}: {buffer[:80]!r}. Mend it, or"
                    " write one object a line."
                ) from error
        more = text.read()
        done = not more
        buffer += more


class _Text:
    """A stream of bytes as text, by line or by block."""

    def __init__(self, stream: Any, encoding: str):
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.buffer, self.ended = "", False

    def _more(self) -> bool:
        data = self.stream.read(BLOCK)
        self.ended = not data
        self.buffer += self.decoder.decode(data, final=self.ended)
        return not self.ended

    def peek(self) -> str:
        """The first sign that is no white space."""
        while True:
            self.buffer = self.buffer.removeprefix("\ufeff")
            if self.buffer.strip():
                return self.buffer.lstrip()[0]
            if not self._more():
                return ""

    def first_line(self) -> str:
        """The first line that holds something, left where it is."""
        while True:
            line, end, _ = self.buffer.lstrip().partition("\n")
            if end or len(self.buffer) > LONGEST_ROW or not self._more():
                return line

    def read(self) -> str:
        """What was read and not yet given out, or the next block."""
        if not self.buffer:
            self._more()
        text, self.buffer = self.buffer, ""
        return text

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines with their numbers, from 1."""
        number, rest = 0, ""
        while text := self.read():
            *whole, rest = (rest + text).split("\n")
            for line in whole:
                number += 1
                yield number, line
        if rest:
            yield number + 1, rest


def column(values: list[Any]) -> pa.Array:
    """Values of one key as an Arrow array: as they are where they are of one kind, else as strings or lists
    of strings."""
    try:
        return pa.array(values)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        OverflowError,
        UnicodeEncodeError,
    ):
        pass
    if any(isinstance(value, (list, tuple)) for value in values):
        cells = [
            (
                None
                if value is None
                else [_safe(entry) for entry in (value if isinstance(value, (list, tuple)) else [value])]
            )
            for value in values
        ]
        return pa.array(cells, pa.list_(pa.string()))
    return pa.array([_safe(value) for value in values], pa.string())


def _safe(value: Any) -> str | None:
    text = text_of(value)
    return None if text is None else text.encode("utf-8", "replace").decode()
