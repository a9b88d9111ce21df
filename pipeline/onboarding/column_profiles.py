"""What the tables of a folder look like: how they are written, and what each column holds."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import functools
import gzip
import itertools
import pathlib
import re
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from pipeline.onboarding import column_names
from pipeline.onboarding.time_formats import TimeGuess, guess_time
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.reading import column_names as names_of
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.tables import Csv
from tfrec_fusion.datasets.values import parse_numbers

SAMPLE_ROWS = 300_000
NOTHING = ("NULL", "null", "\\N", "NaN", "nan", "None", "N/A", "n/a", "#N/A", "<NA>")
PARQUET_ENDINGS = (".parquet", ".pq")
_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", *PARQUET_ENDINGS)


@dataclasses.dataclass
class Column:
    """A column's sample and what is seen in it; everything is worked out when it is first asked for.

    Attributes:
        name: as in the file.
        values: what was read, nulls left out.
        rows: how many rows were read.
        decimal: the sign before decimals.
    """

    name: str
    values: pd.Series
    rows: int
    decimal: str = "."

    @functools.cached_property
    def words_of_name(self) -> tuple[str, ...]:
        return column_names.tokens(self.name)

    @property
    def filled(self) -> float:
        """Share of rows with a value."""
        return len(self.values) / max(1, self.rows)

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether cells hold several values each, as Parquet can."""
        return len(self.values) > 0 and isinstance(self.values.iloc[0], (list, tuple, np.ndarray))

    @functools.cached_property
    def unique(self) -> pd.Series:
        """The distinct values, as strings."""
        values = self.values if not self.is_list else self.values.map(str)
        if pd.api.types.is_float_dtype(values) and ((values % 1) == 0).all():
            values = values.astype("int64")
        return values.drop_duplicates().astype("string").str.strip()

    @property
    def distinct(self) -> int:
        return len(self.unique)

    @functools.cached_property
    def numbers(self) -> pd.Series:
        """The distinct values as numbers, NaN where they are none."""
        return parse_numbers(self.unique, self.decimal)

    @functools.cached_property
    def is_number(self) -> bool:
        return (
            self.distinct > 0
            and not self.is_list
            and self.time_kind == ""
            and self.numbers.notna().mean() > 0.95
        )

    @functools.cached_property
    def is_integer(self) -> bool:
        return self.is_number and bool((self.numbers.dropna() % 1 == 0).all())

    @property
    def time_kind(self) -> str:
        """`datetime` where the file itself says that the column holds times."""
        if pd.api.types.is_datetime64_any_dtype(self.values):
            return "datetime"
        first = self.values.iloc[0] if len(self.values) else None
        return "datetime" if type(first).__name__ in ("date", "datetime", "Timestamp") else ""

    @functools.cached_property
    def time(self) -> TimeGuess | None:
        """How the column can be read as times, or None."""
        if self.is_list or not len(self.values):
            return None
        if self.time_kind:
            return TimeGuess(None, 1.0, "the file says that it holds times")
        return guess_time(self.values, self.numbers if self.is_number else None, self.words_of_name)

    @functools.cached_property
    def median_words(self) -> float:
        """Median number of words in the distinct values."""
        return float(self.unique[:5000].str.count(r"\S+").median()) if self.distinct else 0.0

    @functools.cached_property
    def long_words(self) -> float:
        """90th percentile of the number of words, over all rows."""
        return (
            float(self.values[:20_000].astype("string").str.count(r"\S+").quantile(0.9))
            if self.distinct
            else 0.0
        )

    @functools.cached_property
    def separator(self) -> str | None:
        """What divides several values in one string, or None where that does not look so."""
        if self.is_list or self.is_number or self.time or self.distinct < 3:
            return None
        sample = self.values[:20_000].astype("string")
        best: tuple[float, str] | None = None
        for sign in "|;,":
            parts = sample.str.split(sign, regex=False).explode().str.strip()
            parts = parts[parts.notna() & (parts != "")]
            several = sample.str.contains(sign, regex=False).mean()
            if several < 0.15 or parts.empty:
                continue
            reuse = len(parts) / parts.nunique()
            if reuse >= (3 if sign == "|" else 5) and parts.str.count(r"\S+").quantile(0.9) <= 3:
                best = max(best or (0.0, ""), (several, sign))
        return best[1] if best else None

    @functools.cached_property
    def vector_length(self) -> int | None:
        """Length of ready-made vectors (lists of numbers, all of one length), or None."""
        if not self.is_list:
            return None
        lengths = self.values[:2000].map(len)
        first = np.asarray(self.values.iloc[0])
        same = lengths.nunique() == 1 and lengths.iloc[0] > 1
        return int(lengths.iloc[0]) if same and first.dtype.kind == "f" else None


