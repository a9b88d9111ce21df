"""Rows of the interactions, with the columns of a table that they are joined with."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.reading import Report, column_names, read_batches, refuse
from tfrec_fusion.datasets.records import BadRow
from tfrec_fusion.datasets.tables import Interactions


class InteractionRows:
    """Reads files of an interactions table with all the columns that it needs, from wherever they are.

    The joined table is read once and held in memory, as one string for each key and what Arrow needs for the
    rest.

    Args:
        table: the interactions.
    """

    def __init__(self, table: Interactions):
        self.table = table

    def batches(self, path: str, report: Report = refuse) -> Iterator[pa.RecordBatch]:
        """Batches with `table.columns()`; rows that no row of the joined table belongs to are reported.

        Args:
            path: one of the table's files.
            report: is told of rows that cannot be read or joined.
        """
        table = self.table
        if table.join is None:
            yield from read_batches(path, table.columns(), "interactions", csv=table.csv, report=report)
            return
        own, _ = self.columns_of(path)
        requested = tuple(dict.fromkeys((*own, table.join.left)))
        # The joined table's broken rows are told of once, not with each file.
        told = report if path == find_files(table.path, "interactions")[0] else (lambda _: None)
        joined, index, doubtful = self._joined(told)
        for batch in read_batches(path, requested, "interactions", csv=table.csv, report=report):
            keys = cells.strings(
                batch.column(table.join.left), f"column {table.join.left!r} of the interactions table"
            )
            positions = index.get_indexer(pd.Index(keys.to_pylist(), dtype=object))
            lost = (positions < 0) | doubtful[positions]
            for row in batch.filter(pa.array(lost)).to_pylist() if lost.any() else ():
                report(
                    BadRow(
                        path,
                        0,
                        f"no row of its own in the joined table for its {table.join.left!r}",
                        json.dumps(row, default=str),
                    )
                )
            batch = batch.filter(pa.array(~lost))
            more = joined.take(pa.array(positions[~lost]))
            yield pa.RecordBatch.from_arrays(
                [
                    batch.column(name) if name in own else cells.plain(more.column(name))
                    for name in table.columns()
                ],
                names=list(table.columns()),
            )

    def columns_of(self, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Which of the needed columns stand in the table's own file, and which in the joined table.

        Raises:
            ConfigError: for a column that is in neither.
        """
        table = self.table
        if table.join is None:
            return table.columns(), ()
        here, there = column_names(path, table.csv), column_names(self.joined_files[0], table.join.csv)
        for name, column, names in (
            ("interactions", table.join.left, here),
            ("interactions.join", table.join.right, there),
        ):
            if column not in names:
                raise ConfigError(
                    f"The {name} table has no column {column!r}, which `interactions.join.on` names. It has:"
                    f" {', '.join(names)}."
                )
        own = tuple(name for name in table.columns() if name in here)
        other = tuple(name for name in table.columns() if name not in here)
        missing = [name for name in other if name not in there]
        if missing:
            raise ConfigError(
                f"Neither {path!r} nor {table.join.path!r} has a column {', '.join(map(repr, missing))}. They"
                f" have: {', '.join(here)}; {', '.join(there)}. Mend the names under `data.interactions`."
            )
        return own, other

    @property
    def joined_files(self) -> list[str]:
        """The files of the joined table."""
        assert self.table.join
        return find_files(self.table.join.path, "interactions.join")

    def _joined(self, report: Report) -> tuple[pa.Table, pd.Index, np.ndarray]:
        if "joined" not in self.__dict__:
            self.joined = self._read(report)
        return self.joined

    def _read(self, report: Report) -> tuple[pa.Table, pd.Index, np.ndarray]:
        """The joined table, the index of its keys, and which rows contradict another row of the same key."""
        join = self.table.join
        assert join
        _, other = self.columns_of(find_files(self.table.path, "interactions")[0])
        requested = tuple(dict.fromkeys((join.right, *other)))
        batches = [
            batch
            for file in self.joined_files
            for batch in read_batches(file, requested, "interactions.join", csv=join.csv, report=report)
        ]
        if not batches:
            raise ConfigError(
                f"The joined table {join.path!r} has no row that can be read. Mend `data.interactions.join`."
            )
        if len({str(batch.schema) for batch in batches}) > 1:  # files that write a column in several types
            batches = [_as_strings(batch) for batch in batches]
        table = pa.Table.from_batches(batches)
        keys = cells.strings(
            table.column(join.right), f"column {join.right!r} of the joined table"
        ).to_pylist()
        known = pd.Series(keys, dtype=object)
        kept = known.notna() & ~known.duplicated()
        rest = table.drop_columns([join.right]) if other and join.right not in other else table
        twice = known[known.notna() & known.duplicated(keep=False)]
        doubtful = np.zeros(len(table), bool)
        if len(twice):
            rows = pd.Series(
                [repr(row) for row in rest.take(pa.array(twice.index)).to_pylist()], index=twice.index
            )
            differing = rows.groupby(twice).transform("nunique") > 1
            doubtful[differing.index[differing]] = True
        return (
            table.filter(pa.array(kept)),
            pd.Index(known[kept], dtype=object),
            np.append(doubtful[kept], False),
        )


def _as_strings(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = batch.schema.names
    columns = [cells.strings(batch.column(name), f"column {name!r} of the joined table") for name in names]
    return pa.RecordBatch.from_arrays(columns, names=names)
