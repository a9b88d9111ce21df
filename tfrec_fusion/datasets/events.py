"""Rows of an interactions table as events, each with the reason why it cannot be used, if there is one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.ids import ids, normalised
from tfrec_fusion.datasets.tables import IdRule, Interactions
from tfrec_fusion.datasets.times import MISSING, detect_time_format, parse_times
from tfrec_fusion.datasets.values import arrow_of

FEW = 5
"""From so many cells on, a column without a number among them is no column of numbers."""

NO_CHOICE = "no choice"
"""How the reason of a row begins that is left out because the configuration says that it is no choice: no
fault of the row."""


@dataclasses.dataclass(frozen=True)
class EventColumns:
    """One entry per event; a row whose cell holds several items is several events.

    Attributes:
        rows: int64, the row of the batch.
        users, items: ids; null where missing.
        times: int64, nanoseconds since 1970; 0 without a column of times.
        labels: float64, NaN where nothing is given; None without a column of labels.
        further_labels: label name → float64, NaN where nothing is given, 0 and 1 of a `binary` one.
        weights: float64, how much an event counts; 0 of what was shown and not chosen, below 0 of what was
            disliked.
        positions: int64, where the item was shown; 0 where that is not known.
        texts: strings, what users wrote, null where nothing; None without a column of texts.
        written: int64, from when on each text is known; None likewise.
        reason: objects, "" where the event can be used. Those that begin with `NO_CHOICE` are left out on
            purpose.
    """

    rows: np.ndarray
    users: pa.Array
    items: pa.Array
    times: np.ndarray
    labels: np.ndarray | None
    weights: np.ndarray
    positions: np.ndarray
    reason: np.ndarray
    further_labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    texts: pa.Array | None = None
    written: np.ndarray | None = None

    @property
    def good(self) -> np.ndarray:
        """Which events can be used."""
        return self.reason == ""


def read_events(
    batch: pa.RecordBatch | pd.DataFrame,
    table: Interactions,
    user_ids: IdRule = "as_written",
    item_ids: IdRule = "as_written",
) -> EventColumns:
    """Reads a batch of rows.

    Args:
        batch: the columns of `table.columns()`.
        table: what they mean. Without a `time_format` it is told from this batch alone; see
            `settling.settle`.
        user_ids, item_ids: the form of ids, as in `Tables`.

    Raises:
        ConfigError: where a column cannot be what the table says.
    """
    columns = {name: _column(batch, name) for name in table.columns()}
    reason = np.full(len(columns[table.user]), "", object)
    weights = _outcomes(columns, table, reason) if table.outcomes else _weights(columns, table, reason)
    shown_at = _positions(columns, table) if table.position else np.zeros(len(reason), np.int64)
    if table.quantity:
        pieces = cells.numbers(columns[table.quantity], _where(table.quantity), table.csv.decimal)
        reason[~(pieces > 0)] = "quantity not above 0"
    labels = _labels(columns[table.label], table, reason) if table.label else None
    further = {name: _further(name, columns, table, reason) for name in table.labels}
    if labels is not None and table.dislikes_below is not None:
        # A label that is not given is no dislike.
        weights = np.where(labels < table.dislikes_below, -np.abs(weights), weights)
    times = _times(columns[table.time], table, reason) if table.time else np.zeros(len(reason), np.int64)
    users = ids(columns[table.user], user_ids, _where(table.user))
    rows, items, positions = _items(columns[table.item], table, item_ids)
    missing = pc.is_null(users).to_numpy(zero_copy_only=False)
    reason = reason[rows]
    kept_out = (
        np.char.startswith(reason.astype(str), NO_CHOICE) if table.weighted else np.zeros(len(rows), bool)
    )
    reason[pc.is_null(items).to_numpy(zero_copy_only=False) & ~kept_out] = "missing item id"
    reason[missing[rows] & ~kept_out] = "missing user id"
    moments = np.where(times[rows] == MISSING, MISSING, times[rows] + positions)
    texts, written = _texts(columns, table, rows, moments) if table.text else (None, None)
    return EventColumns(
        rows,
        users.take(pa.array(rows)),
        items,
        moments,
        None if labels is None else labels[rows],
        weights[rows],
        shown_at[rows],
        reason,
        {name: values[rows] for name, values in further.items()},
        texts,
        written,
    )


def _column(batch: pa.RecordBatch | pd.DataFrame, name: str) -> pa.Array:
    return arrow_of(batch[name]) if isinstance(batch, pd.DataFrame) else cells.plain(batch.column(name))


def _where(column: str) -> str:
    return f"column {column!r} of the interactions table"


def _items(array: pa.Array, table: Interactions, rule: IdRule) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """Of each event its row, its item, and its place in the row's cell."""
    count = len(array)
    if not table.explode:
        return np.arange(count), ids(array, rule, _where(table.item)), np.zeros(count, np.int64)
    several = cells.lists(array, table.explode, _where(table.item))
    lengths = np.diff(several.offsets.to_numpy())
    values = normalised(several.flatten(), rule)
    # A row without an item is an event without one, to be counted.
    entries = np.maximum(lengths, 1)
    rows = np.repeat(np.arange(count), entries)
    positions = np.arange(len(rows)) - np.repeat(np.cumsum(entries) - entries, entries)
    taken = np.where(lengths[rows] > 0, several.offsets.to_numpy()[rows] + positions, -1)
    return rows, values.take(pa.array(taken, mask=taken < 0)), positions


def _times(array: pa.Array, table: Interactions, reason: np.ndarray) -> np.ndarray:
    assert table.time
    time_format = table.time_format or detect_time_format(array, _where(table.time)).name
    times = parse_times(array, time_format, _where(table.time))
    lost = times == MISSING
    reason[lost] = "unparsable time"
    reason[lost & pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)] = "missing time"
    return times


