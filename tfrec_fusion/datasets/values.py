"""Columns of pandas as numbers and times, by the rules of `cells` and `times`."""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets import cells, times
from tfrec_fusion.datasets.json_rows import column


def arrow_of(values: pd.Series) -> pa.Array:
    """A column of pandas as an Arrow array; one of mixed values as strings."""
    try:
        return cells.plain(pa.array(values, from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return column(
            [None if value is pd.NA or value is None or value != value else value for value in values]
        )


def parse_numbers(values: pd.Series, decimal: str = ".") -> pd.Series:
    """Numbers as float64, NaN where a value is none; see `cells.numbers`."""
    return pd.Series(cells.numbers(arrow_of(values), "column", decimal), index=values.index)


def parse_times(values: pd.Series, time_format: str | None = None) -> pd.Series:
    """Seconds since 1970 as float64, NaN where a value is no time.

    Args:
        values: any column.
        time_format: as for `times.parse_times`; None: what most values have.
    """
    array = arrow_of(values)
    result = times.parse_times(array, time_format or times.detect_time_format(array).name)
    seconds = pd.Series(result, index=values.index) / times.SECOND
    return seconds.where(result != times.MISSING, math.nan)
