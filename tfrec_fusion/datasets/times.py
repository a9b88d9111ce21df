"""Times of a column: one format, told from its values, and every value read by it to the nanosecond."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells

SECOND = 10**9
MISSING = np.iinfo(np.int64).min
"""What stands for a time that is missing or cannot be read."""

EPOCH_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Values of `time_format` for numbers since 1970, and how many nanoseconds each is."""

_EARLIEST, _LATEST = 600_000_000, 2_300_000_000  # 1989 to 2042, in seconds
_EXCEL_1970, _DAY = 25_569, 86_400 * SECOND
_DAYS = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m.%d.%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%d-%m-%y",
    "%m-%d-%y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%b %d %Y",
    "%B %d %Y",
    "%m %d, %Y",
)
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    ", %H:%M:%S",
    ", %I:%M %p",
    ", %I:%M:%S %p",
    "T%H:%M:%S",
)
_WHOLE = (
    "%Y-%m-%d %H:%M:%S %Z",
    "%Y-%m-%d %H:%M:%S.%f %Z",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y-%m-%d %I:%M %p",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%d/%b/%Y:%H:%M:%S %z",
    "%A, %B %d, %Y",
)
FORMATS = (*(day + clock for day, clock in itertools.product(_DAYS, _CLOCKS)), *_WHOLE)
"""Formats of `strptime` that are tried."""


@dataclasses.dataclass(frozen=True)
class TimeFormat:
    """How a column of times is written.

    Attributes:
        name: for `Interactions.time_format`.
        share: of the distinct values, how many can be read so.
        why: in words.
        rivals: other formats by which as many values can be read, with other results: day and month cannot be
            told apart.
        misfit: a value that cannot be read, if there is one.
        sure: False where nothing but an order can be told of these numbers.
    """

    name: str
    share: float
    why: str
    rivals: tuple[str, ...] = ()
    misfit: str | None = None
    sure: bool = True