@dataclasses.dataclass
class TableProfile:
    """One table: a file, or several of one kind.

    Attributes:
        path: file name or glob, relative to the folder.
        files: the files.
        csv: how they are written.
        columns: by name.
        rows: rows that were read.
        whole: whether these are all.
    """

    path: str
    files: list[pathlib.Path]
    csv: Csv
    columns: dict[str, Column]
    frame: pd.DataFrame
    whole: bool

    @property
    def rows(self) -> int:
        return len(self.frame)

    @property
    def words_of_name(self) -> tuple[str, ...]:
        return tuple(word for word in column_names.tokens(pathlib.Path(self.path).name.split(".")[0]))


def read_folder(folder: pathlib.Path) -> tuple[list[TableProfile], list[str]]:
    """Profiles of all tables in a folder, and why other files were left out.

    Raises:
        ConfigError: where there is no folder, or no CSV or Parquet file in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {str(folder)!r}. Name the one that holds your tables.")
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    known = [file for file in files if file.name.lower().endswith(_ENDINGS)]
    notes = [
        f"{file.name}: not read, it is neither CSV nor Parquet ({', '.join(_ENDINGS)})"
        for file in files
        if file not in known and not file.name.lower().endswith((".yaml", ".yml", ".md", ".html", ".json"))
    ]
    if not known:
        seen = ", ".join(file.name for file in files[:8]) or "nothing"
        raise ConfigError(
            f"{str(folder)!r} holds no table ({', '.join(_ENDINGS)}). It holds: {seen}. "
            "Export your tables as CSV or Parquet into it, or name another folder."
        )
    tables = []
    for path, group in _groups(known):
        try:
            tables.append(_profile(path, group))
        except (ConfigError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
            notes.append(f"{path}: not read: {error}")
    if not tables:
        raise ConfigError("No table could be read.\n  " + "\n  ".join(notes))
    return tables, notes


def _groups(files: list[pathlib.Path]) -> list[tuple[str, list[pathlib.Path]]]:
    """Files of one table go together: `orders-2023.csv` and `orders-2024.csv`, or `orders_2024_q1.csv` and so on, with the same
    columns.
    """

    def stem(file: pathlib.Path) -> str:
        length = max(len(ending) for ending in _ENDINGS if file.name.lower().endswith(ending))
        name, ending = file.name[:-length], file.name[-length:]
        return re.sub(r"[-_. ]*\d[\d\-_.]*", "*", name) + ending

    def header(file: pathlib.Path) -> object:
        try:
            if file.name.lower().endswith(PARQUET_ENDINGS):
                return tuple(pa.parquet.ParquetFile(file).schema_arrow.names)
            return tuple(names_of(str(file), sniff(file)))
        except (pa.ArrowInvalid, ConfigError, UnicodeDecodeError):
            return file

    groups = []
    keyed = sorted(files, key=lambda file: (stem(file), str(header(file))))
    for (pattern, _), members in itertools.groupby(keyed, key=lambda file: (stem(file), header(file))):
        found = list(members)
        matched = [file for file in files if file.match(pattern)] if "*" in pattern else []
        if len(found) > 1 and sorted(matched) == sorted(found):
            groups.append((pattern, found))
        else:
            groups += [(file.name, [file]) for file in found]
    return groups


def sniff(file: pathlib.Path) -> Csv:
    """How a CSV file is written: encoding and delimiter, from its bytes.

    Raises:
        ConfigError: where it is empty.
    """
    opener = gzip.open if file.name.lower().endswith(".gz") else open
    with opener(file, "rb") as stream:
        start = stream.read(1 << 18)
        if not start.strip():
            raise ConfigError(f"{file.name!r} is empty. Give it a header line and rows.")
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            text, block = decoder.decode(start), stream.read(1 << 20)
            for _ in range(256):
                if not block:
                    break
                decoder.decode(block)
                block = stream.read(1 << 20)
        except UnicodeDecodeError:
            encoding, text = "latin-1", start.decode("latin-1")
    lines = text.lstrip("\ufeff").splitlines()[:60]
    if len(lines) > 2:
        lines = lines[:-1]  # may be cut
    best = max(",;\t|", key=lambda sign: _fit(lines, sign))
    plain = "\t" if ".tsv" in file.name.lower() else ","
    return Csv(delimiter=None if best == plain else best, encoding=encoding)


def _fit(lines: list[str], delimiter: str) -> tuple[float, int]:
    """How regular the lines are when divided at `delimiter`, then into how many columns."""
    widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
    if not widths or widths[0] < 2:
        return (0.0, 0)
    return (round(sum(width == widths[0] for width in widths) / len(widths), 1), widths[0])


def _profile(path: str, files: list[pathlib.Path]) -> TableProfile:
    parquet = path.lower().endswith(PARQUET_ENDINGS)
    if parquet:
        style, names = Csv(), tuple(pa.parquet.ParquetFile(files[0]).schema_arrow.names)
    else:
        style = sniff(files[0])
        names = tuple(names_of(str(files[0]), style))
        _check_header(files[0], names)
    batches, rows = [], 0
    every = ((file, batch) for file in files for batch in read_batches(str(file), names, path, csv=style))
    whole = True
    for _, batch in every:
        if rows >= SAMPLE_ROWS:
            whole = False
            break
        batches.append(batch)
        rows += batch.num_rows
    frame = pa.Table.from_batches(batches).to_pandas()
    if not parquet:
        style = dataclasses.replace(style, nulls=_nulls(frame), decimal=_decimal(frame, style))
        if style.nulls:
            frame = frame.mask(frame.isin(style.nulls))
    columns = {
        name: Column(name, frame[name][frame[name].notna()], len(frame), style.decimal)
        for name in frame.columns
    }
    return TableProfile(path, files, style, columns, frame, whole)


def _check_header(file: pathlib.Path, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ConfigError(f"{file.name!r} names a column twice: {', '.join(names)}. Give each its own name.")
    numeric = sum(bool(re.fullmatch(r"-?\d+([.,]\d+)?", name.strip())) for name in names)
    if numeric > len(names) / 2:
        raise ConfigError(
            f"{file.name!r} has no line with the names of its columns; it begins with {', '.join(names)}. "
            "Put one on top, for example: user_id,item_id,rating,timestamp."
        )


def _nulls(frame: pd.DataFrame) -> tuple[str, ...]:
    """Words that stand for nothing in some column."""
    found = {word for name in frame for word in NOTHING if (frame[name] == word).any()}
    for name in frame:
        if (frame[name] == "NA").any():
            rest = frame[name][frame[name].notna() & ~frame[name].isin([*NOTHING, "NA"])][:2000]
            if len(rest) and parse_numbers(rest).notna().mean() > 0.95:
                found.add("NA")
    return tuple(sorted(found))


def _decimal(frame: pd.DataFrame, style: Csv) -> Literal[".", ","]:
    """A comma where a column of a file that is not divided by commas holds numbers such as `12,50`."""
    if (style.delimiter or ",") == ",":
        return "."
    for name in frame:
        values = frame[name].dropna()[:2000].astype("string").str.strip()
        fraction = values.str.fullmatch(r"-?\d{1,3}(\.\d{3})*,\d+|-?\d+,\d+")
        whole = values.str.fullmatch(r"-?\d+")
        if len(values) and fraction.any() and (fraction | whole).mean() > 0.95:
            return ","
    return "."
