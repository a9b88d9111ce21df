"""Detection of how a file is written, from its content: Parquet, JSON or delimited text, encoding and
delimiter."""

from __future__ import annotations

import csv as csv_module
import dataclasses
import re
from collections.abc import Iterator
from typing import Literal

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.byte_streams import first_bytes
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.encodings import detect_encoding

Kind = Literal["parquet", "json", "csv"]
_SAMPLE = 1 << 18
_ENCODING_SAMPLE = 1 << 24
_SQL = re.compile(
    r"(?is)-- (?:MySQL|MariaDB|PostgreSQL|SQLite)|(?:--[^\n]*\n|/\*.*?\*/;?|\s)*"
    r"(?:create table|insert into|drop table|copy \S+ (?:\(|from\b))"
)
_DELIMITERS = (",", ";", "\t", "|", "::", "\x01", "^")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How one text file is written.

    Attributes:
        delimiter, encoding: as in `Csv`, told from the content where that says nothing.
        names: of the columns, in order; None for JSON.
        header: whether the first line holds the names.
        quoted: whether quotes around a value are not part of it.
        returns: whether lines end in a carriage return alone.
        ragged: whether rows end in a delimiter that the header line does not have.
    """

    delimiter: str
    encoding: str
    names: tuple[str, ...] = ()
    header: bool = True
    quoted: bool = True
    returns: bool = False
    ragged: bool = False


def detect_kind(path: str) -> Kind:
    """What a file is, whatever its name ends in.

    Raises:
        ConfigError: where it is empty, or an archive or workbook.
    """
    start = first_bytes(path, 4096)
    if start[:4] == b"PAR1":
        return "parquet"
    if not start.strip():
        raise ConfigError(f"The file {path!r} is empty. Give it a header line and rows.")
    for magic, name, advice in (
        (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save its sheet as CSV."),
        (b"\xd0\xcf\x11\xe0", "an Excel workbook", "Save its sheet as CSV."),
        (b"%PDF", "a PDF", "Export the table as CSV."),
        (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
        (b"ORC", "an ORC file", "Write the table as Parquet."),
        (b"ARROW1", "an Arrow file", "Write the table as Parquet."),
        (b"Obj\x01", "an Avro file", "Write the table as Parquet."),
        (b"FEA1", "a Feather file", "Write the table as Parquet."),
        (b"\xff\xff\xff\xff", "an Arrow stream", "Write the table as Parquet."),
        (b"\x93NUMPY", "a NumPy array", "Write the table as Parquet."),
        (b"\x80\x04", "a Python pickle", "Write the table as Parquet."),
        (b"\x80\x05", "a Python pickle", "Write the table as Parquet."),
        (b"MATLAB", "a MATLAB file", "Write the table as Parquet."),
        (b"Rar!", "a rar archive", "Unpack it."),
        (b"7z\xbc\xaf", "a 7z archive", "Unpack it."),
        (b"\x89PNG", "a picture", "Name a table."),
        (b"\x89HDF", "an HDF5 file", "Write the table as Parquet."),
    ):
        # `ORCID` is the name of a column.
        if start.startswith(magic) and (not magic.isalnum() or b"\0" in start):
            raise ConfigError(f"A table must be CSV, JSON or Parquet. Received: {name}, {path!r}. {advice}")
    if start[257:262] == b"ustar":
        raise ConfigError(
            f"A table must be CSV, JSON or Parquet. Received: a tar archive, {path!r}. Unpack it."
        )
    text = start.decode(detect_encoding(start), "replace").lstrip("\ufeff \t\r\n")
    if _SQL.match(text):
        raise ConfigError(
            f"A table must be CSV, JSON or Parquet. Received: an SQL dump, {path!r}. Load it into its"
            " database, and export the table as CSV."
        )
    return "json" if re.match(r"\{\s*[\"'}]|\[\s*\{|\[\s*$", text) else "csv"


def read_dialect(path: str, csv: Csv) -> Dialect:
    """How a text file is written.

    Args:
        path: the file.
        csv: what is known; the rest is told from the content.

    Raises:
        ConfigError: where it is empty, or its lines are grouped under headings.
    """
    encoding = csv.encoding or detect_encoding(first_bytes(path, _ENCODING_SAMPLE))
    text = first_bytes(path, _SAMPLE).decode(encoding, "replace").lstrip("\ufeff")
    if not text.strip():
        raise ConfigError(f"The file {path!r} is empty. Give it a header line and rows.")
    returns = "\n" not in text and "\r" in text
    lines = [line for line in re.split(r"\r\n|\n|\r" if returns else r"\r?\n", text) if line]
    lines = (
        lines[:-1][:200] if len(text) >= _SAMPLE // 4 and len(lines) > 2 else lines[:200]
    )  # the last may be cut
    delimiter = csv.delimiter or _delimiter(lines, ".tsv" in path.lower())
    _refuse_headings(path, lines, delimiter)
    quoted = len(delimiter.encode()) == 1 and _is_quoted(
        text.replace("\r", "\n") if returns else text, delimiter
    )
    if csv.header:
        names, rows = csv.header, lines
    else:
        names, rows = tuple(_cells(lines[0], delimiter, quoted, lines)), lines[1:]
    cells = [(line, len(found)) for line in rows[:100] if (found := _cells(line, delimiter, quoted))]
    widths = [width for _, width in cells]
    # Lines that hold a whole row: a value over several lines divides others.
    whole = [(line, width) for line, width in cells if len(names) <= width <= len(names) + 1]
    more = [line for line, width in whole if width > len(names)]
    ragged = len(more) > 0.8 * len(whole) and all(line.rstrip("\r").endswith(delimiter) for line in more)
    ragged = ragged and len(whole) > 0.5 * len(cells)
    if (
        len(names) > 1
        and names[-1] == ""
        and widths
        and sum(width == len(names) - 1 for width in widths) > 0.8 * len(widths)
    ):
        names = names[:-1]
    names = csv.header or name_blanks(names)
    return Dialect(delimiter, encoding, names, not csv.header, quoted, returns, ragged)


def name_blanks(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns where several are blank, as spreadsheets leave them at the end: `column_6` by their
    position. One that is blank, as pandas' index is, keeps no name."""
    blank = sum(not name.strip() for name in names)
    made_up = (f"column_{position}" for position in range(1, len(names) + 1))
    return tuple(
        name if name.strip() or blank < 2 else other for name, other in zip(names, made_up, strict=True)
    )


