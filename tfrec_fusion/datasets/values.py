"""What stands in a table's cells, as ids, times and numbers."""

from __future__ import annotations

import pandas as pd

EPOCH_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Values of `time_format` for numbers since 1970, and how many of each make a second."""


def parse_times(values: pd.Series, time_format: str | None = None) -> pd.Series:
    """Seconds since 1970; dates and times without a zone are UTC.

    Args:
        values: numbers, strings, dates or datetimes.
        time_format: None: numbers are seconds, anything else is what pandas reads (ISO 8601 best; `03/04/2024` is the
            fourth of March). `s`, `ms`, `us`, `ns`: numbers of that unit. Otherwise a format of `strptime`, for
            example `%d/%m/%Y %H:%M`.

    Returns:
        float64, NaN where a value is no time.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        return _seconds(pd.to_datetime(values, utc=True))
    if time_format is not None and time_format not in EPOCH_UNITS:
        text = values.astype("string").str.strip().str.removesuffix(".0")  # 20240131 in a float column
        return _seconds(pd.to_datetime(text, errors="coerce", utc=True, format=time_format))
    numbers = pd.to_numeric(values, errors="coerce").astype("float64") / EPOCH_UNITS[time_format or "s"]
    rest = numbers.isna() & values.notna()
    if rest.any() and time_format is None:
        dates = pd.to_datetime(values[rest], errors="coerce", utc=True, format="mixed")
        numbers[rest] = _seconds(dates)
    return numbers.where(numbers.abs() < 2**53)


def _seconds(dates: pd.Series) -> pd.Series:
    return (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def parse_numbers(values: pd.Series, decimal: str = ".") -> pd.Series:
    """Numbers as float64, NaN where a value is none; with `decimal=","`, `1.234,50` is 1234.5 and `01.02.1999` is none."""
    if decimal != "." and not pd.api.types.is_numeric_dtype(values):
        text = values.astype("string").str.replace(r"\.(?=\d{3}(?:\D|$))", "", regex=True)
        values = text.str.replace(decimal, ".", regex=False)
    return pd.to_numeric(values, errors="coerce").astype("float64")


def clean_ids(values: pd.Series) -> pd.Series:
    """Ids as strings: white space trimmed, `7.0` from a float column as `7`, empty and null as None."""
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna()
        if ((whole % 1) == 0).all():
            values = values.astype("Int64")
    text = values.astype("string").str.strip()
    return text.astype(object).where(text.notna() & (text != ""), None)
