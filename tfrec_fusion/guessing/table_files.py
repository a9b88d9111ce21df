"""Files of a folder as tables: how each is written, its columns, and which files belong to one table."""

from __future__ import annotations

import csv as csv_module
import dataclasses
import itertools
import pathlib
import re
import statistics

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.byte_streams import first_bytes
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.dialect import detect_kind, name_blanks, read_dialect
from tfrec_fusion.datasets.files import is_table_name
from tfrec_fusion.datasets.reading import column_names
from tfrec_fusion.guessing.headers import has_no_header, made_up_names


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, how it is written, its columns, and whether their names are made up."""

    file: pathlib.Path
    csv: Csv
    names: tuple[str, ...]
    headerless: bool


def read_head(file: pathlib.Path) -> tuple[Csv, tuple[str, ...], bool]:
    kind = detect_kind(str(file))
    if kind != "csv":
        return Csv(), tuple(column_names(str(file))), False
    dialect = read_dialect(str(file), Csv())
    csv = Csv(delimiter=dialect.delimiter, encoding=dialect.encoding)
    lines = _first_lines(file, csv)
    if dialect.ragged:  # a delimiter at the end of each row that the header line does not have
        lines = [line[: len(dialect.names)] for line in lines]
    widths = [len(line) for line in lines]
    width = max(set(widths), key=lambda count: (widths.count(count), count))
    first, *rows = [line for line in lines if len(line) == width] if width > 1 else lines
    above = _lines_above(first, rows)
    first, rows = (rows[above - 1], rows[above:]) if above else (first, rows)
    if has_no_header(first, rows):
        names = made_up_names(width)
        return dataclasses.replace(csv, header=names), names, True
    names = dialect.names
    told = names[0].lower().startswith("sep=")  # for Excel, which delimiter follows
    if (len(names) < 2 or told or above) and width > 1:  # lines before the header
        names = name_blanks(tuple(cell.strip() for cell in first))
        csv = dataclasses.replace(csv, header=names) if len(set(names)) == width else csv
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"{file.name!r} names a column twice: {', '.join(map(repr, twice))}. Give each its own name."
        )
    if len(names) < 2 and file.name.lower().endswith(".txt") and not _are_ids(lines):
        raise ConfigError(
            "it is text of one column. If spaces divide its columns, put a sign between them, for example:"
            f" sed -E 's/ +/,/g' {file.name} > table.csv"
        )
    return csv, names, False


def find_parts(folder: pathlib.Path) -> tuple[str, list[pathlib.Path], dict[str, str]]:
    """The files of a folder that holds one table in parts, as Spark and Hive write them: `part-0000…`, or
    folders such as `date=2024-01-31`.

    Args:
        folder: stands beside other tables.

    Returns:
        What `path` must be to read them, from the folder's own name on; the files, at most `MOST_PARTS`; of
        each key in the folders' names the first value. No files where it holds several tables, or none.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and is_table_name(file.name)]
    inner = [file.relative_to(folder).parts for file in files]
    files = [file for file, parts in zip(files, inner, strict=True) if not _is_hidden(parts)]
    inner = [parts for parts in inner if not _is_hidden(parts)]
    if not files or len({len(parts) for parts in inner}) > 1 or len({file.suffix for file in files}) > 1:
        return "", [], {}
    keys = [part.partition("=") for part in inner[0][:-1]]
    if not keys:
        parts = all(re.match(r"part-|\d+[_\d]*(\.|$)", file.name) for file in files)
        single = is_table_name(folder.name) or (folder / "_SUCCESS").exists() or parts
        return (folder.name, files[:MOST_PARTS], {}) if single else ("", [], {})
    if not all("=" in part for parts in inner for part in parts[:-1]):
        return "", [], {}
    path = f"{folder.name}/{'*/' * len(keys)}*{files[0].suffix}"
    return path, files[:MOST_PARTS], {key: value for key, _, value in keys}


MOST_PARTS = 200


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def _lines_above(first: list[str], rows: list[list[str]]) -> int:
    """How many lines stand above the one with the names: a report's title, which leaves most cells empty."""

    def filled(line: list[str]) -> float:
        return sum(bool(cell.strip()) for cell in line) / len(line)

    if len(first) < 3 or filled(first) > 0.5 or not rows:
        return 0
    usual = statistics.median(map(filled, rows))
    full = next((number for number, line in enumerate(rows[:15], 1) if filled(line) >= usual), 0)
    return full if full and not has_no_header(rows[full - 1], rows[full:]) else 0


def _are_ids(lines: list[list[str]]) -> bool:
    """Whether lines hold several ids each, with spaces between them."""
    pattern = re.compile(r"[\w.\-]*\d[\w.\-]*(?:\s+[\w.\-]*\d[\w.\-]*)*")
    return sum(bool(pattern.fullmatch(" ".join(line).strip())) for line in lines) > 0.9 * len(lines)


def _first_lines(file: pathlib.Path, csv: Csv) -> list[list[str]]:
    """Cells of the first lines."""
    assert csv.delimiter and csv.encoding
    text = first_bytes(str(file), 1 << 16).decode(csv.encoding, "replace").removeprefix("\ufeff")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    lines = lines[:-1][:60] if len(lines) > 2 else lines  # the last may be cut
    if len(csv.delimiter) > 1:
        return [line.split(csv.delimiter) for line in lines]
    return [row for row in csv_module.reader([f"{line}\n" for line in lines], delimiter=csv.delimiter) if row]


def group(sources: list[Source]) -> list[tuple[str, list[Source]]]:
    """Files of one table go together: `orders-2023.csv` and `orders-2024.csv`, with the same columns."""

    def stem(source: Source) -> str:
        name, dot, ending = source.file.name.partition(".")
        whole = re.sub(r"(?:\.\d+)+(?=\.)", "*", f"{name}{dot}{ending}")
        first, dot, rest = whole.partition(".") if "*" not in whole else whole.partition("*")
        return re.sub(r"\*+", "*", re.sub(r"[-_ ]*\d[\d\-_]*", "*", first) + dot + rest)

    groups = []
    keyed = sorted(sources, key=lambda source: (stem(source), source.names))
    for (pattern, _), members in itertools.groupby(keyed, key=lambda source: (stem(source), source.names)):
        files = list(members)
        matched = [source for source in sources if source.file.match(pattern)] if "*" in pattern else []
        if len(files) > 1 and {id(source) for source in matched} == {id(source) for source in files}:
            groups.append((pattern, files))
        else:
            groups += [(source.file.name, [source]) for source in files]
    return groups
