"""Files of tables as record batches of a bounded size."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.files import PARQUET_ENDINGS
from tfrec_fusion.datasets.storage import is_remote, open_remote
from tfrec_fusion.datasets.tables import Csv

PLAIN = Csv()


def read_batches(
    path: str, columns: tuple[str, ...], table: str = "table", rows: int = 65_536, csv: Csv = PLAIN
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


def csv_columns(path: str, csv: Csv = PLAIN) -> list[str]:
    """The names in a CSV file's header line."""
    with pa.csv.open_csv(_open(path, stream=True), **_csv_options(path, csv)) as reader:
        return reader.schema.names


def _csv_options(path: str, csv: Csv) -> dict:
    delimiter = csv.delimiter or ("\t" if path.lower().endswith((".tsv", ".tsv.gz")) else ",")
    return {
        "parse_options": pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "read_options": pa.csv.ReadOptions(encoding=csv.encoding or "utf-8"),
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
