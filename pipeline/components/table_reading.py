"""Files of the three tables into rows, vectorised by record batch; what cannot be used is tagged with its reason."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pandas as pd

from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users, read_batches


def parse_times(values: pd.Series) -> pd.Series:
    """Seconds since 1970 (float, NaN where unparsable) from numbers or from dates and times (naive ones are UTC)."""
    numbers = pd.to_numeric(values, errors="coerce")
    if pd.api.types.is_datetime64_any_dtype(values):
        numbers = pd.Series(float("nan"), index=values.index)
    rest = numbers.isna() & values.notna()
    if rest.any():
        dates = pd.to_datetime(values[rest], errors="coerce", utc=True, format="mixed")
        seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        numbers = numbers.astype("float64")
        numbers[rest] = seconds
    return numbers.where(numbers.abs() < 2**53)


def clean_ids(values: pd.Series) -> pd.Series:
    """Ids as strings: white space trimmed, `7.0` from a float column as `7`, empty and null as None."""
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna()
        if ((whole % 1) == 0).all():
            values = values.astype("Int64")
    text = values.astype("string").str.strip()
    return text.astype(object).where(text.notna() & (text != ""), None)


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
        label = (table.label,) if table.label else ()
        columns = tuple(dict.fromkeys((table.user, table.item, table.time, *label, *table.context)))
        for batch in read_batches(path, columns, "interactions"):
            frame = batch.to_pandas()
            users, items = clean_ids(frame[table.user]), clean_ids(frame[table.item])
            times = parse_times(frame[table.time])
            labels = pd.to_numeric(frame[table.label], errors="coerce") if table.label else None
            reason = pd.Series("", index=frame.index)
            if labels is not None:
                reason[labels.isna() | labels.abs().eq(math.inf)] = "unparsable label"
            reason[times.isna()] = "unparsable time"
            reason[items.isna()] = "missing item id"
            reason[users.isna()] = "missing user id"
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
            values = (
                labels[good].astype("float64").tolist() if labels is not None else [None] * int(good.sum())
            )
            rows = zip(
                users[good], items[good], times[good].astype("int64").tolist(), values, contexts, strict=True
            )
            for user, item, time, value, context in rows:
                yield item, (user, time, value, context)


class ReadEntities(beam.DoFn):
    """File of items or users → (id, features by Example name), rejects tagged."""

    def __init__(self, table: Items | Users, name: str):
        self.table, self.name = table, name

    def process(self, path: str) -> Iterator[Any]:
        columns = next(columns for name, _, columns in _one_table(self.table).columns() if name == self.name)
        for batch in read_batches(path, columns, self.name):
            frame = batch.to_pandas()
            ids = clean_ids(frame[self.table.id])
            missing = ids.isna()
            for row in _plain_rows(frame[missing]):
                yield beam.pvalue.TaggedOutput("rejects", (self.name, "missing id", row))
            features = self._features(frame[~missing])
            for key, *values in zip(ids[~missing], *features.values(), strict=True):
                yield key, dict(zip(features, values, strict=True))

    def _features(self, frame: pd.DataFrame) -> dict[str, list[Any]]:
        table, kind = self.table, self.name[:-1]
        columns: dict[str, list[Any]] = {}
        if isinstance(table, Items):
            if table.title:
                columns["title"] = _strings(frame[table.title])
            for column in table.text:
                columns[f"text_{column}"] = _strings(
                    frame[column], table.separator if column in table.lists else None
                )
            for column in table.lists:
                columns[f"{kind}_{column}"] = [_several(value, table.separator) for value in frame[column]]
            for column in table.vectors:
                columns[f"{kind}_{column}"] = [_vector(value) for value in frame[column]]
        for column in table.categories:
            columns[f"{kind}_{column}"] = _strings(frame[column])
        for column in table.numbers:
            numbers = pd.to_numeric(frame[column], errors="coerce").replace([math.inf, -math.inf], math.nan)
            columns[f"{kind}_{column}"] = [
                None if math.isnan(value) else float(value) for value in numbers.astype("float64")
            ]
        return columns


def _one_table(table: Items | Users) -> Tables:
    none = Interactions(path="")
    return Tables(none, table, None) if isinstance(table, Items) else Tables(none, Items(path=""), table)


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
