"""Rows of the three tables, read from their files under the names of their features.

Reading is vectorised by record batch. A row that cannot be used comes as a `Reject` with its reason. A run of
the pipeline and training in memory read by the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells, markup
from tfrec_fusion.datasets.events import EventColumns, read_events
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.splits import Written
from tfrec_fusion.datasets.tables import GeneratedText, IdRule, Interactions, Items, Tables, Users
from tfrec_fusion.features.columns import RawFeature, Role, media_features
from tfrec_fusion.impressions.pseudonyms import pseudonym, read_key

__all__ = [
    "ROWS",
    "EntityReader",
    "InteractionReader",
    "Reject",
    "interaction_readers",
    "most_frequent",
    "names_of_pseudonyms",
    "one_row",
    "read_generated",
]

ROWS = "\x00rows"


class Reject(NamedTuple):
    """A row that cannot be used: the table's name, why, and the row as JSON."""

    table: str
    reason: str
    row: str


def _plain_rows(batch: pa.RecordBatch) -> Iterator[str]:
    """The rows as JSON, for the reject file."""
    for row in batch.to_pylist():
        yield json.dumps(row, default=str, ensure_ascii=False)


def _bad_rows(bad: list[BadRow], table: str) -> Iterator[Reject]:
    """Rows that could not even be read, with file and line; the list is emptied."""
    for row in bad:
        position = {"file": row.file, "line": row.line, "text": row.text}
        yield Reject(table, row.reason, json.dumps(position, ensure_ascii=False))
    bad.clear()


