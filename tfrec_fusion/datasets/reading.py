"""Files of tables as record batches of a bounded size, whatever they are written in."""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import json_rows
from tfrec_fusion.datasets.byte_streams import first_bytes, open_raw, open_stream
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.dialect import Dialect, detect_kind, read_dialect
from tfrec_fusion.datasets.encodings import detect_encoding
from tfrec_fusion.datasets.records import SEPARATOR, BadRow, Block, blocks

PLAIN = Csv()
NAMING_ROWS = 1000  # objects of JSON whose keys are the columns
_SAMPLE = 1 << 24
Report = Callable[[BadRow], None]


def refuse(row: BadRow) -> None:
    """The strictest way to deal with a row that cannot be read: an error."""
    raise ConfigError(f"A row cannot be read: {row}. Mend it, or read the table where bad rows are counted.")


def read_batches(
    path: str,
    columns: tuple[str, ...],
    table: str = "table",
    rows: int = 65_536,
    csv: Csv = PLAIN,
    report: Report = refuse,
) -> Iterator[pa.RecordBatch]:
    """Streams one file in batches of a bounded size.

    Args:
        path: CSV, JSON or Parquet, as its content says. Columns of CSV are read as strings, so that ids such
            as `007` survive; an empty field is null.
        columns: the requested columns.
        table: the table's name, for messages.
        rows: the most rows a batch holds.
        csv: how a CSV file is written.
        report: is told of each row that cannot be read.

    Yields:
        Record batches with exactly `columns`, in that order.

    Raises:
        ConfigError: if the file cannot be read, holds no rows or lacks a column.
    """
    kind = detect_kind(path)
    read = {"parquet": _read_parquet, "json": _read_json, "csv": _read_csv}[kind]
    bad = 0

    def count(row: BadRow) -> None:
        nonlocal bad
        bad += 1
        report(row)

    empty = True
    try:
        for batch in read(path, columns, table, rows, csv, count):
            empty = empty and batch.num_rows == 0
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)
    except (pa.ArrowInvalid, EOFError, lzma.LZMAError, OSError) as error:
        raise ConfigError(f"The {table} file {path!r} cannot be read: {error}") from error
    if empty and not bad:
        raise ConfigError(f"The {table} file {path!r} has no rows below its header. Give it some.")


def column_names(path: str, csv: Csv = PLAIN) -> list[str]:
    """The names of a file's columns; of JSON, the keys of its first objects.

    Raises:
        ConfigError: where the file cannot be read.
    """
    kind = detect_kind(path)
    if kind == "csv":
        return list(read_dialect(path, csv).names)
    try:
        if kind == "parquet":
            return list(pa.parquet.ParquetFile(open_raw(path, seekable=True)).schema_arrow.names)
        names: dict[str, None] = {}
        for number, row in enumerate(_objects(path, lambda _: None)):
            names |= dict.fromkeys(map(str, row))
            if number >= NAMING_ROWS:
                break
        return list(names)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path!r} cannot be read: {error}") from error


def _check_columns(
    results: list[str] | tuple[str, ...], requested: tuple[str, ...], path: str, table: str
) -> None:
    missing = [column for column in requested if column not in results]
    if missing:
        raise ConfigError(
            f"The {table} file {path!r} has no column {', '.join(map(repr, missing))}. "
            f"It has: {', '.join(results)}. Mend the names under `data.{table}`."
        )
    twice = sorted({column for column in requested if list(results).count(column) > 1})
    if twice:
        raise ConfigError(
            f"The {table} file {path!r} has the column {', '.join(map(repr, twice))} more than once. Give"
            " each its own name."
        )


def _read_parquet(
    path: str, columns: tuple[str, ...], table: str, rows: int, csv: Csv, report: Report
) -> Iterator[pa.RecordBatch]:
    source = pa.parquet.ParquetFile(open_raw(path, seekable=True))
    _check_columns(source.schema_arrow.names, columns, path, table)
    for batch in source.iter_batches(batch_size=rows, columns=list(columns)):
        yield batch.select(list(columns))


def _objects(path: str, report: Report) -> Iterator[dict]:
    encoding = detect_encoding(first_bytes(path, _SAMPLE))
    with open_stream(path) as stream:
        yield from json_rows.json_objects(
            stream, path, encoding, lambda line, reason, text: report(BadRow(path, line, reason, text))
        )


