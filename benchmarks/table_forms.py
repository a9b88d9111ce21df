"""Forms in which random tables are written: delimited text, JSON, Parquet."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import json
import lzma
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.hostile_values import ENCODINGS, HOSTILE_IDS


@dataclasses.dataclass
class Column:
    """A column of a table.

    Attributes:
        name: what the table calls it.
        values: what a reader should find in each row: text as written, None where there is nothing.
        raw: what a typed format holds in each row.
        times: nanoseconds since 1970 where it is a column of times.
        kind: `id`, `text`, `number`, `list`, `flag` or `time`.
    """

    name: str
    values: list[str | None]
    raw: list[Any] | None = None
    times: list[int | None] | None = None
    kind: str = "text"

    def typed(self) -> list[Any]:
        return self.values if self.raw is None else self.raw


@dataclasses.dataclass
class Table:
    """A table, and how it was written.

    Attributes:
        columns: in the order in which they were written.
        pattern: the name of its file, or what its files have in common.
        form: in words, for a finding.
        header: whether its file names its columns.
        short: rows that were written with too few values.
    """

    columns: list[Column]
    pattern: str = ""
    form: str = ""
    header: bool = True
    short: int = 0

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def __len__(self) -> int:
        return len(self.columns[0].values)


@dataclasses.dataclass
class Text:
    """Delimited text."""

    delimiter: str
    encoding: str
    quoted: bool
    always: bool
    ending: str
    end: str
    header: bool
    trailing: bool
    press: str

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        if {column.values[0] for column in table.columns} & {*HOSTILE_IDS}:
            self.header = True  # nothing tells that the first row holds no names
        table.header = self.header
        table.form = f"{self}"
        count = len(table)
        files = 2 if self.header and count > 60 and rng.random() < 0.15 else 1
        table.pattern = (
            f"{name}{self.ending}{self.press}" if files == 1 else f"{name}*{self.ending}{self.press}"
        )
        for number in range(files):
            rows = range(number * count // files, (number + 1) * count // files)
            lines = [[column.name for column in table.columns]] if self.header else []
            above = self.header and self.quoted and len(table.columns) > 2 and rng.random() < 0.08
            lines: list[list[str] | None] = [*lines]
            lines += [[column.values[row] or "" for column in table.columns] for row in rows]
            if len(table.columns) > 2 and len(rows) > 70 and rng.random() < 0.2:
                lines.insert(rng.randrange(40, len(lines)), ["short"])
                table.short += 1
            if self.quoted and len(table.columns) > 2 and len(rows) > 70 and rng.random() < 0.1:
                lines.insert(rng.randrange(40, len(lines)), None)
                table.short += 1
            text = self._lines(lines)
            if above and not self.trailing:
                text = f"# exported{self.end}# by a shop{self.end}{text}"
                table.short += 2
            data = text.encode(self.encoding)
            path = folder / table.pattern.replace("*", f"_{number + 1}")
            path.write_bytes(PRESSES[self.press](data))

    def _lines(self, lines: list[list[str] | None]) -> str:
        if not self.quoted:
            written = [self.delimiter.join(line) for line in lines]
        else:
            written = []
            for line in lines:
                if line is None:
                    written.append(f'x{self.delimiter}"never closed{self.delimiter}5')
                    continue
                out = io.StringIO()
                quoting = csv.QUOTE_ALL if self.always else csv.QUOTE_MINIMAL
                csv.writer(out, delimiter=self.delimiter, quoting=quoting, lineterminator="\r\n").writerow(
                    line
                )
                written.append(out.getvalue()[:-2])
        tail = self.delimiter if self.trailing else ""
        written = [line + (tail if number or not self.header else "") for number, line in enumerate(written)]
        return self.end.join(written) + self.end


@dataclasses.dataclass
class Json:
    lines: bool
    press: str
    encoding: str = "utf-8"
    quoted: bool = True

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        rows = [
            {
                column.name: value
                for column, value in zip(table.columns, values, strict=True)
                if value is not None
            }
            for values in zip(*(column.typed() for column in table.columns), strict=True)
        ]
        # A column without a value is not there.
        table.columns = [
            column for column in table.columns if any(value is not None for value in column.values)
        ]
        if self.lines:
            body = "\n".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows) + "\n"
        else:
            body = json.dumps(rows, indent=rng.choice([None, 1]))
        table.form, table.pattern = f"{self}", name + (".jsonl" if self.lines else ".json") + self.press
        (folder / table.pattern).write_bytes(PRESSES[self.press](body.encode()))


@dataclasses.dataclass
class Parquet:
    encoding: str = "utf-8"
    quoted: bool = True

    def write(self, rng: random.Random, table: Table, folder: pathlib.Path, name: str) -> None:
        arrays = [_array(rng, column) for column in table.columns]
        table.pattern = f"{name}.parquet"
        table.form = (
            "Parquet"
            f" {[(c.name[:20], str(array.type)) for c, array in zip(table.columns, arrays, strict=True)]}"
        )
        whole = pa.table(arrays, names=[column.name for column in table.columns])
        pq.write_table(whole, folder / table.pattern, row_group_size=rng.choice([7, 50, 10_000]))


def _array(rng: random.Random, column: Column) -> pa.Array:
    if column.kind == "time" and rng.random() < 0.5:
        unit = rng.choice(["s", "ms", "us", "ns"])
        size = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
        assert column.times is not None
        column.times = [None if time is None else time // size * size for time in column.times]
        values = [None if time is None else time // size for time in column.times]
        column.values = [None if time is None else "?" for time in column.times]
        return pa.array(values, pa.timestamp(unit, rng.choice([None, "UTC", "Europe/Berlin"])))
    if column.raw is not None:
        present = [value for value in column.raw if value is not None]
        if column.kind == "id" and present:
            kinds = [pa.uint64()] if max(present) >= 2**63 else [pa.int64(), pa.uint64()]
            if max(present) < 2**31:
                kinds += [pa.int32(), pa.float64(), pa.decimal128(20, 2)]
            return pa.array(column.raw, rng.choice(kinds))
        return pa.array(column.raw)
    if column.kind == "list" and rng.random() < 0.6:
        column.kind = "native list"
        inner = rng.choice([pa.string(), pa.binary(), pa.large_string()])
        split = [
            None if value is None else [part.encode() for part in value.split("|")] for value in column.values
        ]
        return pa.array(split, pa.list_(pa.binary())).cast(pa.list_(inner))
    kind = rng.randrange(4)
    if kind == 0:
        return pa.array(column.values, pa.string()).dictionary_encode()
    kinds = (pa.string(), pa.large_string(), pa.binary())
    values = (
        [None if value is None else value.encode() for value in column.values] if kind == 3 else column.values
    )
    return pa.array(values, kinds[kind - 1])


def _arrow(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PRESSES: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: _arrow(data, "zstd"),
    ".lz4": lambda data: _arrow(data, "lz4"),
}


def draw_form(rng: random.Random) -> Text | Json | Parquet:
    kind = rng.random()
    press = rng.choice(list(PRESSES)) if rng.random() < 0.3 else ""
    if kind < 0.2:
        return Parquet()
    if kind < 0.35:
        return Json(rng.random() < 0.7, press)
    delimiter = rng.choice([",", ",", ",", ";", "\t", "|", "::", "\x01"])
    quoted = delimiter not in ("::", "\x01")
    return Text(
        delimiter,
        rng.choice(ENCODINGS),
        quoted,
        rng.random() < 0.2,
        rng.choice([".csv", ".csv", ".txt", ".dat", ".tsv", ".data"]),
        rng.choice(["\n", "\n", "\n", "\r\n", "\r\n", "\r"]),
        rng.random() < 0.85,
        rng.random() < 0.1,
        press,
    )
