"""Tables of outcomes as sums of each unit: the impressions log, or anybody's table with an arm and a result.

What a table may do wrong has a stated treatment, told in `notes`; what cannot be mended is an error:

| seen | treatment |
|---|---|
| rows in any order | sorted by time, where there is one |
| the same id again | the last one in time counts |
| a unit in two arms | left out of all |
| nobody's rows (an empty unit), rows without this experiment | left out |
| rows before `start` | what the unit did before, for CUPED; without `start`, none |
| rows after `end`, or beyond a unit's window | left out |
| outcomes other than 0 and 1 | counted as they are; `binary` counts 1 for what is above 0 |
| an outcome that is missing, no number, or infinite; a time that cannot be read | error |
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tfrec_fusion.experiments.assignment import arms_of
from tfrec_fusion.experiments.checks import ExperimentError

ROWS = "rows"
"""In place of a column: the number of the unit's rows."""

_NAMED = re.compile(r"[\w.\-]+=[\w.\-]+(;[\w.\-]+=[\w.\-]+)*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which columns hold what.

    Attributes:
        unit: column of the unit, a user as a rule.
        arm: column of the arm; `exp1=a;exp2=b` where several experiments run, as in the impressions log;
            empty for a table without arms, whose units are in one, `all`.
        metrics: `COLUMN` (a mean over units), `COLUMN/rows` (by row) or `COLUMN/COLUMN`.
        time: column of the time; empty where there is none.
        id: columns that identify a row; none where rows are not to be compared.
        covariates: columns of numbers from before the experiment.
        start, end: times between which rows count, both or either; dates or dates and times, UTC where no
            zone is named. What lies before `start` is the units' past.
        window_days: count only the first days after a unit's first row, and only units for which they are
            over when the table ends; 0 for no window. Always-valid intervals need it where units come back.
        binary: count 1 for an outcome above 0.
    """

    unit: str = "user"
    arm: str = "arm"
    metrics: tuple[str, ...] = ("click/rows",)
    time: str = "time"
    id: tuple[str, ...] = ("request_id", "item")
    covariates: tuple[str, ...] = ()
    start: str = ""
    end: str = ""
    window_days: float = 0.0
    binary: bool = False

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ExperimentError("There must be at least one metric, such as `click/rows`.")
        for metric in self.metrics:
            if not all(metric.split("/")) or metric.count("/") > 1 or self.metrics.count(metric) > 1:
                raise ExperimentError(
                    "A metric must be COLUMN or COLUMN/COLUMN, and be named once. Received:"
                    f" {', '.join(map(repr, self.metrics))}. A column whose name has a `/` must be renamed."
                )
        if (self.start or self.end or self.window_days) and not self.time:
            raise ExperimentError("`start`, `end` and `window_days` need `time`, the column of the time.")
        if not self.window_days >= 0:
            raise ExperimentError(f"`window_days` must be at least 0. Received: {self.window_days!r}.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Reading:
        """From what a file says; raises ExperimentError for unknown keys."""
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or set(values) - set(known):
            raise ExperimentError(f"Reading has the keys {', '.join(known)}. Received: {values!r}.")
        given: dict[str, Any] = {}
        for name, value in dict(values).items():
            kind: Any = type(known[name])
            if kind is tuple and isinstance(value, list):
                value = tuple(value)
            elif kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind or (kind is tuple and not all(isinstance(one, str) for one in value)):
                words = {tuple: "a list of texts", str: "a text", float: "a number", bool: "true or false"}[
                    kind
                ]
                raise ExperimentError(f"`{name}` of reading must be {words}. Received: {value!r}.")
            given[name] = value
        return cls(**given)

    def columns(self) -> list[str]:
        """All columns that are read."""
        sides = [side for metric in self.metrics for side in metric.split("/", 1) if side != ROWS]
        single = filter(None, [self.unit, self.arm, self.time])
        return list(dict.fromkeys([*single, *self.id, *sides, *self.covariates]))


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Sums of each unit.

    Attributes:
        arms: their names, the control first.
        arm: integer `[units]`, index of each unit's.
        sums: by metric, numerator and denominator, float64 `[units]` each.
        covariates: float64 `[units, C]` from before the experiment, NaN where missing; None where there are
            none.
        first: float64 `[units]`, seconds since 1970 of each unit's first row; NaN where there is no time.
        rows: that were counted.
        crossed: units that were in more than one arm, and are left out.
        notes: what was seen and done, a sentence each.
    """

    arms: tuple[str, ...]
    arm: np.ndarray
    sums: Mapping[str, tuple[np.ndarray, np.ndarray]]
    covariates: np.ndarray | None
    first: np.ndarray
    rows: int
    crossed: int
    notes: tuple[str, ...]

    def counts(self) -> np.ndarray:
        """integer `[arms]`: units of each."""
        return np.bincount(self.arm, minlength=len(self.arms))


def read_outcomes(
    table: pd.DataFrame, reading: Reading, experiment: str = "", arms: Sequence[str] = ()
) -> Outcomes:
    """Sums of each unit of a table.

    Args:
        table: one row an outcome; columns as `reading` names them.
        reading: which columns hold what.
        experiment: whose arms are meant where the arm's column names experiments.
        arms: names of the arms, the control first; those of the table, sorted, where none are given.

    Returns:
        The outcomes. Arms that are given and have no row have no unit.

    Raises:
        ExperimentError: a column is missing, or holds what cannot be counted.
    """
    notes: list[str] = []
    missing = [name for name in reading.columns() if name not in table.columns]
    if missing:
        raise ExperimentError(
            f"The table has no column {', '.join(map(repr, missing))}. Its columns:"
            f" {', '.join(map(str, table.columns))}. Name the columns that hold unit, arm, outcome, time and"
            " id."
        )
    if not reading.id:
        _tell_repeated(table, notes)
    table = table[reading.columns()].reset_index(drop=True)
    table["\0arm"] = arms_of_rows(table[reading.arm], experiment) if reading.arm else "all"
    table = _timed(table, reading)
    table = _own_rows(table, reading, notes)
    table = _unique(table, reading, notes)
    table, past = _between(table, reading, notes)
    names = tuple(arms) or tuple(sorted(set(table["\0arm"])))
    table = _known_arms(table, names, notes)
    table, crossed = _uncrossed(table, reading, notes)
    table = _windowed(table, reading, notes)
    if table.empty:
        raise ExperimentError(
            "No row of the table belongs to the experiment. " + (" ".join(notes) or "The table is empty.")
        )
    return _summed(table, past, names, reading, crossed, notes)


def arms_of_rows(column: pd.Series, experiment: str) -> pd.Series:
    """Each row's arm; "" where it has none of this experiment. Text that is not written as `exp=arm;…` is the
    name of an arm, whatever signs it holds."""
    texts = column.astype("string").fillna("").str.strip()
    known = {}
    for text in texts.unique():
        arms = arms_of(text) if _NAMED.fullmatch(text) else {"": text}
        if experiment:
            known[text] = arms.get(experiment, arms.get("", ""))
        elif len(arms) > 1:
            raise ExperimentError(
                f"The table names several experiments. Received: {text!r}. Say which one is meant."
            )
        else:
            known[text] = next(iter(arms.values()))
    return texts.map(known).astype(object)


def _timed(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    if not reading.time:
        table["\0time"] = np.nan
        return table
    table["\0time"] = _seconds(table[reading.time], reading.time)
    return table.sort_values("\0time", kind="stable", ignore_index=True)


def _seconds(column: pd.Series, name: str) -> np.ndarray:
    """Seconds since 1970; naive times are UTC, numbers are seconds."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        times = pd.to_datetime(
            column, utc=True, errors="coerce", format=None if column.dtype != object else "ISO8601"
        )
        values = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ExperimentError(
            f"Times must be dates and times as ISO 8601 writes them, or seconds since 1970. Received:"
            f" {column.iloc[row]!r} in row {row:,} of {name!r} ({int((~np.isfinite(values)).sum()):,} such"
            " rows)."
        )
    return values


def _moment(text: str, name: str) -> float:
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise ExperimentError(
            f"`{name}` must be a date, or a date and time. Received: {text!r} ({error})."
        ) from None
    return (time.tz_localize("UTC") if time.tzinfo is None else time).timestamp()


def _own_rows(table: pd.DataFrame, reading: Reading, notes: list[str]) -> pd.DataFrame:
    unit = table[reading.unit]
    nobody = unit.isna() | (unit.astype("string").fillna("").str.strip() == "")
    if nobody.any():
        notes.append(f"{int(nobody.sum()):,} rows name nobody and are left out.")
    return table[~nobody]


def _tell_repeated(table: pd.DataFrame, notes: list[str]) -> None:
    try:
        repeated = int(table.duplicated().sum())
    except TypeError:  # lists in a column
        return
    if repeated:
        notes.append(
            f"{repeated:,} rows equal another one in every column, and count; where they are repetitions,"
            " say which"
            " columns identify a row."
        )


def _unique(table: pd.DataFrame, reading: Reading, notes: list[str]) -> pd.DataFrame:
    """The last row of each id."""
    if not reading.id:
        return table
    nameless = table[list(reading.id)].isna().any(axis=1)
    if nameless.any():
        notes.append(f"{int(nameless.sum()):,} rows have no id, and count each.")
    again = table.duplicated(list(reading.id), keep="last") & ~nameless
    if again.any():
        changed = int((again & ~table.duplicated(keep="last")).sum())
        notes.append(
            f"{int(again.sum()):,} rows repeat an id and are left out"
            + (f", {changed:,} of them with other values than the last, which counts" if changed else "")
            + "."
        )
    return table[~again]


def _between(
    table: pd.DataFrame, reading: Reading, notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    past = None
    if reading.start:
        before = table["\0time"] < _moment(reading.start, "start")
        table, past = table[~before], table[before]
    if reading.end:
        after = table["\0time"] >= _moment(reading.end, "end")
        if after.any():
            notes.append(f"{int(after.sum()):,} rows are of {reading.end} or later and are left out.")
        table = table[~after]
    return table, past


def _known_arms(table: pd.DataFrame, names: tuple[str, ...], notes: list[str]) -> pd.DataFrame:
    outside = table["\0arm"] == ""
    if outside.any():
        notes.append(f"{int(outside.sum()):,} rows have no arm of this experiment and are left out.")
    table = table[~outside]
    unknown = ~table["\0arm"].isin(names)
    if unknown.any():
        seen = sorted(set(table.loc[unknown, "\0arm"]))
        raise ExperimentError(
            f"The experiment's arms are {', '.join(names)}. Received: {', '.join(map(repr, seen[:5]))} in"
            f" {int(unknown.sum()):,} rows. Name all arms, or leave such rows out."
        )
    return table


def _uncrossed(table: pd.DataFrame, reading: Reading, notes: list[str]) -> tuple[pd.DataFrame, int]:
    pairs = table[[reading.unit, "\0arm"]].drop_duplicates()
    crossed = pairs.loc[pairs.duplicated(reading.unit), reading.unit].unique()
    if len(crossed):
        total = pairs[reading.unit].nunique()
        notes.append(
            f"{len(crossed):,} of {total:,} units were in more than one arm and are left out of all"
            f" ({len(crossed) / total:.1%}). Above 1 %, look for the reason first: another salt meanwhile,"
            " or units"
            " that are not what was assigned."
        )
        table = table[~table[reading.unit].isin(crossed)]
    return table, len(crossed)


def _windowed(table: pd.DataFrame, reading: Reading, notes: list[str]) -> pd.DataFrame:
    if not reading.window_days or table.empty:
        return table
    seconds, last = reading.window_days * 86_400, table["\0time"].max()
    begun = table.groupby(reading.unit, sort=False)["\0time"].transform("min")
    open_units = begun + seconds > last
    if open_units.any():
        count = table.loc[open_units, reading.unit].nunique()
        notes.append(f"{count:,} units began less than {reading.window_days:g} days before the end and wait.")
    return table[~open_units & (table["\0time"] < begun + seconds)]


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    values = table[column]
    if values.dtype == bool:
        return values.to_numpy(np.float64)
    if not pd.api.types.is_numeric_dtype(values):
        raise ExperimentError(
            f"An outcome must be a number. Received: {values.iloc[0]!r} in {column!r}. Write 1 where it"
            " happened and 0"
            " where it did not, or an amount."
        )
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(numbers).all():
        raise ExperimentError(
            f"An outcome must not be missing. Received: {int((~np.isfinite(numbers)).sum()):,} missing or"
            " infinite"
            f" values in {column!r}. Write 0 where nothing happened, or leave out rows whose outcome is"
            " unknown."
        )
    return numbers


def _summed(
    table: pd.DataFrame,
    past: pd.DataFrame | None,
    names: tuple[str, ...],
    reading: Reading,
    crossed: int,
    notes: list[str],
) -> Outcomes:
    codes, units = pd.factorize(table[reading.unit])
    count = len(units)
    rows = np.bincount(codes, minlength=count).astype(np.float64)
    arm = np.zeros(count, np.int64)
    arm[codes] = table["\0arm"].map({name: index for index, name in enumerate(names)}).to_numpy(np.int64)
    first = np.full(count, np.inf if reading.time else np.nan)
    if reading.time:
        np.minimum.at(first, codes, table["\0time"].to_numpy(np.float64))
    sums = {}
    for metric in reading.metrics:
        above, _, below = metric.partition("/")
        numerator = (
            rows if above == ROWS else np.bincount(codes, _outcome(table, above, reading, notes), count)
        )
        denominator = rows if below == ROWS else np.ones(count)
        if below not in ("", ROWS):
            denominator = np.bincount(codes, _numbers(table, below), count).astype(np.float64)
        sums[metric] = (numerator, denominator)
    before = [np.bincount(codes, _covariate(table, name), count) / rows for name in reading.covariates]
    before += _past_sums(past, units, reading)
    return Outcomes(
        names,
        arm,
        sums,
        np.stack(before, 1) if before else None,
        first,
        len(table),
        crossed,
        tuple(notes),
    )


def _outcome(table: pd.DataFrame, column: str, reading: Reading, notes: list[str]) -> np.ndarray:
    numbers = _numbers(table, column)
    if reading.binary:
        return (numbers > 0).astype(np.float64)
    other = int(((numbers != 0) & (numbers != 1)).sum())
    if other:
        notes.append(f"{other:,} values of {column!r} are neither 0 nor 1, and count as they are.")
    return numbers


def _covariate(table: pd.DataFrame, column: str) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(table[column]):
        raise ExperimentError(
            f"A covariate must be a number. Received: {table[column].iloc[0]!r} in {column!r}."
        )
    return table[column].to_numpy(np.float64, na_value=np.nan)


def _past_sums(past: pd.DataFrame | None, units: pd.Index, reading: Reading) -> list[np.ndarray]:
    """What each unit did before `start`: its rows, and each metric's numerator; NaN for units without a
    past."""
    if past is None or past.empty:
        return []
    codes = units.get_indexer(past[reading.unit])
    past, codes = past[codes >= 0], codes[codes >= 0]
    rows = np.bincount(codes, minlength=len(units)).astype(np.float64)
    seen = np.where(rows > 0, 1.0, np.nan)
    columns = dict.fromkeys(metric.partition("/")[0] for metric in reading.metrics)
    columns.pop(ROWS, None)
    return [rows * seen] + [np.bincount(codes, _numbers(past, name), len(units)) * seen for name in columns]