_HEADING = re.compile(r"[^,;|\t]{1,60}:\r?")


def _refuse_headings(path: str, lines: list[str], delimiter: str) -> None:
    """Refuses rows that stand in blocks below `17:`, as the Netflix Prize has them: a row does not say there
    what its block is of, and what it does say would be taken for it."""
    rows = [line for line in lines if not _HEADING.fullmatch(line)]
    if lines[0] in rows or not rows or sum(delimiter in line for line in rows) < 0.9 * len(rows):
        return
    raise ConfigError(
        "Each line of a table must say all of its row. Received: rows in blocks below lines such as"
        f" {lines[0].strip()!r}, in {path!r}. Write each heading into its rows, for example:"
        ' awk \'/:[[:space:]]*$/ {sub(/:[[:space:]]*$/, ""); head = $0; next}'
        f' {{print head "{delimiter}" $0}}\' FILE > rows.csv'
    )


def _cells(line: str, delimiter: str, quoted: bool, lines: list[str] | None = None) -> list[str]:
    """A line's values; of a header, whose names may hold line breaks, with the lines that it begins."""
    if quoted:
        for row in _rows(lines or [line], delimiter):
            return row
    return line.split(delimiter)


def _rows(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    """Rows of a sample; none after one that is not CSV."""
    try:
        yield from csv_module.reader((f"{line}\n".replace("\r", " ") for line in lines), delimiter=delimiter)
    except csv_module.Error:
        return


def _delimiter(lines: list[str], tabs: bool) -> str:
    first = "\t" if tabs else ","
    order = sorted(_DELIMITERS, key=lambda sign: sign != first)
    # A sign that the header line has as often as the rows comes before one inside their values:
    # `u1,5,i1|i2|i3`.
    best = max(order, key=lambda sign: (_names_fit(lines, sign), *_fit(lines, sign)))
    if _fit(lines, best)[1] >= 2:
        return best
    if len(lines) < 3:
        return first
    # `<SEP>`, `~`, `@@`: whatever divides nearly every line into as many parts; a currency does so, too.
    fits = {sign: _fit(lines, sign) for sign in _SIGN.findall(lines[0])}
    best = max(fits, key=lambda sign: (*fits[sign], len(sign)), default=first)
    if best in fits and fits[best] >= (0.95, 2 if len(best) > 1 else 3):
        return best
    spaces = _fit(lines, " ")
    return " " if spaces[0] >= 0.95 and spaces[1] >= 3 else first


_SIGN = re.compile(r"<\w{1,10}>|[^\w\s\"'.,;:!?&()\[\]{}/\\\-]+")


def _names_fit(lines: list[str], delimiter: str) -> bool:
    share, usual = _fit(lines, delimiter)
    return share >= 0.5 and len(lines[0].split(delimiter)) == usual


def _fit(lines: list[str], delimiter: str) -> tuple[float, int]:
    """How regular the lines are when divided at `delimiter`, then into how many columns."""
    best = (0.0, 0)
    ways = [[len(line.split(delimiter)) for line in lines]]
    if len(delimiter) == 1:
        ways.append([len(row) for row in _rows(lines, delimiter)])
        ways.append([len(row) for line in lines for row in _rows([line], delimiter)])
    for widths in ways:
        usual = max(set(widths), key=lambda width: (widths.count(width), width), default=0)
        if usual >= 2:
            best = max(best, (round(widths.count(usual) / len(widths), 1), usual))
    return best


def _is_quoted(text: str, delimiter: str) -> bool:
    """Whether values that begin with a quote end with one, too; in a raw dump, a title may begin with a
    quote."""
    sign = re.escape(delimiter)
    proper = re.compile(rf'(?m:^|{sign})"[^"]*(?:""[^"]*)*"(?={sign}|\r?$)', re.MULTILINE)
    opening = re.compile(rf'(?m:^|{sign})"')
    whole, begun = len(proper.findall(text)), len(opening.findall(proper.sub("", text)))
    return delimiter == "," or whole >= begun