def parse_times(array: pa.Array, time_format: str, where: str = "column of times") -> np.ndarray:
    """Nanoseconds since 1970, `MISSING` where a value is no time of this format or lies outside 1678 to 2262.

    Args:
        array: times as Arrow knows them (whatever the format), numbers or text.
        time_format: `s`, `ms`, `us`, `ns`, `excel`, `iso`, or a format of `strptime`; without a zone it is
            UTC.
        where: the column, for messages.
    """
    array = cells.plain(array)
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _scaled(array.cast(pa.int64()), EPOCH_UNITS[kind.unit])
    if pa.types.is_date(kind):
        return _scaled(array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()), _DAY)
    if time_format in EPOCH_UNITS:
        return _epochs(array, time_format, where)
    if time_format == "excel":
        days = cells.numbers(array, where)
        with np.errstate(invalid="ignore"):
            return _whole((days - _EXCEL_1970) * 86_400_000, SECOND // 1000)  # Excel's clock has milliseconds
    text = pc.dictionary_encode(cells.strings(array, where))
    result = _dates(text.dictionary, time_format)
    rows = pc.fill_null(text.indices, -1).to_numpy(zero_copy_only=False)
    return np.where(rows < 0, MISSING, np.append(result, MISSING)[rows])


def _dates(text: pa.Array, time_format: str) -> np.ndarray:
    """Distinct texts as nanoseconds."""
    if time_format == "iso":
        time_format = "ISO8601"
    elif "." not in time_format:
        text = pc.replace_substring_regex(text, r"\.0+$", "")  # 20240131 from a float column
    values = pd.Series(text.to_pylist(), dtype=object)
    dates = pd.to_datetime(values, errors="coerce", utc=True, format=time_format)
    return dates.to_numpy("datetime64[ns]").astype(np.int64)  # NaT is MISSING


def _scaled(values: pa.Array, factor: int) -> np.ndarray:
    """Whole numbers times a factor, `MISSING` where that is too large."""
    most = (2**63 - 1) // factor
    numbers = pc.fill_null(values, MISSING).to_numpy(zero_copy_only=False)
    fits = (numbers >= -most) & (numbers <= most)
    return np.where(fits, np.where(fits, numbers, 0) * factor, MISSING)


def _whole(values: np.ndarray, factor: int) -> np.ndarray:
    """Floats of a unit as nanoseconds, `MISSING` where there is none or it is too large."""
    with np.errstate(invalid="ignore", over="ignore"):
        fits = np.abs(values) < (2**63 - 2**10) / factor
        below = np.floor(np.where(fits, values, 0.0))
        rest = np.round((np.where(fits, values, 0.0) - below) * factor).astype(np.int64)
    return np.where(fits, below.astype(np.int64) * factor + rest, MISSING)


def _epochs(array: pa.Array, unit: str, where: str) -> np.ndarray:
    factor = EPOCH_UNITS[unit]
    if pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.if_else(pc.less(array, pa.scalar(2**63, pa.uint64())), array, None)
        result = _scaled(array.cast(pa.int64()), factor)
    elif pa.types.is_floating(array.type):
        result = _whole(cells.numbers(array, where), factor)
    else:
        result = _exact(cells.strings(array, where), factor)
    if unit != "s":
        # Seconds among milliseconds would be moments of January 1970.
        numbers = np.where(result == MISSING, 0, result // factor)
        smaller = [SECOND // known for name, known in EPOCH_UNITS.items() if known > factor]
        for parts in smaller:
            result[(numbers >= _EARLIEST * parts) & (numbers <= _LATEST * parts)] = MISSING
    return result


def _exact(text: pa.Array, factor: int) -> np.ndarray:
    """Numbers in text as nanoseconds, without a float on the way: `1704067200.123456789` seconds keep their
    last digit."""
    parts = pc.extract_regex(text, r"^(?P<sign>[+-]?)(?P<whole>\d{1,18}|[1-8]\d{18})(?:\.(?P<rest>\d*))?$")
    plain = parts.is_valid()
    digits = len(str(factor)) - 1
    whole = _scaled(pc.if_else(plain, pc.struct_field(parts, "whole"), None).cast(pa.int64()), factor)
    rest = pc.utf8_slice_codeunits(pc.struct_field(parts, "rest"), 0, digits) if digits else None
    if rest is not None:
        padded = pc.utf8_rpad(pc.if_else(plain, rest, None), max(digits, 1), "0")
        whole = np.where(
            whole == MISSING,
            MISSING,
            whole + pc.fill_null(padded.cast(pa.int64()), 0).to_numpy(zero_copy_only=False),
        )
    minus = pc.fill_null(pc.equal(pc.struct_field(parts, "sign"), "-"), False).to_numpy(zero_copy_only=False)
    results = np.where(minus & (whole != MISSING), -whole, whole)
    others = pc.and_(pc.invert(plain), text.is_valid())
    if pc.any(others).as_py():  # 1.7e9, as a float column is sometimes written
        floats = _whole(cells.parse_numbers(pc.if_else(others, text, None)), factor)
        results = np.where(others.to_numpy(zero_copy_only=False), floats, results)
    return results


def detect_time_format(
    values: pa.Array | pa.ChunkedArray | pd.Series | Sequence, where: str = "column of times"
) -> TimeFormat:
    """How a column of times is written, from all of its values or a large sample.

    Returns:
        The format that most values have. Where two read as many, but differently (`03/04/2024`), one of them,
        with the others as `rivals`.

    Raises:
        ConfigError: where no format fits at least half of the values.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    array = cells.plain(values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True))
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return TimeFormat("iso", 1.0, "the file says that it holds times")
    text = pc.unique(cells.strings(array, where)).drop_null()
    if not len(text):
        raise ConfigError(
            f"The {where} must hold times. Received: nothing. Name another column, or set `time: null`."
        )
    numbers = cells.parse_numbers(text)
    numeric = np.isfinite(numbers)
    result = (
        _of_numbers(text.filter(pa.array(numeric)), numbers[numeric])
        if numeric.mean() >= 0.5
        else _of_texts(text)
    )
    if result is None:
        seen = ", ".join(map(repr, text.slice(0, 3).to_pylist()))
        raise ConfigError(
            f"The {where} must hold times of one known format. Received: {seen}, …. Say how they are written"
            " with `time_format`, for example '%d/%m/%Y %H:%M', or set `time: null`."
        )
    known = parse_times(text, result.name) != MISSING
    misfits = text.filter(pa.array(~known))
    return dataclasses.replace(
        result, share=float(known.mean()), misfit=misfits[0].as_py() if len(misfits) else None
    )


def _of_numbers(text: pa.Array, numbers: np.ndarray) -> TimeFormat:
    low, high = np.quantile(numbers, (0.01, 0.99))
    whole = bool((numbers % 1 == 0).all())
    for pattern, least, most in (
        ("%Y%m%d", 19_000_101, 21_001_231),
        ("%Y%m%d%H%M", 190_001_010_000, 210_012_312_359),
        ("%Y%m%d%H%M%S", 19_000_101_000_000, 21_001_231_235_959),
    ):
        if whole and least <= low and high <= most and (parse_times(text, pattern) != MISSING).mean() > 0.98:
            return TimeFormat(pattern, 1.0, f"numbers that read as {pattern}")
    inside = {
        unit: ((numbers >= _EARLIEST * (SECOND // factor)) & (numbers <= _LATEST * (SECOND // factor))).mean()
        for unit, factor in EPOCH_UNITS.items()
    }
    best = max(inside, key=lambda unit: inside[unit])
    if inside[best] >= 0.5:
        names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
        return TimeFormat(best, 1.0, f"{names[best]} since 1970")
    if low > (32_874 if whole else _EXCEL_1970) and high < (55_153 if whole else 73_050):
        return TimeFormat("excel", 1.0, "days since 1900, as Excel counts them")
    fitting = (unit for unit, factor in EPOCH_UNITS.items() if max(abs(low), abs(high)) * factor < 2**63)
    return TimeFormat(next(fitting, "ns"), 1.0, "numbers that only give an order", sure=False)


def _of_texts(text: pa.Array) -> TimeFormat | None:
    sample = text.take(np.unique(np.linspace(0, len(text) - 1, 300).astype(int)))
    if _share(sample, "iso") >= 0.5:
        return TimeFormat("iso", 1.0, "dates and times of ISO 8601")
    some = sample.take(np.unique(np.linspace(0, len(sample) - 1, 12).astype(int)))
    fitting = [known for known in FORMATS if _share(some, known) > 0]
    fitting = [known for known in fitting if _share(sample, known) >= 0.2]
    shares = {known: _share(text, known) for known in fitting}
    best = max(shares.values(), default=0.0)
    if best < 0.5:
        return None
    alike = [known for known in fitting if shares[known] >= best - 1e-9]
    chosen = alike[0]
    own = parse_times(text, chosen)
    rivals = tuple(known for known in alike[1:] if not np.array_equal(parse_times(text, known), own))
    return TimeFormat(chosen, best, f"dates written {chosen}", rivals)


@functools.lru_cache(maxsize=4096)
def _dates_of(texts: tuple[str, ...], time_format: str) -> float:
    return float((_dates(pa.array(texts, pa.string()), time_format) != MISSING).mean())


def _share(text: pa.Array, time_format: str) -> float:
    if len(text) <= 300:
        return _dates_of(tuple(text.to_pylist()), time_format)
    return float((parse_times(text, time_format) != MISSING).mean())


def seconds(times: int) -> int:
    """Whole seconds since 1970 of a time in nanoseconds, rounded down."""
    return times // SECOND
