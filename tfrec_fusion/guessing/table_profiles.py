"""The tables of a folder: which files belong together, how they are written, and the columns of each."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.tables import Join
from tfrec_fusion.datasets.values import parse_numbers
from tfrec_fusion.guessing import column_names as names_of
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.table_files import Source, find_parts, group, read_head

SAMPLE_ROWS = 300_000
NOTHING = ("NULL", "null", "\\N", "NaN", "nan", "None", "N/A", "n/a", "#N/A", "<NA>", "-")


@dataclasses.dataclass(eq=False)
class TableProfile:
    """One table: a file, or several of one kind.

    Attributes:
        path: file name or glob, relative to the folder.
        files: the files.
        csv: how they are written.
        columns: by name.
        rows: rows that were read.
        whole: whether these are all.
        headerless: whether the columns' names are made up, since the file has no line with them.
        join: the second table whose columns were joined to this one's.
        explode: the column whose cells held several ids, and what divides them.
        lists: how many such cells held some.
    """

    path: str
    files: list[pathlib.Path]
    csv: Csv
    columns: dict[str, Column]
    rows: int
    whole: bool = True
    headerless: bool = False
    join: Join | None = None
    explode: tuple[str, str] | None = None
    lists: int = 0

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The sample as strings."""
        return pd.DataFrame({name: column.strings for name, column in self.columns.items()})

    @property
    def words_of_name(self) -> tuple[str, ...]:
        return names_of.tokens(pathlib.Path(self.path).name.split(".")[0])


def follows(frame: pd.DataFrame, key: str, column: Column) -> bool:
    """Whether the key nearly always decides the value (a product its name, a user their country)."""
    pairs = frame[[key, column.name]].dropna()
    sizes = pairs.groupby([key, column.name], sort=False).size()
    rows = sizes.groupby(level=0).sum()
    several = rows[rows > 1].index
    if len(several) < 5:
        return False
    most = sizes.groupby(level=0).max()
    agrees = most[several].sum() / rows[several].sum()
    # What has few values agrees by chance: with a value drawn for each row, this much.
    shares = pairs[column.name].value_counts(normalize=True)
    chance = float((most[several].clip(upper=1)).sum() / rows[several].sum())
    by_chance = max(float(shares.iloc[0]), chance)
    return bool(agrees > max(0.85, by_chance + 0.5 * (1 - by_chance)))


def read_folder(folder: pathlib.Path, ledger: Ledger) -> list[TableProfile]:
    """Profiles of all tables in a folder; other files are named in the ledger, and how each text file was
    read.

    Raises:
        ConfigError: where there is no folder, or no table in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {str(folder)!r}. Name the one that holds your tables.")
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    known = []
    for file in files:
        if file.name.lower().endswith(NO_TABLES):
            if not file.name.lower().endswith((".yaml", ".yml")):
                ledger.leave(file.name, None, "not read: no table, to judge by its name")
            continue
        try:
            known.append(Source(file, *read_head(file)))
        except (ConfigError, OSError, UnicodeError, pa.ArrowException) as error:
            ledger.leave(file.name, None, f"not read: {error}")
    tables = []
    for path, sources in [*group(known), *_folders(folder, ledger)]:
        try:
            tables.append(_profile(path, sources, ledger))
        except (ConfigError, OSError, UnicodeError, pa.ArrowException) as error:
            ledger.leave(path, None, f"not read: {error}")
    if not tables:
        reasons = "".join(f"\n  {entry}" for entry in ledger.left) or " It holds: nothing."
        raise ConfigError(
            f"{str(folder)!r} holds no table (CSV, JSON lines or Parquet).{reasons}\nExport your tables into"
            " it, or name another folder."
        )
    return tables


def _folders(folder: pathlib.Path, ledger: Ledger) -> list[tuple[str, list[Source]]]:
    """Folders inside that hold one table each, in parts; others are named in the ledger."""
    found = []
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if inner.name.startswith((".", "_")):
            continue
        path, files, keys = find_parts(inner)
        try:
            sources = [Source(file, *read_head(file)) for file in files]
        except (ConfigError, OSError, UnicodeError, pa.ArrowException) as error:
            ledger.leave(f"{inner.name}/", None, f"not read: {error}")
            continue
        if not sources or len({source.names for source in sources}) > 1:
            why = "a folder, not looked into. If it holds tables: tfrec init with it, or move them up"
            ledger.leave(f"{inner.name}/", None, why)
            continue
        found.append((path, sources))
        for key, value in keys.items():
            why = f"stands in the names of folders ({key}={value}), which a run does not read"
            ledger.leave(path, key, f"{why}; write it as a column to use it")
    return found


NO_TABLES = (
    ".yaml",
    ".yml",
    ".md",
    ".html",
    ".htm",
    ".py",
    ".ipynb",
    ".pdf",
    ".png",
    ".jpg",
    ".jpeg",
    ".sql",
    ".toml",
    ".log",
    ".rst",
)


def _profile(path: str, sources: list[Source], ledger: Ledger) -> TableProfile:
    first = sources[0]
    batches: list[pa.RecordBatch] = []
    rows, whole, bad = 0, True, _BadRows()
    for source in sources:
        for batch in read_batches(str(source.file), first.names, path, csv=source.csv, report=bad):
            if rows >= SAMPLE_ROWS:
                whole = False
                break
            batches.append(batch)
            rows += batch.num_rows
    if not batches:
        raise ConfigError(f"none of its {bad.count:,} rows can be read, the first: {bad.first}")
    arrays = {
        name: cells.plain(pa.chunked_array(_alike([batch.column(position) for batch in batches])))
        for position, name in enumerate(first.names)
    }
    style = first.csv
    if style.delimiter is not None:
        text = {
            name: pd.Series(array.to_numpy(zero_copy_only=False), dtype=object)
            for name, array in arrays.items()
        }
        style = dataclasses.replace(style, nulls=_nulls(text))
        style = dataclasses.replace(style, decimal=_decimal(text))
        if style.nulls:
            gone = pa.array(style.nulls, pa.string())
            arrays = {name: pc.if_else(pc.is_in(array, gone), None, array) for name, array in arrays.items()}
    if bad.count:
        ledger.note(
            f"{path}: {bad.count:,} of {rows + bad.count:,} rows cannot be read and are left out, the first:"
            f" {bad.first}"
        )
    if any(source.csv != first.csv for source in sources):
        style = dataclasses.replace(
            style, delimiter=None, encoding=None
        )  # each file is told from its own content
    columns = {
        name: Column(name, path, array, style.decimal, first.headerless) for name, array in arrays.items()
    }
    table = TableProfile(
        path, [source.file for source in sources], style, columns, rows, whole, first.headerless
    )
    _note_reading(table, ledger)
    table.csv = _short(table)
    return table


class _BadRows:
    """Counts rows that cannot be read."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def __call__(self, row: BadRow) -> None:
        self.count += 1
        self.first = (
            self.first or f"{pathlib.Path(row.file).name}, line {row.line}: {row.reason}: {row.text[:80]!r}"
        )


