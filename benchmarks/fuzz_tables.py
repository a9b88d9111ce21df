"""Random tables through `tfrec init`, `tfrec validate` and ExampleGen's reading, against a witness of what
was written.

None of them may crash, change a value, or leave a column out without naming it. A refusal in words is no
finding; refusals are counted by their first words, so that one that is none can be seen.
"""

from __future__ import annotations

import collections
import contextlib
import decimal
import faulthandler
import io
import os
import pathlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator

from benchmarks.random_tables import Shop, make
from benchmarks.table_forms import Column, Table
from pipeline.cli import main as cli
from pipeline.components.table_reading import ReadEntities, ReadInteractions
from pipeline.config.pipeline_config import load_config, tables_of
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.tables import Items, Tables, Users
from tfrec_fusion.features.columns import RawFeature
from tfrec_fusion.guessing.folder import guess
from tfrec_fusion.guessing.id_columns import Hints

UNEXPECTED = "(--debug shows where)"
SLOW = 20.0
"""Seconds that no command may take for a few hundred rows."""


class Finding(Exception):
    """What must not happen."""


def fuzz(seconds: float, seed: int) -> tuple[collections.Counter, list[str]]:
    """Draws folders of tables one after the other.

    Args:
        seconds: how long.
        seed: of the tables; number N of a seed is always the same.

    Returns:
        How often each outcome came, and the findings, each with the folder that is kept.
    """
    faulthandler.enable()
    counts: collections.Counter = collections.Counter()
    findings: list[str] = []
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        number += 1
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"fuzz-tables-{seed}-{number}-"))
        try:
            counts[try_one(seed, number, folder)] += 1
        except Finding as finding:
            findings.append(f"{finding}\n  table {number} of seed {seed}, kept in {folder}")
            print(findings[-1], flush=True)
            continue
        shutil.rmtree(folder)
    return counts, findings


def try_one(seed: int, number: int, folder: pathlib.Path) -> str:
    """Draws and tries one folder of tables; returns what came of it.

    Raises:
        Finding: where something went wrong.
    """
    tables = folder / "shop"
    tables.mkdir()
    shop = make(random.Random(f"{seed}/{number}"), tables)
    about = "; ".join(f"{table.pattern}: {table.form}" for table in shop.tables()) + f"; {shop.hints}"
    try:
        with contextlib.chdir(folder):
            return check(shop, tables)
    except Finding as finding:
        raise Finding(f"{finding}\n  {about}") from None
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}\n  {about}") from error


def check(shop: Shop, folder: pathlib.Path) -> str:
    """Holds what comes of a folder of tables against what was written; returns it. The working folder is the
    one above."""
    status, output, told = _tfrec("init", "shop", "--name", "x", "--force", *shop.hints)
    if status == 1:
        return f"refused by init: {' '.join(told.split())[:50]}"
    if status:
        raise Finding(f"init ended with {status}: {told}")
    _check_named(shop, folder)
    status, output, told = _tfrec("validate", "x.yaml")
    if status not in (0, 1) or not output:
        raise Finding(f"validate ended with {status}: {told}")
    verdict = "ready" if status == 0 else "not ready"
    tables = tables_of(load_config("x.yaml"))
    try:
        tables = settle(tables).tables
    except ConfigError as error:
        return f"init wrote what cannot be settled: {' '.join(str(error).split())[:50]}"
    _check_interactions(shop, tables)
    for name, table in (("items", tables.items), ("users", tables.users)):
        if table and not table.distinct:
            _check_entities(shop, table, name, tables.item_ids if name == "items" else tables.user_ids)
    return verdict


