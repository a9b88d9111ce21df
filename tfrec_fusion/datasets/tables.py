"""The three tables that everything starts from, as the names and roles of their columns.

A source is described by an `Tables` value (in YAML: the keys under `data`). Files are CSV or Parquet, told
apart by their ending; a path may be a glob, so that a table can be many files.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.storage import find_remote, fingerprint, is_remote, open_remote

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


@dataclasses.dataclass(frozen=True)
class Csv:
    """How a CSV file is written.

    Attributes:
        delimiter: between columns; None: a tab in files that end in `.tsv`, else a comma.
        encoding: for example `latin-1`.
        decimal: the sign before decimals, `.` or `,`.
        nulls: what stands for nothing besides an empty field, for example `NULL`.
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    nulls: tuple[str, ...] = ()

    def __post_init__(self):
        if self.delimiter is not None and len(self.delimiter.encode()) != 1:
            raise ConfigError(
                f"`csv.delimiter` must be one ASCII character. Received: {self.delimiter!r}. Write the file again with one."
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise ConfigError(
                f"`csv.encoding` must be a known one. Received: {self.encoding!r}. Try utf-8."
            ) from error


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Who chose what, and when.

    Attributes:
        path: file or glob.
        user, item: id columns; integers and strings both become strings.
        time: seconds since 1970 (any number), or dates and times that pandas reads (ISO 8601 best). None where nothing is
            known of times: each person's interactions are then put in a fixed random order.
        label: optional number that the person gave: a rating, a grade.
        context: optional columns known when the choice is made (device, shop, campaign), used as categories.
        time_format: how `time` is written where that is not plain: `ms` for milliseconds since 1970 (also `s`, `us`,
            `ns`), or a format of `strptime` such as `%d/%m/%Y %H:%M`.
        quantity: optional number of pieces; a row where it is not above 0 (a return, a cancelled order) is rejected.
        csv: how a CSV file is written.
    """

    path: str
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = "timestamp"
    label: str | None = None
    context: tuple[str, ...] = ()
    time_format: str | None = None
    quantity: str | None = None
    csv: Csv = Csv()

    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        optional = (name for name in (self.time, self.label, self.quantity) if name)
        return tuple(dict.fromkeys((self.user, self.item, *optional, *self.context)))


@dataclasses.dataclass(frozen=True)
class Items:
    """What can be chosen.

    Attributes:
        path: file or glob.
        id: id column.
        title: what a person is shown; the id where absent.
        text: columns that say what an item is, read by the text tower in this order.
        categories: columns of one value each.
        lists: columns of several values each, joined by `separator` (or Parquet lists).
        numbers: numeric columns; a value that is no number counts as missing.
        vectors: ready-made vectors (Parquet lists of one length).
        separator: between the values of a `lists` column.
        distinct: whether the table is no list of items but says with each of many rows what the item is (an order line
            with the product's name). Of each column the most frequent value counts; rows that repeat an id are no
            rejects.
        csv: how a CSV file is written.
    """

    path: str
    id: str = "item_id"
    title: str | None = None
    text: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    separator: str = "|"
    distinct: bool = False
    csv: Csv = Csv()


@dataclasses.dataclass(frozen=True)
class Users:
    """Optional: what is known of people. `categories`, `numbers`, `distinct` and `csv` as for `Items`."""

    path: str
    id: str = "user_id"
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    distinct: bool = False
    csv: Csv = Csv()


@dataclasses.dataclass(frozen=True)
class Tables:
    """The three tables of one source."""

    interactions: Interactions
    items: Items
    users: Users | None = None

    def columns(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, path and needed columns of each table."""
        interactions, items, users = self.interactions, self.items, self.users
        title = (items.title,) if items.title else ()
        tables = [
            (
                "interactions",
                interactions.path,
                interactions.columns(),
            ),
            (
                "items",
                items.path,
                (
                    items.id,
                    *title,
                    *items.text,
                    *items.categories,
                    *items.lists,
                    *items.numbers,
                    *items.vectors,
                ),
            ),
        ]
        if users:
            tables.append(("users", users.path, (users.id, *users.categories, *users.numbers)))
        return [(name, path, tuple(dict.fromkeys(needed))) for name, path, needed in tables]


def find_files(path: str, table: str = "table") -> list[str]:
    """The files of a table, sorted.

    Raises:
        ConfigError: where there is none, or one of another kind than CSV and Parquet.
    """
    place = pathlib.Path(path).expanduser()
    if is_remote(path):
        found = find_remote(path)
    elif place.is_dir():
        found = sorted(
            str(file) for file in place.iterdir() if file.name.lower().endswith(PARQUET_ENDINGS + CSV_ENDINGS)
        )
    elif any(sign in path for sign in "*?["):
        found = sorted(
            str(file) for file in pathlib.Path(place.anchor or ".").glob(str(place.relative_to(place.anchor)))
        )
    else:
        found = [str(place)] if place.exists() else []
    if not found:
        raise ConfigError(f"The {table} table has no file at {path!r}. Mend `data.{table}.path`.")
    for file in found:
        if not file.lower().endswith(PARQUET_ENDINGS + CSV_ENDINGS):
            raise ConfigError(
                f"The {table} table must be CSV or Parquet ({', '.join(CSV_ENDINGS + PARQUET_ENDINGS)}). Received: {file!r}."
            )
    return found


def read_batches(
    path: str, columns: tuple[str, ...], table: str = "table", rows: int = 65_536, csv: Csv = Csv()
) -> Iterator[pa.RecordBatch]:
    """Streams one file in batches of a bounded size.

    Args:
        path: a CSV or Parquet file. CSV columns are read as strings, so that ids such as `007` survive;
            an empty field is null.
        columns: the columns wanted.
        table: the table's name, for messages.
        rows: the most rows a batch holds.
        csv: how a CSV file is written.

    Yields:
        Record batches with exactly `columns`, in that order.

    Raises:
        ConfigError: if the file cannot be read, holds no rows or lacks a column.
    """
    name = path.lower()
    try:
        if name.endswith(PARQUET_ENDINGS):
            source = pa.parquet.ParquetFile(_open(path))
            _check_columns(source.schema_arrow.names, columns, path, table)
            batches: Iterator[pa.RecordBatch] = source.iter_batches(batch_size=rows, columns=list(columns))
        else:
            batches = _open_csv(path, columns, csv, table)
        empty = True
        for batch in batches:
            empty = empty and batch.num_rows == 0
            for start in range(0, batch.num_rows, rows):
                yield _plain(batch.slice(start, rows).select(list(columns)))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"The {table} file {path!r} cannot be read: {error}") from error
    if empty:
        raise ConfigError(f"The {table} file {path!r} has no rows below its header. Give it some.")


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionary columns (categories of pandas) as the values that they stand for."""
    if not any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
        return batch
    arrays = [
        array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def csv_columns(path: str, csv: Csv = Csv()) -> list[str]:
    """The names in a CSV file's header line."""
    with pa.csv.open_csv(_open(path, stream=True), **_csv_options(path, csv)) as reader:
        return reader.schema.names


def _csv_options(path: str, csv: Csv) -> dict:
    delimiter = csv.delimiter or ("\t" if path.lower().endswith((".tsv", ".tsv.gz")) else ",")
    return {
        "parse_options": pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "read_options": pa.csv.ReadOptions(encoding=csv.encoding),
    }


def _open_csv(path: str, columns: tuple[str, ...], csv: Csv, table: str) -> Iterator[pa.RecordBatch]:
    if not is_remote(path) and pathlib.Path(path).stat().st_size == 0:
        raise ConfigError(f"The {table} file {path!r} is empty. Give it a header line and rows.")
    _check_columns(csv_columns(path, csv), columns, path, table)
    convert = pa.csv.ConvertOptions(
        column_types={column: pa.string() for column in columns},
        include_columns=list(columns),
        strings_can_be_null=True,
        null_values=["", *csv.nulls],
    )
    return iter(pa.csv.open_csv(_open(path, stream=True), convert_options=convert, **_csv_options(path, csv)))


def _open(path: str, stream: bool = False):
    """What Arrow's readers take: a local path as it is, a remote file opened (a stream is decompressed by its ending)."""
    if not is_remote(path):
        return path
    filesystem, inside = open_remote(path)
    try:
        return filesystem.open_input_stream(inside) if stream else filesystem.open_input_file(inside)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error}") from error


def _check_columns(found: list[str], wanted: tuple[str, ...], path: str, table: str) -> None:
    missing = [column for column in wanted if column not in found]
    if missing:
        raise ConfigError(
            f"The {table} file {path!r} has no column {', '.join(map(repr, missing))}. "
            f"It has: {', '.join(found)}. Mend the names under `data.{table}`."
        )


def source_digest(tables: Tables) -> str:
    """A digest of every byte that the tables hold (of remote files, of their sizes and times); it changes when any does."""
    digests = [table_digest(name, path, columns) for name, path, columns in tables.columns()]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def table_digest(name: str, path: str, columns: tuple[str, ...]) -> str:
    """The same of one table."""
    digest = hashlib.sha256(repr((name, columns)).encode())
    for file in find_files(path, name):
        if is_remote(file):
            digest.update(fingerprint(file))
            continue
        with open(file, "rb") as stream:
            digest.update(
                hashlib.file_digest(stream, "sha256").digest()
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(stream.read()).digest()
            )
    return digest.hexdigest()