def _alike(arrays: list[pa.Array]) -> list[pa.Array]:
    """Batches of one column in one type; JSON's may differ from batch to batch."""
    plain = [cells.plain(array) for array in arrays]
    if len({array.type for array in plain}) <= 1:
        return plain
    return [cells.strings(array, "column", join_lists=True) for array in plain]


def _note_reading(table: TableProfile, ledger: Ledger) -> None:
    """Says how a text file was read where that is not plain: its encoding with an example, its sign between
    columns, no header."""
    csv = table.csv
    name = table.path
    if csv.encoding and csv.encoding.replace("_", "-") not in ("utf-8", "ascii"):
        example = _example_of(table)
        sure = " Is that so? If not, set csv.encoding." if csv.encoding in GUESSED else ""
        ledger.note(f"{name}: read as {csv.encoding}, for example {example!r}.{sure}")
    quoted = [
        column.name
        for column in table.columns.values()
        if csv.delimiter and column.distinct > 1 and column.unique[:1000].str.fullmatch(r"'.*'").mean() > 0.95
    ]
    if quoted:
        ledger.note(
            f"{name}: values of {', '.join(quoted)} stand between single quotes, which are read as part of"
            ' them and match nothing elsewhere. Take them out, for example: sed "s/\'//g".'
        )
    if (csv.delimiter and len(csv.delimiter) > 1) or table.headerless:
        without = " and no header line; its columns are named by what they hold" if table.headerless else ""
        ledger.note(f"{name}: columns divided by {csv.delimiter!r}{without}.")


GUESSED = (
    "latin-1",
    "cp1252",
    "cp1250",
    "cp1254",
    "cp1257",
    "cp1253",
    "cp1255",
    "cp1256",
    "koi8_r",
    "cp866",
    "euc_jp",
    "big5",
)


def _example_of(table: TableProfile) -> str:
    """A text with other letters than ASCII's."""
    for column in table.columns.values():
        for value in column.values[:20_000]:
            if not value.isascii():
                return value[:60]
    return ""


def _short(table: TableProfile) -> Csv:
    """How a file is written, without what a run tells by itself as surely."""
    csv = table.csv
    delimiter = (
        None
        if csv.delimiter == "," or ("tsv" in table.path.lower() and csv.delimiter == "\t")
        else csv.delimiter
    )
    encoding = None if (csv.encoding or "utf-8").replace("_", "-") in ("utf-8", "ascii") else csv.encoding
    return dataclasses.replace(csv, delimiter=delimiter, encoding=encoding)


_NOTHING = re.compile(
    r"(?i)[\W_]*(?:n[/.]?a|nan|nul+|none|nil|missing|undefined|(?:not|non|no) (?:available|rated|data))?"
    r"[\W_]*"
)


def _nulls(text: dict[str, pd.Series]) -> tuple[str, ...]:
    """Words that stand for nothing in some column."""
    words_for_nothing = {word for values in text.values() for word in NOTHING if (values == word).any()}
    for values in text.values():
        filled = values.dropna()
        others = filled[~filled.astype("string").str.contains(r"\d")].unique()
        marks = {word for word in others if word in NOTHING or _NOTHING.fullmatch(word)}
        if not marks - words_for_nothing:
            continue
        # `NA` is a country, too: beside numbers it is none.
        rest = filled[~filled.isin(marks)][:2000]
        if len(rest) and parse_numbers(rest).notna().mean() > 0.95:
            words_for_nothing |= marks
    return tuple(sorted(words_for_nothing))


def _decimal(text: dict[str, pd.Series]) -> Literal[".", ","]:
    """A comma where a column holds numbers such as `12,50` or `1.234,50 €`."""
    for values in text.values():
        sample = (
            values.dropna()[:2000]
            .astype("string")
            .str.strip()
            .str.replace(r"^[^\d\-+]{0,4}|[^\d]{0,4}$", "", regex=True)
        )
        fraction = sample.str.fullmatch(r"-?\d{1,3}(\.\d{3})*,\d{1,2}|-?\d+,\d+")
        whole = sample.str.fullmatch(r"-?\d+|-?\d{1,3}(\.\d{3})+")
        grouped = sample.str.fullmatch(r"-?\d{1,3}(,\d{3})+")
        if len(sample) and (fraction & ~grouped).any() and (fraction | whole).mean() > 0.95:
            return ","
    return "."