def one_row(rows: Iterable[dict[str, Any]], distinct: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Rows of one id → the row that counts, and its duplicates.

    Args:
        rows: of one id, in any order.
        distinct: whether the table repeats ids on purpose; the most frequent values count then, and nothing
            is a duplicate. Else the row counts that sorts first.
    """
    if distinct:
        return most_frequent(rows), []
    first, *rest = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))
    return first, rest


class InteractionReader:
    """Reads files of interactions. What the tables leave open must be settled.

    Args:
        tables: the three tables.
        table: which of the tables of interactions, `interactions` or `impressions`.
        names: id of each pseudonym, where users are pseudonyms.
        texts: whether what users wrote is read too.
    """

    def __init__(
        self,
        tables: Tables,
        table: str = "interactions",
        names: Mapping[str, str] | None = None,
        texts: bool = False,
    ):
        self.tables, self.name, self.names, self.texts = tables, table, names, texts
        self.rows: InteractionRows | None = None

    def read(self, path: str) -> Iterator[tuple[str, tuple] | Reject]:
        """Each interaction as (item, (user, time, label, context, weight, position, further
        labels)), with `texts` also what was written, and rejects."""
        table = self.table
        bad: list[BadRow] = []
        self.rows = self.rows or InteractionRows(table)
        for batch in self.rows.batches(path, bad.append):
            yield from _bad_rows(bad, self.name)
            events = read_events(batch, table, self.tables.user_ids, self.tables.item_ids)
            good = events.good
            if not good.all():
                rejects = batch.take(pa.array(events.rows[~good]))
                for why, row in zip(events.reason[~good], _plain_rows(rejects), strict=True):
                    yield Reject(self.name, why, row)
            rows, kept = pa.array(events.rows[good]), pa.array(good)
            contexts = self._contexts(batch, rows)
            labels = [None] * len(rows) if events.labels is None else _or_none(events.labels[good])
            users = cells.as_python(events.users.filter(kept))
            if self.names is not None:
                users = [self.names.get(user, user) for user in users]
            columns = (
                users,
                events.times[good].tolist(),
                labels,
                contexts,
                events.weights[good].tolist(),
                events.positions[good].tolist(),
                self._further(events),
                *([self._written(events)] if self.texts else []),
            )
            items = cells.as_python(events.items.filter(kept))
            yield from zip(items, zip(*columns, strict=True), strict=True)
        yield from _bad_rows(bad, self.name)

    def _further(self, events: EventColumns) -> Iterable[tuple[float | None, ...]]:
        """Of each event that can be used its further labels, None where there is none."""
        kept = int(events.good.sum())
        parts = [
            _or_none(events.further_labels[name][events.good])
            if name in events.further_labels
            else [None] * kept
            for name in self.tables.further_labels
        ]
        return zip(*parts, strict=True) if parts else ((),) * kept

    def _written(self, events: EventColumns) -> Iterable[Written | None]:
        """Of each event that can be used what its user wrote, None where nothing."""
        if events.texts is None or events.written is None:
            return [None] * int(events.good.sum())
        texts = cells.as_python(events.texts.filter(pa.array(events.good)))
        known = zip(texts, events.written[events.good].tolist(), strict=True)
        return [Written(text, time) if text and text.strip() else None for text, time in known]

    @property
    def table(self) -> Interactions:
        """The table that is read."""
        if self.name == "interactions":
            return self.tables.interactions
        assert self.tables.impressions is not None
        return self.tables.impressions

    def _contexts(self, batch: pa.RecordBatch, rows: pa.Array) -> Iterable[tuple[str, ...]]:
        """Of each event the values of its context, "" where there is none."""
        parts = []
        if self.name == "impressions":  # nothing is known of the context in which it was shown
            return (("",) * len(self.tables.interactions.context),) * len(rows)
        for column in self.tables.interactions.context:
            text = cells.strings(batch.column(column), f"column {column!r} of the interactions table")
            parts.append(cells.as_python(pc.fill_null(text, "").take(rows)))
        return zip(*parts, strict=True) if parts else ((),) * len(rows)


def _or_none(values: np.ndarray) -> list[float | None]:
    """Floats with None instead of NaN and the infinities."""
    result = values.astype(object)
    result[~np.isfinite(values)] = None
    return result.tolist()


def interaction_readers(tables: Tables, texts: bool = False) -> Iterator[tuple[str, InteractionReader, str]]:
    """Each table of interactions: its name, its reader, and its path; `texts` as in `InteractionReader`."""
    yield "interactions", InteractionReader(tables, texts=texts), tables.interactions.path
    if tables.impressions is not None:
        names = names_of_pseudonyms(tables)
        impressions = InteractionReader(tables, "impressions", names, texts)
        yield "impressions", impressions, tables.impressions.path


def names_of_pseudonyms(tables: Tables) -> dict[str, str] | None:
    """The id behind each pseudonym of the impressions, of users that the interactions name; None where the
    impressions hold ids themselves.

    Raises:
        ConfigError: if the key cannot be read.
    """
    impressions = tables.impressions
    if impressions is None or impressions.key_file is None:
        return None
    if not os.path.isfile(impressions.key_file):
        raise ConfigError(
            "`data.impressions.key_file` must be the key of the pseudonyms. Received:"
            f" {impressions.key_file!r}, which is not there. Without it nobody can be told from anybody."
        )
    key, table = read_key(impressions.key_file), tables.interactions
    users: set[str] = set()
    for file in find_files(table.path, "interactions"):
        for batch in read_batches(file, (table.user,), "interactions", csv=table.csv, report=lambda _: None):
            found = ids(batch.column(table.user), tables.user_ids, f"column {table.user!r}")
            users |= set(cells.as_python(found.unique().drop_null()))
    return {pseudonym(key, user.encode("utf-8", "replace")): user for user in users}


def most_frequent(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows of one id from a `distinct` table → one row: of each feature the most frequent value that is not
    None.

    Equally frequent values: the one that sorts first, since Beam keeps no order of rows.
    """
    votes: dict[str, dict[str, tuple[int, Any]]] = {}
    for row in rows:
        count = row[ROWS]
        for name, value in row.items():
            if name != ROWS:
                seen = votes.setdefault(name, {})
                if value is not None:
                    key = json.dumps(value, ensure_ascii=False)
                    seen[key] = (seen.get(key, (0, value))[0] + count, value)
    return {
        name: min(seen.items(), key=lambda entry: (-entry[1][0], entry[0]))[1][1] if seen else None
        for name, seen in votes.items()
    }


class EntityReader:
    """Reads files of items or users. What the table leaves open must be settled.

    Args:
        table: the items or users.
        name: `items` or `users`.
        rule: how ids are written.
    """

    def __init__(self, table: Items | Users, name: str, rule: IdRule = "as_written"):
        self.table, self.name, self.rule = table, name, rule
        self.generated: dict[str, str] | None = None

    def read(self, path: str) -> Iterator[tuple[str, dict[str, Any]] | Reject]:
        """Each row as (id, values by the features' names, with `title` of items), and rejects.

        Of a `distinct` table each mapping also holds, under `ROWS`, how many equal rows of a batch it stands
        for.
        """
        table = self.table
        bad: list[BadRow] = []
        for batch in read_batches(path, table.columns(), self.name, csv=table.csv, report=bad.append):
            yield from _bad_rows(bad, self.name)
            keys = ids(batch.column(table.id), self.rule, self._where(table.id))
            features, reason = self._features(batch)
            reason[keys.is_null().to_numpy(zero_copy_only=False)] = "missing id"
            good = reason == ""
            # Rows of a `distinct` table are interactions, and counted there.
            if not (good.all() or table.distinct):
                for why, row in zip(reason[~good], _plain_rows(batch.filter(pa.array(~good))), strict=True):
                    yield Reject(self.name, why, row)
            rows = zip(*features.values(), strict=True) if features else ((),) * len(batch)
            known = zip(cells.as_python(keys), good.tolist(), rows, strict=True)
            kept: Iterable[tuple[str, dict[str, Any]]] = (
                (key, dict(zip(features, row, strict=True))) for key, fine, row in known if fine
            )
            if isinstance(table, Items) and table.generated:
                kept = self._with_generated(kept, table.generated)
            yield from _count_equal_rows(kept) if table.distinct else kept
        yield from _bad_rows(bad, self.name)

    def _with_generated(
        self, rows: Iterable[tuple[str, dict[str, Any]]], texts: GeneratedText
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows with the generated text of each item."""
        if self.generated is None:
            self.generated = read_generated(texts, self.rule)
        assert isinstance(self.table, Items)
        name = RawFeature("text", "categorical", texts.column).name
        replaced = [RawFeature("text", "categorical", column).name for column in self.table.text]
        for key, row in rows:
            text = self.generated.get(key)
            if text is not None and texts.use == "instead":
                row = row | dict.fromkeys(replaced)
            yield key, row | {name: text}

    def _where(self, column: str) -> str:
        return f"column {column!r} of the {self.name} table"

    def _features(self, batch: pa.RecordBatch) -> tuple[dict[str, list[Any]], np.ndarray]:
        """Columns by Example name, and why a row cannot be used, "" where it can."""
        table = self.table
        role: Role = "item" if isinstance(table, Items) else "user"
        columns: dict[str, list[Any]] = {}
        reason = np.full(len(batch), "", object)
        if isinstance(table, Items):
            if table.title:
                columns["title"] = cells.as_python(self._text(batch, table.title))
            for column in table.text:
                columns[RawFeature("text", "categorical", column).name] = self._text(
                    batch, column
                ).to_pylist()
            for column in table.lists:
                several = cells.lists(batch.column(column), table.separator, self._where(column))
                columns[RawFeature(role, "categories", column).name] = cells.as_python(several)
            for column in table.vectors:
                vectors, bad = cells.vectors(batch.column(column), self._where(column))
                reason[bad] = f"a vector of {column!r} that holds NaN, an infinity or no number"
                columns[RawFeature(role, "vector", column).name] = vectors
            for feature in media_features(table):
                # What the file is called; `media_vectors` puts its vector in place of that.
                columns[feature.name] = self._references(batch, feature.column)
        for column in table.categories:
            texts = cells.strings(batch.column(column), self._where(column))
            columns[RawFeature(role, "categorical", column).name] = cells.as_python(texts)
        for column in table.numbers:
            numbers = cells.numbers(batch.column(column), self._where(column), table.csv.decimal)
            columns[RawFeature(role, "number", column).name] = _or_none(numbers)
        return columns, reason

    def _references(self, batch: pa.RecordBatch, column: str) -> list[str | None]:
        """What files are called, None where there is none."""
        names = pc.utf8_trim_whitespace(cells.strings(batch.column(column), self._where(column)))
        return [name or None for name in names.to_pylist()]

    def _text(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        """A column of words; `a|b` of a `lists` column reads as `a b`."""
        assert isinstance(self.table, Items)
        array = batch.column(column)
        if column in self.table.lists:
            array = cells.lists(array, self.table.separator, self._where(column))
        text = cells.strings(array, self._where(column), join_lists=True)
        return markup.cleaned(text) if self.table.clean_html else text


def read_generated(table: GeneratedText, rule: IdRule) -> dict[str, str]:
    """Texts by item, of a file of generated texts.

    Args:
        table: the file, and its columns.
        rule: how ids are written.

    Raises:
        ConfigError: if the file is not there, or lacks a column.
    """
    texts: dict[str, str] = {}
    for file in find_files(table.path, "items.generated"):
        for batch in read_batches(file, (table.id, table.column), "items.generated"):
            keys = ids(batch.column(table.id), rule, f"column {table.id!r} of the generated texts")
            values = cells.strings(
                batch.column(table.column), f"column {table.column!r} of the generated texts"
            )
            for key, text in zip(keys.to_pylist(), values.to_pylist(), strict=True):
                if key is not None and text and text.strip():
                    texts.setdefault(key, text)
    return texts


def _count_equal_rows(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Equal rows once, and how often each stood there; so little travels of a table that repeats itself."""
    counts: dict[tuple, list[Any]] = {}
    for key, row in rows:
        seen = (key, *(tuple(value) if isinstance(value, list) else value for value in row.values()))
        counts.setdefault(seen, [row, 0])[1] += 1
    for (key, *_), (row, count) in counts.items():
        yield key, row | {ROWS: count}
