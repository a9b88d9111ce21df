"""Lines of delimited text as blocks of whole records, with the rows that are none set aside.

A block without quotes passes as it is. Where there are quotes, a regular expression of RE2 finds the lines
that are not plainly right, and only those are looked at one by one: a value over several lines is put
together, a quote that is a sign of the text is kept as one, and a quote that is never closed costs its own
line and not the rest of the file.
"""

from __future__ import annotations

import bisect
import codecs
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.datasets.dialect import Dialect

BLOCK = 1 << 22
LONGEST_CELL = 1 << 20
SEPARATOR = b"\x1f"
"""What stands for a delimiter of several characters."""


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: its file, its line there (from 1), why, and what it says."""

    file: str
    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}: {self.text[:200]!r}"


@dataclasses.dataclass
class Block:
    """Whole records as UTF-8, and from which line of the file each part of them came."""

    data: bytes
    offsets: list[int]
    lines: list[int]

    def line_of(self, offset: int) -> int:
        """The line of the file at an offset in `data`."""
        position = bisect.bisect_right(self.offsets, offset) - 1
        return self.lines[position] + self.data.count(b"\n", self.offsets[position], offset)


def blocks(
    stream: Any, dialect: Dialect, report: Callable[[int, str, str], None], size: int = BLOCK
) -> Iterator[Block]:
    """Reads a stream.

    Args:
        stream: bytes of the file, from its first.
        dialect: how it is written.
        report: is told line, reason and text of a row that cannot be read.
        size: bytes read at once.
    """
    sign = dialect.delimiter.encode()
    width = len(dialect.names) + dialect.ragged
    repair = _Repair(sign, width, len(dialect.names), report)
    line, rest, begun, headed = 1, b"", False, False
    for data, last in _decoded(stream, dialect, size):
        data = rest + data
        if not begun:
            text = data.lstrip(b"\r\n")
            line += data.count(b"\n", 0, len(data) - len(text))
            data, begun = text, bool(text)
        cut = len(data) if last else data.rfind(b"\n") + 1
        data, rest = data[:cut], data[cut:]
        data = _without_broken_text(data, line, dialect.encoding, report)
        if len(sign) > 1:
            data = data.replace(SEPARATOR, b" ").replace(sign, SEPARATOR)
        if not dialect.quoted or b'"' not in data:
            count = data.count(b"\n")
            first = line if dialect.header and not headed else 0
            data = _without_wrong_widths(
                data, line, SEPARATOR if len(sign) > 1 else sign, width, report, first
            )
            headed = True
            if data:
                yield Block(data, [0], [line])
            line += count
            continue
        block, used = repair.block(data, line, last, line if dialect.header and not headed else 0)
        headed = True
        if block.data:
            yield block
        line += data.count(b"\n", 0, used)
        rest = data[used:] + rest


def _without_wrong_widths(
    data: bytes,
    line: int,
    sign: bytes,
    width: int,
    report: Callable[[int, str, str], None],
    header: int = 0,
    quoted: bool = False,
) -> bytes:
    """Lines without quotes that have as many values as the header; others become empty lines.

    Arrow sets them aside, too, but takes a time that grows with their square. The line `header` is let
    through, and, where values are `quoted`, so are lines with quotes.
    """
    bytes_of = np.frombuffer(data, np.uint8)
    starts = _line_starts(data)
    ends = np.append(starts[1:-1] - 1, len(data) - data.endswith(b"\n")) if len(starts) > 1 else starts[:0]
    begins = starts[:-1]
    positions = np.flatnonzero(bytes_of == sign[0])
    counts = np.searchsorted(positions, ends) - np.searchsorted(positions, begins)
    quotes = np.flatnonzero(bytes_of == 34) if quoted else positions[:0]
    plain = np.searchsorted(quotes, ends) == np.searchsorted(quotes, begins)
    wrong = np.flatnonzero(
        (counts != width - 1) & (ends > begins) & plain & (np.arange(len(begins)) + line != header)
    )
    if not len(wrong):
        return data
    parts, done = [], 0
    for position in wrong.tolist():
        begin, end = int(begins[position]), int(ends[position])
        text = data[begin:end].rstrip(b"\r")
        parts.append(data[done:begin])
        done = end
        if text:
            shown = text.decode(errors="replace")
            report(line + position, f"too {'many' if counts[position] >= width else 'few'} values", shown)
    parts.append(data[done:])
    return b"".join(parts)


def _decoded(stream: Any, dialect: Dialect, size: int) -> Iterator[tuple[bytes, bool]]:
    """The stream as UTF-8 with line feeds, and whether a part is the last."""
    plain = dialect.encoding.replace("-", "").replace("_", "").lower() in ("utf8", "utf8sig", "ascii")
    decoder = None if plain else codecs.getincrementaldecoder(dialect.encoding)("replace")
    first = True
    while True:
        data = stream.read(size)
        last = not data
        if decoder:
            data = decoder.decode(data, final=last).encode()
        if first:
            data, first = data.removeprefix(codecs.BOM_UTF8), False
        if dialect.returns:
            data = data.replace(b"\r", b"\n")
        yield data, last
        if last:
            return


def _without_broken_text(
    data: bytes, line: int, encoding: str, report: Callable[[int, str, str], None]
) -> bytes:
    """The lines that could be decoded. A line that goes is replaced by an empty one, which counts and holds
    no row."""
    while True:
        try:
            data.decode()
            broken = data.find("\ufffd".encode()) if encoding not in ("utf-8", "ascii") else -1
        except UnicodeDecodeError as error:
            broken = error.start
        if broken < 0:
            return data
        lines = data.split(b"\n")
        for position, text in enumerate(lines):
            try:
                shown = text.decode()
                if encoding in ("utf-8", "ascii") or "\ufffd" not in shown:
                    continue
            except UnicodeDecodeError:
                shown = text.decode(errors="replace")
            report(line + position, f"bytes that are no {encoding}", shown)
            lines[position] = b""
        data = b"\n".join(lines)


class _Repair:
    """Puts right, or sets aside, the lines of a block that have quotes in other places than around whole
    values."""

    def __init__(self, sign: bytes, width: int, least: int, report: Callable[[int, str, str], None]):
        self.sign, self.width, self.least, self.report = sign, width, least, report
        delimiter = b"\\x%02x" % sign[0]
        cell = rb'(?:"(?:[^"\n]|"")*"|[^"' + delimiter + rb"\n][^" + delimiter + rb"\n]*|)"
        self.clean = (rb"^" + cell + rb"(?:" + delimiter + cell + rb")*\r?$").decode()
        after = rb'"(?=' + delimiter + rb"|\r?\n|\r?\Z)"
        self.quoted = re.compile(rb'"([^"]*(?:""[^"]*)*)' + after)
        self.escaped = re.compile(rb'"((?:[^"\\\n]|\\.|"")*)' + after)
        self.open = re.compile(rb'"[^"]*(?:""[^"]*)*\Z')
        self.bare = re.compile(rb"[^" + delimiter + rb"\n]*")

    def block(self, data: bytes, line: int, last: bool, header: int = 0) -> tuple[Block, int]:
        """The records of whole lines, and how many bytes were used: a value may go on in what was not read
        yet."""

        starts = _line_starts(data)

        def line_at(position: int) -> int:
            return line + int(np.searchsorted(starts, position, side="right")) - 1

        def plain(begin: int, end: int | None = None) -> bytes:
            """Lines that need no repair."""
            text, before = data[begin:end], line_at(begin)
            return _without_wrong_widths(text, before, self.sign, self.width, self.report, header, True)

        parts, offsets, sources, done, size = [], [0], [line], 0, 0
        for position in self._suspects(data, starts):
            start = int(starts[position])
            if start < done:
                continue  # inside a value that was put together
            record = self._record(data, start, last or len(data) - start >= LONGEST_CELL)
            parts.append(plain(done, start))
            size += len(parts[-1])
            if record is None:
                return Block(b"".join(parts), offsets, sources), start
            text, end = record
            if not text:
                shown = data[start:end].decode().rstrip("\r\n")
                self.report(line + int(position), "a quote that is never closed", shown)
            parts.append(text)
            offsets += [size, size + len(text)]
            sources += [line + int(position), line_at(end)]
            size, done = size + len(text), end
        parts.append(plain(done))
        return Block(b"".join(parts), offsets, sources), len(data)

    def _suspects(self, data: bytes, starts: np.ndarray) -> np.ndarray:
        lines = pa.StringArray.from_buffers(
            len(starts) - 1, pa.py_buffer(starts.tobytes()), pa.py_buffer(data)
        )
        bare = pc.utf8_rtrim(lines, "\n")
        odd = pc.and_(pc.match_substring(bare, '"'), pc.invert(pc.match_substring_regex(bare, self.clean)))
        return np.flatnonzero(odd.to_numpy(zero_copy_only=False))

    def _record(self, data: bytes, start: int, last: bool) -> tuple[bytes, int] | None:
        """The record at `start` as it should be written ("" where a quote is never closed), and where it
        ends.

        None where a value may go on in what was not read yet.
        """
        limit = min(len(data), start + LONGEST_CELL)
        cells: list[bytes] = []
        position, line_end = start, _line_end(data, start, limit)
        while True:
            cell, end = None, -1
            if data[position : position + 1] == b'"':
                if not last and self.open.match(data, position):
                    return None
                cell, end = self._quoted_cell(data, position, limit, len(cells))
                if end < 0:
                    return b"", min(len(data), line_end + 1)
            if cell is None:
                match = self.bare.match(data, position, limit)
                assert match is not None
                cell, end = match.group(), match.end()
                cell = cell.removesuffix(b"\r") if data[end : end + 1] in (b"\n", b"") else cell
            cells.append(b'"' + cell.replace(b'"', b'""') + b'"' if cell else b"")
            if data[end : end + 1] == self.sign:
                position = end + 1
                continue
            return self.sign.join(cells) + b"\n", min(len(data), _line_end(data, end, len(data)) + 1)

    def _quoted_cell(self, data: bytes, position: int, limit: int, before: int) -> tuple[bytes | None, int]:
        """The value of a cell that begins with a quote and where it ends; no value where the quote is a sign
        of the text, and -1 where it stays open."""
        match = self.quoted.match(data, position, limit)
        if match and (b"\n" not in match.group() or self._fits(data, match.end(), limit, before)):
            return match.group(1).replace(b'""', b'"'), match.end()
        match = self.escaped.match(data, position, limit)
        if match:
            return re.sub(rb'\\(["\\])', rb"\1", match.group(1)).replace(b'""', b'"'), match.end()
        bare = self.bare.match(data, position, limit)
        assert bare is not None
        return None, (bare.end() if bare.group().count(b'"') > 1 else -1)

    def _fits(self, data: bytes, end: int, limit: int, before: int) -> bool:
        """Whether a record with a value over several lines has as many values as rows or the header."""
        tail = re.sub(rb'"[^"]*(?:""[^"]*)*"', b"", data[end : _line_end(data, end, limit)])
        width = before + 1 + tail.count(self.sign)
        return self.least <= width <= self.width or (width < self.width and b'"' in tail)


def _line_starts(data: bytes) -> np.ndarray:
    """Where lines begin, and the end of the last; int32, as Arrow's strings have them."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    starts = np.concatenate([[0], ends, [] if len(ends) and ends[-1] == len(data) else [len(data)]])
    return starts.astype(np.int32)


def _line_end(data: bytes, position: int, limit: int) -> int:
    """Where the line feed after a place is, or `limit`."""
    end = data.find(b"\n", position, limit)
    return end if end >= 0 else limit
