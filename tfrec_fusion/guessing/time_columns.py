"""Columns of times, by their values and names; `datasets.times` tells how they are written."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pyarrow as pa

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.times import MISSING, TimeFormat, detect_time_format, parse_times
from tfrec_fusion.guessing import column_names


@dataclasses.dataclass(frozen=True)
class TimeGuess:
    """How to read a column as times.

    Attributes:
        time_format: for `Interactions.time_format`.
        why: in words.
        sure: False where only the name says that these numbers are times.
        rivals: other formats by which the values can be read as well.
        example: a value that the rivals read differently.
    """

    time_format: str
    why: str
    sure: bool = True
    rivals: tuple[str, ...] = ()
    example: str = ""


def guess_time(
    values: pd.Series, is_number: bool, name: tuple[str, ...], unnamed: bool = False
) -> TimeGuess | None:
    """Looks at values (strings) and at the words of the column's name, if it has one."""
    called = column_names.says(name, column_names.TIME) > 0
    text = values.drop_duplicates().astype("string").str.strip()
    if not is_number and not _may_be_times(text, called):
        return None
    array = pa.array(text.astype(object), pa.string())
    try:
        time_format = detect_time_format(array)
    except ConfigError:
        return None
    if time_format.share < 0.9 or not _believable(time_format, len(text), called, is_number, unnamed):
        return None
    if time_format.rivals:
        return _decide(values, time_format)
    return TimeGuess(time_format.name, _words(time_format), time_format.sure)


def readings(example: str, formats: tuple[str, ...]) -> str:
    """What a value is by each format: `%d/%m/%Y reads 11/01/2024 as 11 January 2024, …`."""
    parts = []
    for known in formats:
        moment = pd.Timestamp(int(parse_times(pa.array([example], pa.string()), known)[0]), tz="UTC")
        parts.append(f"{known!r} reads {example} as {moment.day} {moment.month_name()} {moment.year}")
    return ", ".join(parts)


def _may_be_times(text: pd.Series, called: bool) -> bool:
    sample = text[:: max(1, len(text) // 300)][:300]
    if not called and not sample.str.contains(r"\d").mean() > 0.98:
        return False
    return bool(sample.str.count(r"\d").median() >= 4 and sample.str.len().median() >= 8)


def _believable(time_format: TimeFormat, distinct: int, called: bool, is_number: bool, unnamed: bool) -> bool:
    """Numbers of the size of times may be ids: without a name that says so, only what hardly is anything
    else."""
    if not is_number:
        return True
    if not time_format.sure:
        return called and distinct > 10
    return called or unnamed or time_format.name not in ("s", "excel")


def _decide(values: pd.Series, time_format: TimeFormat) -> TimeGuess:
    """Day and month cannot be told apart by their size: files are often written in the order of time."""
    array = pa.array(values[:20_000].astype(object), pa.string())
    formats = (time_format.name, *time_format.rivals)
    disorder = {}
    for known in formats:
        times = pd.Series(parse_times(array, known))
        disorder[known] = float((times[times != MISSING].diff() < 0).mean())
    best = min(formats, key=lambda known: disorder[known])
    second = min((disorder[known] for known in formats if known != best), default=1.0)
    if disorder[best] <= 0.001 and second > 0.005:
        return TimeGuess(best, f"dates written {best}: read so, the rows stand in the order of time")
    differing = (value for value in values if len({int(time) for time in _times_of(value, formats)}) > 1)
    return TimeGuess(time_format.name, _words(time_format), True, time_format.rivals, next(differing, ""))


def _times_of(value: str, formats: tuple[str, ...]) -> list[int]:
    return [parse_times(pa.array([value], pa.string()), known)[0] for known in formats]


def _words(time_format: TimeFormat) -> str:
    name = time_format.name
    if "%d" in name and "%m" in name and name.index("%d") < name.index("%m"):
        return f"dates with the day first, {name}"
    return time_format.why
