"""How a column of times is written."""

from __future__ import annotations

import dataclasses
import datetime
import itertools

import pandas as pd

from pipeline.onboarding import column_names
from tfrec_fusion.datasets.values import parse_times

_DAYS = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%Y/%m/%d",
)
_WORDY = ("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%m %d, %Y")
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    ", %H:%M:%S",
    "T%H:%M:%S",
)
_WHOLE = ("%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z")
FORMATS = (*(day + clock for day, clock in itertools.product((*_DAYS, *_WORDY), _CLOCKS)), *_WHOLE)
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EARLIEST, _LATEST = 6.0e8, 2.3e9  # 1989 to 2042, in seconds


@dataclasses.dataclass(frozen=True)
class TimeGuess:
    """How to read a column as times.

    Attributes:
        time_format: for `Interactions.time_format`.
        share: of the distinct values, how many can be read so.
        why: in words.
        sure: False where only the name says that these numbers are times.
    """

    time_format: str | None
    share: float
    why: str
    sure: bool = True


def guess_time(values: pd.Series, numbers: pd.Series | None, name: tuple[str, ...]) -> TimeGuess | None:
    """Looks at values (and at them as numbers, if they are) and at the words of the column's name."""
    called = column_names.says(name, column_names.TIME) > 0
    if numbers is not None:
        return _of_numbers(numbers.dropna(), called)
    return _of_strings(values, called)


def _of_numbers(numbers: pd.Series, called: bool) -> TimeGuess | None:
    low, high = numbers.quantile(0.01), numbers.quantile(0.99)
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        inside = ((numbers >= _EARLIEST * factor) & (numbers <= _LATEST * factor)).mean()
        # Without a name that says so, numbers of this size may be ids: times spread, ids stand close or everywhere.
        if inside > 0.98 and (called or unit in ("ms", "us", "ns")):
            return TimeGuess(None if unit == "s" else unit, float(inside), f"{_UNITS[unit]} since 1970")
    if low >= 19_000_101 and high <= 21_001_231:
        share = parse_times(numbers, "%Y%m%d").notna().mean()
        if share > 0.98:
            return TimeGuess("%Y%m%d", float(share), "numbers that read as year, month, day")
    if low >= 19_000_101e6 and high <= 21_001_231e6 + 235_959:
        share = parse_times(numbers.astype("int64"), "%Y%m%d%H%M%S").notna().mean()
        if share > 0.98:
            return TimeGuess("%Y%m%d%H%M%S", float(share), "numbers that read as year to second")
    if called and low >= 0 and len(numbers) > 10:
        return TimeGuess(None, 1.0, "numbers that only give an order", sure=False)
    return None


def _of_strings(values: pd.Series, called: bool) -> TimeGuess | None:
    text = values.drop_duplicates().astype("string").str.strip()
    sample = text[:: max(1, len(text) // 300)][:300]
    if not called and not sample.str.contains(r"\d").mean() > 0.98:
        return None
    if sample.str.count(r"\d").median() < 4 or sample.str.len().median() < 8:
        return None
    iso = pd.to_datetime(sample, errors="coerce", utc=True, format="ISO8601").notna().mean()
    if iso > 0.98:
        return TimeGuess(None, float(iso), "dates and times of ISO 8601")
    some = sample[:: max(1, len(sample) // 5)].tolist()
    fitting = [known for known in FORMATS if sum(_reads(value, known) for value in some) > len(some) / 2]
    fitting = [known for known in fitting if parse_times(sample, known).notna().mean() > 0.98]
    if len(fitting) > 1:
        shares = {known: parse_times(text, known).notna().mean() for known in fitting}
        best = max(shares.values())
        fitting = [known for known in fitting if shares[known] >= best - 1e-9]
    if not fitting:
        if not called:
            return None
        mixed = pd.to_datetime(sample, errors="coerce", utc=True, format="mixed").notna().mean()
        return TimeGuess(None, float(mixed), "dates that can be read one by one") if mixed > 0.95 else None
    if len(fitting) == 1:
        return TimeGuess(fitting[0], 1.0, _day_first(fitting[0]))

    # Day and month cannot be told apart by their size: files are often written in the order of time.
    def disorder(known: str) -> float:
        times = parse_times(values.astype("string").str.strip()[:20_000], known)
        return float((times.diff() < 0).mean())

    chosen = min(fitting, key=disorder)
    return TimeGuess(chosen, 1.0, f"{_day_first(chosen)}; {' and '.join(fitting)} both fit, check this")


def _reads(value: str, time_format: str) -> bool:
    try:
        datetime.datetime.strptime(value, time_format)
    except ValueError:
        return False
    return True


def _day_first(time_format: str) -> str:
    if "%d" in time_format and "%m" in time_format and time_format.index("%d") < time_format.index("%m"):
        return "dates with the day first"
    return f"dates written {time_format}"