def _read_json(
    path: str, columns: tuple[str, ...], table: str, rows: int, csv: Csv, report: Report
) -> Iterator[pa.RecordBatch]:
    found: dict[str, None] = {}
    missing = set(columns)
    cells: list[list] = [[] for _ in columns]
    for row in _objects(path, report):
        if missing:
            missing -= row.keys()
            found |= dict.fromkeys(map(str, row))
        for name, values in zip(columns, cells, strict=True):
            values.append(row.get(name))
        if len(cells[0]) >= rows:
            yield pa.RecordBatch.from_arrays(
                [json_rows.column(values) for values in cells], names=list(columns)
            )
            cells = [[] for _ in columns]
    if missing:
        _check_columns(tuple(found), columns, path, table)
    yield pa.RecordBatch.from_arrays([json_rows.column(values) for values in cells], names=list(columns))


def _read_csv(
    path: str, columns: tuple[str, ...], table: str, rows: int, csv: Csv, report: Report
) -> Iterator[pa.RecordBatch]:
    dialect = read_dialect(path, csv)
    _check_columns(dialect.names, columns, path, table)
    header = dialect.header
    with open_stream(path) as stream:
        for block in blocks(
            stream,
            dialect,
            lambda line, reason, text: report(
                BadRow(path, line, reason, text.replace("\x1f", dialect.delimiter))
            ),
        ):
            parsed = _parse(block, dialect, columns, csv, path, report, header)
            header = False
            if parsed is not None:
                yield from parsed.to_batches()


def _parse(
    block: Block,
    dialect: Dialect,
    columns: tuple[str, ...],
    csv: Csv,
    path: str,
    report: Report,
    header: bool,
) -> pa.Table | None:
    """One block by Arrow; rows of another width are reported with their lines."""
    names = [f"f{position}" for position in range(len(dialect.names) + dialect.ragged)]
    chosen = [names[dialect.names.index(column)] for column in columns]
    wrong: list[pa.csv.InvalidRow] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    sign = dialect.delimiter.encode()
    several = len(sign) > 1
    quotes = dialect.quoted and b'"' in block.data
    data = pa.py_buffer(block.data)
    parse = pa.csv.ParseOptions(
        delimiter=SEPARATOR.decode() if several else dialect.delimiter,
        quote_char='"' if quotes else False,
        newlines_in_values=quotes,
        invalid_row_handler=skip,
    )
    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in chosen},
        include_columns=chosen,
        strings_can_be_null=True,
        null_values=["", *csv.nulls],
        check_utf8=False,
    )
    read = pa.csv.ReadOptions(
        column_names=names, block_size=len(block.data) + 1, skip_rows_after_names=int(header)
    )
    try:
        result = pa.csv.read_csv(
            pa.BufferReader(data), read_options=read, parse_options=parse, convert_options=convert
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return None
        raise
    _report_widths(block, wrong, path, dialect, report, header)
    result = result.rename_columns(list(columns))
    return _without_names(result) if csv.header else result


def _without_names(table: pa.Table) -> pa.Table:
    """The rows but for a header line that stands below others: of a file that begins with comments,
    `csv.header` says it again."""
    blank = re.compile(r"column_\d+")  # a column that has no name in the file
    if all(map(blank.fullmatch, table.column_names)):
        return table
    names = pa.scalar(True)
    for column in table.column_names:
        alike = pc.fill_null(pc.equal(table.column(column), column), blank.fullmatch(column) is not None)
        names = pc.and_(names, alike)
    return table.filter(pc.invert(names))


def _report_widths(
    block: Block, wrong: list[pa.csv.InvalidRow], path: str, dialect: Dialect, report: Report, header: bool
) -> None:
    position = 0
    for row in wrong:
        text = row.text.encode()
        result = _find_row(block.data, text, position)
        position = result + len(text)
        if header and result == 0:
            continue
        more = "too many" if row.actual_columns > row.expected_columns else "too few"
        report(
            BadRow(path, block.line_of(result), f"{more} values", row.text.replace("\x1f", dialect.delimiter))
        )


def _find_row(data: bytes, text: bytes, start: int) -> int:
    """Where a row of this very text begins, from `start` on."""
    while (offset := data.find(text, start)) >= 0:
        end = offset + len(text)
        if (offset == 0 or data[offset - 1] in b"\r\n") and (end == len(data) or data[end] in b"\r\n"):
            return offset
        start = offset + 1
    return start
