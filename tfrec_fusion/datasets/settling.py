"""Settings that a configuration leaves open and the data decide: how times are written, whether texts hold
HTML.

Told once for a whole table, before it is read, so that every row of every file, and `tfrec validate` and the
run, go by one rule.
"""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.dialect import detect_kind, read_dialect
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.markup import markup_share
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.datasets.times import MISSING, TimeFormat, detect_time_format, parse_times

TIME_ROWS = 200_000
TEXT_ROWS = 20_000


@dataclasses.dataclass(frozen=True)
class Settled:
    """Tables with nothing left open, and what was decided, a sentence each."""

    tables: Tables
    notes: tuple[str, ...]


def settle(tables: Tables) -> Settled:
    """Decides what the configuration leaves open.

    Raises:
        ConfigError: where the data do not decide: no format fits the times, or day and month cannot be told
            apart.
    """
    interactions, notes = settle_interactions(tables.interactions)
    impressions = tables.impressions
    if impressions is not None:
        impressions, further = settle_interactions(impressions)
        notes = (*notes, *further)
    items, more = settle_items(tables.items)
    users = _encodings("users", tables.users.path, tables.users.csv) if tables.users else ()
    return Settled(
        dataclasses.replace(tables, interactions=interactions, impressions=impressions, items=items),
        (*notes, *more, *users),
    )


def settle_interactions(table: Interactions) -> tuple[Interactions, tuple[str, ...]]:
    """The table with a `time_format`, and what was decided."""
    notes = _encodings("interactions", table.path, table.csv)
    if table.join:
        notes += _encodings("interactions.join", table.join.path, table.join.csv)
    if table.time is None or table.time_format:
        return table, notes
    result = _time_format(table)
    note = f"`{table.time}` is read as {result.why}"
    note += (
        f"; {1 - result.share:.1%} of its values are not, such as {result.misfit!r}" if result.misfit else ""
    )
    return dataclasses.replace(table, time_format=result.name), (*notes, note)


def settle_items(table: Items) -> tuple[Items, tuple[str, ...]]:
    """The table with `clean_html` decided, and what was decided."""
    notes = _encodings("items", table.path, table.csv)
    columns = tuple(dict.fromkeys((*((table.title,) if table.title else ()), *table.text)))
    if table.clean_html is not None or not columns:
        return dataclasses.replace(table, clean_html=bool(table.clean_html)), notes
    rows, most = 0, 0.0
    for file in find_files(table.path, "items"):
        for batch in read_batches(file, columns, "items", csv=table.csv, report=lambda _: None):
            for name in columns:
                most = max(
                    most,
                    markup_share(
                        cells.strings(batch.column(name), f"column {name!r} of the items table", True)
                    ),
                )
            rows += batch.num_rows
            if rows >= TEXT_ROWS:
                break
        if rows >= TEXT_ROWS:
            break
    if most:
        notes += (
            f"{most:.1%} of the items' texts hold HTML, which is taken out (`clean_html: false` leaves it)",
        )
    return dataclasses.replace(table, clean_html=most > 0), notes


def _encodings(name: str, path: str, csv: Csv) -> tuple[str, ...]:
    """Which files are not in UTF-8, where nothing says so."""
    if csv.encoding is not None:
        return ()
    results: dict[str, list[str]] = {}
    for file in find_files(path, name)[:20]:
        if detect_kind(file) == "csv":
            encoding = read_dialect(file, csv).encoding
            if encoding not in ("utf-8", "ascii"):
                results.setdefault(encoding, []).append(file.rsplit("/", 1)[-1])
    return tuple(
        f"{', '.join(files)}: read as {encoding} (`csv: {{encoding: …}}` says otherwise)"
        for encoding, files in results.items()
    )


def _time_format(table: Interactions) -> TimeFormat:
    """From up to `TIME_ROWS` rows, and more while day and month cannot be told apart."""
    assert table.time
    only = Interactions(table.path, table.time, table.time, table.time, csv=table.csv, join=table.join)
    where = f"column {table.time!r} of the interactions table"
    parts: list[pa.Array] = [pa.array([], pa.string())]
    rows, results = 0, None
    for file in find_files(table.path, "interactions"):
        for batch in InteractionRows(only).batches(file, report=lambda _: None):
            array = cells.plain(batch.column(0))
            if results is not None:
                results = _narrowed(results, array, where)
                if not results.rivals:
                    return results
                continue
            if pa.types.is_temporal(array.type):
                return detect_time_format(array, where)
            parts.append(pc.unique(cells.strings(array, where)))
            rows += batch.num_rows
            if rows >= TIME_ROWS:
                results = detect_time_format(pa.concat_arrays(parts), where)
                if not results.rivals:
                    return results
    results = results or detect_time_format(pa.concat_arrays(parts), where)
    if results.rivals:
        example = pa.concat_arrays(parts).drop_null()[0].as_py()
        formats = " and ".join(map(repr, (results.name, *results.rivals)))
        raise ConfigError(
            f"The {where} can be read in several ways: {formats} fit all values alike. Received: {example!r},"
            " …. Say which with `data.interactions.time_format`."
        )
    return results


def _narrowed(result: TimeFormat, array: pa.Array, where: str) -> TimeFormat:
    """Of formats between which the rows so far did not decide, those that read the most of further rows."""
    names = (result.name, *result.rivals)
    read = {name: int((parse_times(array, name, where) != MISSING).sum()) for name in names}
    best, *rivals = [name for name in names if read[name] == max(read.values())]
    return dataclasses.replace(result, name=best, why=f"dates written {best}", rivals=tuple(rivals))