def _texts(
    columns: dict[str, pa.Array], table: Interactions, rows: np.ndarray, times: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """What was written of each event, and from when on it is known: never before the event."""
    assert table.text and table.time
    texts = cells.strings(columns[table.text], _where(table.text)).take(pa.array(rows))
    if not table.text_time:
        return texts, times
    where = _where(table.text_time)
    time_format = table.time_format or detect_time_format(columns[table.time], _where(table.time)).name
    array = columns[table.text_time]
    written = parse_times(array, time_format, where)
    given = ~pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
    if given.sum() >= FEW and (written[given] == MISSING).all():
        raise ConfigError(
            f"`interactions.text_time` must be written as `interactions.time` is, {time_format}. Received:"
            f" {array.filter(pa.array(given))[0].as_py()!r}. Rewrite the column, or leave it out: texts then"
            " count from their interaction on."
        )
    return texts, np.where(written[rows] == MISSING, times, np.maximum(written[rows], times))


def _labels(array: pa.Array, table: Interactions, reason: np.ndarray) -> np.ndarray:
    """Numbers, NaN where nothing is given."""
    assert table.label
    where = _where(table.label)
    given, words = cells.numbers(array, where, table.csv.decimal), pc.utf8_lower(cells.strings(array, where))
    nothing = pc.is_null(words).to_numpy(zero_copy_only=False)
    labels = given.copy()
    for value, number in table.label_values.items():
        labels[_equal(words, given, value)] = number
    for null in table.label_nulls:
        nothing = nothing | _equal(words, given, str(null))
    reason[~np.isfinite(labels) & ~nothing] = "unparsable label"
    labels[nothing] = np.nan
    return labels


def _further(name: str, columns: dict[str, pa.Array], table: Interactions, reason: np.ndarray) -> np.ndarray:
    """A further label: numbers, NaN where nothing is given."""
    label, column = table.labels[name], table.label_columns[name]
    values = cells.numbers(columns[column], _where(column), table.csv.decimal)
    given = ~pc.is_null(cells.strings(columns[column], _where(column))).to_numpy(zero_copy_only=False)
    wrong = given & ~np.isfinite(values)
    if given.sum() >= FEW and wrong[given].all():
        seen = columns[column].filter(pa.array(given))[0].as_py()
        raise ConfigError(
            f"`interactions.labels.{name}` must be a column of numbers. Received: {column!r}, which holds"
            f" {str(seen)[:40]!r}. Name another column, or make numbers of it."
        )
    reason[wrong] = f"unparsable label {name!r}"
    values = np.where(given, values, np.nan)
    return values if label.kind == "rating" else np.where(given, values >= label.threshold, np.nan)


def _equal(words: pa.Array, numbers: np.ndarray, value: str) -> np.ndarray:
    """Which cells are a value of the configuration: as numbers where it is one, else as words, case aside."""
    value = value.strip().lower()
    number = cells.parse_numbers(pa.array([value]))[0]
    if np.isfinite(number):
        return numbers == number
    return pc.fill_null(pc.equal(words, value), False).to_numpy(zero_copy_only=False)


def _outcomes(columns: dict[str, pa.Array], table: Interactions, reason: np.ndarray) -> np.ndarray:
    """What came of each row, its parts weighed and added; an empty cell is 0."""
    total = np.zeros(len(reason))
    for name, weight in table.outcomes.items():
        array = columns[name]
        values = cells.numbers(array, _where(name), table.csv.decimal)
        nothing = pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
        values = np.where(nothing, 0.0, values)
        reason[~np.isfinite(values)] = f"unparsable outcome {name!r}"
        total += weight * np.nan_to_num(values, posinf=0.0, neginf=0.0)
    return total


def _positions(columns: dict[str, pa.Array], table: Interactions) -> np.ndarray:
    """Positions from 1 on; 0 for what is none."""
    assert table.position
    values = cells.numbers(columns[table.position], _where(table.position), table.csv.decimal)
    return np.where((values >= 1) & (values < 2**31), np.nan_to_num(values), 0).astype(np.int64)


def _weights(columns: dict[str, pa.Array], table: Interactions, reason: np.ndarray) -> np.ndarray:
    """How much each row counts, 1 where nothing says so."""
    weights = np.ones(len(reason))
    if table.weight:
        array, where = columns[table.weight], _where(table.weight)
        given = cells.numbers(array, where, table.csv.decimal)
        nothing = pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
        weights = np.where(nothing, 1.0, given)
        reason[~np.isfinite(weights)] = "unparsable weight"
        reason[weights < 0] = "weight below 0"
        reason[weights == 0] = f"{NO_CHOICE}: weight 0"
    if table.event:
        kinds = pc.dictionary_encode(
            pc.fill_null(cells.strings(columns[table.event], _where(table.event)), "")
        )
        known = {name.strip().lower(): value for name, value in table.events.items()}
        names = kinds.dictionary.to_pylist()
        positions = kinds.indices.to_numpy(zero_copy_only=False)
        counts = np.array([known.get(name.lower(), np.nan) for name in names] or [1.0])[positions]
        reasons = np.array(
            [_reason_of_kind(name, known.get(name.lower())) for name in names] or [""], object
        )[positions]
        weights = weights * counts
        reason[reasons != ""] = reasons[reasons != ""]
    return weights


def _reason_of_kind(name: str, count: float | None) -> str:
    if count is None:
        return f"event {name!r} is not among `events`" if name else "missing kind of event"
    return f"{NO_CHOICE}: event {name!r} counts 0" if count == 0 else ""