def _tfrec(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command; raises `Finding` where it ended in no words for the user."""
    out, err, begun = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(arguments))
    if UNEXPECTED in err.getvalue() or "Traceback" in err.getvalue():
        raise Finding(f"tfrec {arguments[0]}: {err.getvalue()}")
    if time.monotonic() - begun > SLOW:
        raise Finding(f"tfrec {arguments[0]} took {time.monotonic() - begun:.0f} s")
    return status, out.getvalue(), err.getvalue()


def _check_named(shop: Shop, folder: pathlib.Path) -> None:
    """Every column of every table has a role or a reason, and every file is named."""
    hints = dict(hint.removeprefix("--").split("=", 1) for hint in shop.hints)
    ledger = guess(folder, Hints(**hints)).ledger
    paths = {choice.path for choice in ledger.choices} | {entry.path for entry in ledger.left}
    for table in shop.tables():
        if table.pattern not in paths:
            raise Finding(f"{table.pattern} is not named; {sorted(paths)} are")
        whole = any(entry.path == table.pattern and entry.column is None for entry in ledger.left)
        missing = {column.name for column in table.columns} - ledger.named(table.pattern)
        if missing and table.header and not whole:
            raise Finding(f"{table.pattern}: {sorted(missing)} are dropped unnamed")
        if not table.header and not whole and len(ledger.named(table.pattern)) < len(table.columns):
            raise Finding(
                f"{table.pattern}: of {len(table.columns)} columns are named {ledger.named(table.pattern)}"
            )


def _table(shop: Shop, path: str) -> Table:
    """The table that a configuration's path means."""
    name = pathlib.Path(path).name
    return next(table for table in shop.tables() if table.pattern == name)


def _column(table: Table, csv: Csv, name: str) -> Column:
    """The column that a configuration calls so."""
    return table.columns[csv.header.index(name)] if csv.header else table.column(name)


def _text(value: str | None, csv: Csv, rule: str = "as_written") -> str | None:
    """What a cell should read as."""
    value = (value or "").strip()
    if not value or value in csv.nulls:
        return None
    if rule == "number" and value.lstrip("+-").replace(".0", "").isdigit():
        return str(int(float(value))) if "." in value else str(int(value))
    return " ".join(value.casefold().split()) if rule == "folded" else value


def _check_interactions(shop: Shop, tables: Tables) -> None:
    described = tables.interactions
    if described.explode or described.join or described.event or described.quantity:
        return
    table = _table(shop, described.path)
    columns = [_column(table, described.csv, name) for name in (described.user, described.item)]
    parts = [[_text(value, described.csv, rule) for value in column.values]
             for column, rule in zip(columns, (tables.user_ids, tables.item_ids), strict=True)]  # fmt: skip
    when: list[int | None] = [0] * len(table)
    if described.time:
        column = _column(table, described.csv, described.time)
        if column.times is None:
            when = _as_written(column, described.time_format)
        else:
            when = column.times
    written_rows = collections.Counter(row for row in zip(*parts, when, strict=True) if None not in row)
    read_rows: collections.Counter = collections.Counter()
    rejects: collections.Counter = collections.Counter()
    reader = ReadInteractions(tables)
    for file in find_files(described.path):
        for row in reader.process(file):
            if isinstance(row, tuple):
                read_rows[row[1][0], row[0], row[1][1]] += 1
            else:
                rejects[row.value[1]] += 1
    unsure = described.time and described.time_format == "excel"
    if unsure:  # days with a fraction
        read_rows, written_rows = (_rounded(rows) for rows in (read_rows, written_rows))
    if read_rows != written_rows:
        raise Finding(
            f"{described.path}: rows changed: wrong {list((read_rows - written_rows).items())[:3]}, missing "
            f"{list((written_rows - read_rows).items())[:3]}; {described}; rejects {rejects}"
        )
    if read_rows.total() + rejects.total() != len(table) + table.short:
        raise Finding(f"{described.path}: {len(table)} rows, {read_rows.total()} kept, rejected {rejects}")


def _as_written(column: Column, time_format: str | None) -> list[int | None]:
    """Whole numbers that were taken for times."""
    sizes = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
    if time_format not in sizes:
        raise Finding(f"{column.name!r} ({column.values[:3]}) was taken for times written {time_format}")
    return [
        None if value is None else int(decimal.Decimal(value) * sizes[time_format]) for value in column.values
    ]


def _rounded(rows: collections.Counter) -> collections.Counter:
    near: collections.Counter = collections.Counter()
    for (user, item, moment), count in rows.items():
        near[user, item, round(moment / 10**9)] += count
    return near


def _check_entities(shop: Shop, described: Items | Users, name: str, rule: str) -> None:
    table = _table(shop, described.path)
    keys = [_text(value, described.csv, rule) for value in _column(table, described.csv, described.id).values]
    read_rows: dict[str, list[dict]] = collections.defaultdict(list)
    rejects = 0
    reader = ReadEntities(described, name, rule)  # type: ignore[arg-type]
    for file in find_files(described.path):
        for row in reader.process(file):
            if isinstance(row, tuple):
                read_rows[row[0]].append(row[1])
            else:
                rejects += 1
    written_keys = collections.Counter(key for key in keys if key is not None)
    if written_keys != {key: len(rows) for key, rows in read_rows.items()}:
        raise Finding(f"{described.path}: ids changed: {set(read_rows) ^ set(written_keys)}")
    if sum(map(len, read_rows.values())) + rejects != len(table) + table.short:
        raise Finding(f"{described.path}: {len(table)} rows, {len(read_rows)} kept, {rejects} rejected")
    for column, feature, expected in _expected(table, described, name):
        if _column(table, described.csv, column).kind in ("nested", "native list") and column not in getattr(
            described, "lists", ()
        ):
            continue
        for key, value in zip(keys, expected, strict=True):
            if key is None or written_keys[key] > 1:
                continue
            if (got := read_rows[key][0].get(feature)) != value:
                raise Finding(f"{described.path}: {column!r} of {key!r} is {got!r} and was written {value!r}")


def _expected(table: Table, described: Items | Users, name: str) -> Iterator[tuple[str, str, list]]:
    """Columns, what Examples call them, and what they should hold."""
    role, cleaned = name[:-1], getattr(described, "clean_html", False)
    texts = {column: RawFeature(role, "categorical", column).name for column in described.categories}  # type: ignore[arg-type]
    if isinstance(described, Items):
        words = {column: RawFeature("text", "categorical", column).name for column in described.text}
        words |= {described.title: "title"} if described.title else {}
        texts |= (
            {} if cleaned else {column: key for column, key in words.items() if column not in described.lists}
        )
        for column in described.lists:
            values = [_text(value, described.csv) for value in _column(table, described.csv, column).values]
            parts = [[part.strip() for part in (value or "").split(described.separator)] for value in values]
            yield (
                column,
                RawFeature("item", "categories", column).name,
                [[part for part in row if part] for row in parts],
            )
    for column, feature in texts.items():
        yield (
            column,
            feature,
            [_text(value, described.csv) for value in _column(table, described.csv, column).values],
        )
    for column in described.numbers:
        written = _column(table, described.csv, column)
        if written.kind == "number":
            values = [_number(value) for value in written.values]
            yield column, RawFeature(role, "number", column).name, values  # type: ignore[arg-type]


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "nan")
    except ValueError:
        return None
    return number if number == number else None


def main(seconds: float, seed: int) -> int:
    """Fuzzes and prints; 1 where there was a finding."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    counts, findings = fuzz(seconds, seed)
    for outcome, count in counts.most_common():
        print(f"{count:6,}  {outcome}")
    print(
        f"{counts.total() + len(findings):,} folders of tables in {seconds:.0f} s: {len(findings)} findings"
    )
    return int(bool(findings))
