"""Edges read from their files, each with its two nodes, or the reason why it cannot be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.edges import Edges, NodeKind
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.joining import InteractionRows
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.tables import IdRule, Interactions, Tables

__all__ = ["ENTITY", "EdgeList", "ids_of", "known_ids", "read_edges"]

DUPLICATE, SELF_LOOP, MISSING, WEIGHT = "duplicate", "self loop", "missing id", "weight not above 0"
UNKNOWN_RELATION = "unknown relation"
ENTITY = "\x00"
"""Begins the key of a further entity: no id begins so."""


@dataclasses.dataclass(frozen=True)
class EdgeList:
    """Edges that can be used.

    Attributes:
        keys: id of each node; of further entities with `ENTITY` before it.
        sources, targets: int64 `[edges]`, indices in `keys`.
        weights: float64 `[edges]`.
        rejects: (reason, what was seen) of each edge that cannot be used.
    """

    keys: list[str]
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    rejects: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.sources)


def known_ids(tables: Tables, kind: NodeKind) -> list[str]:
    """Ids of all items, or of all users: of those in the interactions and those in a table of their own.

    Args:
        tables: settled. Of impressions, users are known by pseudonyms, and not read.
        kind: which.
    """
    found: dict[str, None] = {}
    rule = tables.item_ids if kind == "items" else tables.user_ids

    def add(column: pa.Array, where: str) -> None:
        found.update(dict.fromkeys(cells.as_python(ids(column, rule, where).unique().drop_null())))

    if kind == "users":
        table = tables.interactions
        only = Interactions(table.path, table.user, table.user, table.user, csv=table.csv, join=table.join)
        for file in find_files(table.path, "interactions"):
            for batch in InteractionRows(only).batches(file, report=lambda _: None):
                add(batch.column(0), f"column {table.user!r} of the interactions table")
    own = getattr(tables, kind)
    for file in find_files(own.path, kind) if own else ():
        for batch in read_batches(file, (own.id,), kind, csv=own.csv, report=lambda _: None):
            add(batch.column(0), f"column {own.id!r} of the {kind} table")
    return list(found)


def ids_of(files: Iterable[Edges], kind: NodeKind, rule: IdRule) -> list[str]:
    """All ids that stand at an end of an edge."""
    found: dict[str, None] = {}
    for table in files:
        for file in find_files(table.path, f"graph.{kind}"):
            columns = (table.source, table.target)
            for batch in read_batches(file, columns, f"graph.{kind}", csv=table.csv, report=lambda _: None):
                for column in columns:
                    where = f"column {column!r} of graph.{kind}"
                    values = ids(batch.column(column), rule, where).unique().drop_null()
                    found.update(dict.fromkeys(cells.as_python(values)))
    return list(found)


def read_edges(files: Iterable[Edges], kind: NodeKind, known: Iterable[str], rule: IdRule) -> EdgeList:
    """Edges of one or several files, each pair of nodes once for each relation.

    An edge that stands there in both directions counts once, as its heavier one: that is how a friendship is
    written in many files. The same direction twice is a duplicate.

    Args:
        files: what is read.
        kind: whether the ends are `items` or `users`.
        known: their ids.
        rule: how ids are written.

    Raises:
        ConfigError: if a file cannot be read or lacks a column.
    """
    nodes = _Nodes(known)
    rejects: list[tuple[str, str]] = []
    parts = [_Rows.none()]
    for table in files:
        for cells_read in _batches(table, kind, rule, rejects):
            parts.append(nodes.numbered(cells_read, kind, table.with_entities, rejects))
    rows = _Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return _compact(rows, list(nodes.numbers), rejects)


class _Cells(NamedTuple):
    """Rows of a file that can be read: ids of both ends, relations (None without), and weights."""

    sources: list[str]
    targets: list[str]
    relations: list[str] | None
    weights: np.ndarray

    def words(self, row: int | np.integer) -> str:
        """A row as it is shown."""
        relation = f" {self.relations[row]}" if self.relations else ""
        return f"{self.sources[row]}{relation} {self.targets[row]}"


class _Rows(NamedTuple):
    """The same with nodes and relations by number, int64 `[rows]`, and float64 weights."""

    sources: np.ndarray
    targets: np.ndarray
    relations: np.ndarray
    weights: np.ndarray

    @classmethod
    def none(cls) -> _Rows:
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, empty, np.zeros(0))


class _Nodes:
    """Numbers of nodes and relations: known ids first, then further entities as they are met."""

    def __init__(self, known: Iterable[str]):
        self.numbers = {key: number for number, key in enumerate(dict.fromkeys(known))}
        self.relations: dict[str, int] = {}

    def numbered(
        self, cells_read: _Cells, kind: NodeKind, entities: bool, rejects: list[tuple[str, str]]
    ) -> _Rows:
        """Rows whose ends are two nodes; the others are rejected."""
        ends = [
            np.fromiter((self._number(end, entities) for end in column), np.int64, len(column))
            for column in (cells_read.sources, cells_read.targets)
        ]
        for row in np.flatnonzero((ends[0] < 0) | (ends[1] < 0)):
            unknown = cells_read.sources[row] if ends[0][row] < 0 else cells_read.targets[row]
            rejects.append((f"unknown {kind[:-1]}", f"{cells_read.words(row)} ({unknown!r} is not known)"))
        for row in np.flatnonzero((ends[0] == ends[1]) & (ends[0] >= 0)):
            rejects.append((SELF_LOOP, cells_read.words(row)))
        relations = np.zeros(len(ends[0]), np.int64)
        if cells_read.relations:
            met = self.relations
            given = (met.setdefault(name, len(met) + 1) for name in cells_read.relations)
            relations = np.fromiter(given, np.int64, len(relations))
        good = (ends[0] >= 0) & (ends[1] >= 0) & (ends[0] != ends[1])
        return _Rows(ends[0][good], ends[1][good], relations[good], cells_read.weights[good])

    def _number(self, end: str, entities: bool) -> int:
        number = self.numbers.get(end, -1)
        return self.numbers.setdefault(ENTITY + end, len(self.numbers)) if entities and number < 0 else number


def _compact(rows: _Rows, keys: list[str], rejects: list[tuple[str, str]]) -> EdgeList:
    """Each pair once for each relation, and the nodes that have an edge alone."""
    size, first = max(1, len(keys)), np.zeros(len(rows.sources), bool)
    directed = (rows.relations * size + rows.sources) * size + rows.targets
    first[np.unique(directed, return_index=True)[1]] = True
    for row in np.flatnonzero(~first):
        one, other = (keys[end[row]].removeprefix(ENTITY) for end in (rows.sources, rows.targets))
        rejects.append((DUPLICATE, f"{one} {other}"))
    low, high = np.minimum(rows.sources, rows.targets), np.maximum(rows.sources, rows.targets)
    pairs, where = np.unique((rows.relations * size + low) * size + high, return_inverse=True)
    weights = np.zeros(len(pairs))
    np.maximum.at(weights, where[first], rows.weights[first])
    ends = (
        np.stack([pairs // size % max(1, size), pairs % max(1, size)], 1) if size else np.zeros((0, 2), int)
    )
    nodes, numbers = np.unique(ends, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    return EdgeList([keys[node] for node in nodes], numbers[:, 0], numbers[:, 1], weights, rejects)


def _batches(table: Edges, kind: NodeKind, rule: IdRule, rejects: list[tuple[str, str]]) -> Iterator[_Cells]:
    name = f"graph.{kind}"
    bad: list[BadRow] = []
    for file in find_files(table.path, name):
        for batch in read_batches(file, table.columns(), name, csv=table.csv, report=bad.append):
            yield _cells(batch, table, name, rule, rejects)
        rejects += [(row.reason, str(row)) for row in bad]
        bad.clear()


def _cells(
    batch: pa.RecordBatch, table: Edges, name: str, rule: IdRule, rejects: list[tuple[str, str]]
) -> _Cells:
    """The rows that say something; the others are rejected, or left out on purpose."""

    def where(column: str) -> str:
        return f"column {column!r} of {name}"

    columns = [
        cells.as_python(ids(batch.column(column), rule, where(column)))
        for column in (table.source, table.target)
    ]
    relations: list[str | None] | None = None
    shares = np.ones(len(batch))
    missing = np.array([None in pair for pair in zip(*columns, strict=True)], bool)
    unknown = np.zeros(len(batch), bool)
    if table.relation:
        relations = cells.as_python(cells.strings(batch.column(table.relation), where(table.relation)))
        missing |= np.array([relation is None for relation in relations], bool)
        if table.relations:
            shares = np.array([table.relations.get(relation or "", np.nan) for relation in relations])
            unknown = np.isnan(shares) & ~missing
    weights = np.ones(len(batch))
    if table.weight:
        given = cells.plain(batch.column(table.weight))
        empty = cells.strings(given, where(table.weight)).is_null().to_numpy(zero_copy_only=False)
        weights = np.where(empty, 1.0, cells.numbers(given, where(table.weight), table.csv.decimal))
    light = ~(np.isfinite(weights) & (weights > 0)) & ~missing & ~unknown
    every = _Cells(columns[0], columns[1], relations, weights)  # type: ignore[arg-type]  # None, too
    for faults, reason in ((missing, MISSING), (unknown, UNKNOWN_RELATION), (light, WEIGHT)):
        rejects += [(reason, every.words(row)) for row in np.flatnonzero(faults)]
    good = ~(missing | unknown | light) & (shares > 0)
    kept = np.flatnonzero(good)
    if len(kept) == len(batch):
        return _Cells(columns[0], columns[1], every.relations, weights * shares)
    sources, targets = ([column[row] for row in kept] for column in columns)
    named = None if every.relations is None else [every.relations[row] for row in kept]
    return _Cells(sources, targets, named, (weights * shares)[kept])
