"""Files of the three tables into rows, vectorised by record batch; what cannot be used is tagged with its reason."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pandas as pd

from pipeline.data.features import RawFeature, Role
from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.tables import Interactions, Items, Users
from tfrec_fusion.datasets.values import clean_ids, parse_numbers

ROWS = "\x00rows"


def _plain_rows(frame: pd.DataFrame) -> Iterator[str]:
    """The rows as JSON, for the reject file."""
    for row in frame.to_dict("records"):
        yield json.dumps(row, default=str, ensure_ascii=False)


class ReadInteractions(beam.DoFn):
    """File → (user, Event), rejects tagged."""

    def __init__(self, table: Interactions):
        self.table = table

    def process(self, path: str) -> Iterator[Any]:
        table = self.table
        for batch in read_batches(path, table.columns(), "interactions", csv=table.csv):
            frame = batch.to_pandas()
            users, items, times, labels, reason = read_events(frame, table)
            bad = reason != ""
            for why, row in zip(reason[bad], _plain_rows(frame[bad]), strict=True):
                yield beam.pvalue.TaggedOutput("rejects", ("interactions", why, row))
            good = ~bad
            contexts: Iterable[tuple[str, ...]]
            if table.context:
                parts = [
                    frame.loc[good, column].astype("string").fillna("").tolist() for column in table.context
                ]
                contexts = zip(*parts, strict=True)
            else:
                contexts = ((),) * int(good.sum())
            values = labels[good].tolist() if labels is not None else [None] * int(good.sum())
            rows = zip(
                users[good], items[good], times[good].astype("int64").tolist(), values, contexts, strict=True
            )
            for user, item, time, value, context in rows:
                yield item, (user, time, value, context)


def _count_equal_rows(frame: pd.DataFrame, ids: pd.Series) -> tuple[pd.DataFrame, pd.Series, list[dict]]:
    """Equal rows once, and how often each stood there; so little travels of a table that repeats itself."""
    keys = pd.DataFrame({place: frame.iloc[:, place].map(str) for place in range(frame.shape[1])})
    sizes = keys.groupby(list(keys), sort=False)[0].transform("size")
    first = ~keys.duplicated()
    return frame[first], ids[first], [{ROWS: int(size)} for size in sizes[first]]


def most_frequent(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows of one id from a `distinct` table → one row: of each feature the most frequent value that is not None.

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


class ReadEntities(beam.DoFn):
    """File of items or users → (id, features by Example name), rejects tagged.

    Of a `distinct` table each features mapping also holds, under `ROWS`, how many rows it stands for.
    """

    def __init__(self, table: Items | Users, name: str):
        self.table, self.name = table, name

    def process(self, path: str) -> Iterator[Any]:
        for batch in read_batches(path, self.table.columns(), self.name, csv=self.table.csv):
            frame = batch.to_pandas()
            ids = clean_ids(frame[self.table.id])
            missing = ids.isna()
            # Rows of a `distinct` table are interactions, and counted there.
            for row in _plain_rows(frame[missing]) if not self.table.distinct else ():
                yield beam.pvalue.TaggedOutput("rejects", (self.name, "missing id", row))
            frame, ids = frame[~missing], ids[~missing]
            counts: Iterable[dict[str, int]] = ({},) * len(frame)
            if self.table.distinct:
                frame, ids, counts = _count_equal_rows(frame, ids)
            features = self._features(frame)
            for key, count, *values in zip(ids, counts, *features.values(), strict=True):
                yield key, dict(zip(features, values, strict=True)) | count

    def _features(self, frame: pd.DataFrame) -> dict[str, list[Any]]:
        table = self.table
        role: Role = "item" if isinstance(table, Items) else "user"
        columns: dict[str, list[Any]] = {}
        if isinstance(table, Items):
            if table.title:
                columns["title"] = _strings(frame[table.title])
            for column in table.text:
                columns[RawFeature("text", "categorical", column).name] = _strings(
                    frame[column], table.separator if column in table.lists else None
                )
            for column in table.lists:
                columns[RawFeature(role, "categories", column).name] = [
                    _several(value, table.separator) for value in frame[column]
                ]
            for column in table.vectors:
                columns[RawFeature(role, "vector", column).name] = [_vector(value) for value in frame[column]]
        for column in table.categories:
            columns[RawFeature(role, "categorical", column).name] = _strings(frame[column])
        for column in table.numbers:
            numbers = parse_numbers(frame[column], table.csv.decimal).replace([math.inf, -math.inf], math.nan)
            columns[RawFeature(role, "number", column).name] = [
                None if math.isnan(value) else float(value) for value in numbers
            ]
        return columns


def _strings(values: pd.Series, separator: str | None = None) -> list[str | None]:
    """Trimmed strings, None where null or empty; with a separator, `a|b` and lists read as `a b`."""
    out: list[str | None] = []
    for value in values:
        if separator is not None:
            value = " ".join(_several(value, separator))
        elif value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            value = ""
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        out.append(str(value).strip() or None)
    return out


def _several(value: Any, separator: str) -> list[str]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    parts = value.split(separator) if isinstance(value, str) else list(value)
    return [str(part).strip() for part in parts if part is not None and str(part).strip()]


def _vector(value: Any) -> list[float] | None:
    return None if value is None else [float(number) for number in value]
