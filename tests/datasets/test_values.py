"""Ids, times and numbers as users write them."""

import pandas as pd
import pytest

from tfrec_fusion.datasets.values import parse_numbers, parse_times

DAY = 86_400


def test_times_have_one_format_a_column():
    times = parse_times(pd.Series(["1970-01-01T00:01:00Z", "1970-01-02", "10", "soon", None]))
    assert times.fillna(-1).tolist() == [60, DAY, -1, -1, -1]
    dates = pd.Series(pd.to_datetime(["1970-01-01 00:00:05", None]))
    assert parse_times(dates).fillna(-1).tolist() == [5, -1]
    assert parse_times(dates, "%Y").fillna(-1).tolist() == [5, -1]  # a Parquet time needs no format
    assert parse_times(pd.Series(dates.dt.date)).fillna(-1).tolist() == [0, -1]


@pytest.mark.parametrize(
    ("time_format", "values", "seconds"),
    [
        ("ms", ["86400000", 1000], [DAY, 1]),
        ("us", [1_500_000], [1.5]),
        ("%d/%m/%Y", ["02/01/1970", "2/1/70", "31/02/1970"], [DAY, -1, -1]),
        ("%m/%d/%Y %H:%M", ["01/02/1970 00:01"], [DAY + 60]),
        ("%Y%m%d", [19700102, 19700103], [DAY, 2 * DAY]),
        ("%Y%m%d", [19700102.0, None], [DAY, -1]),
    ],
)
def test_a_time_format_says_how(time_format, values, seconds):
    assert parse_times(pd.Series(values), time_format).fillna(-1).tolist() == seconds


def test_decimal_commas():
    assert parse_numbers(pd.Series(["1.234,50", "7", "x", None]), ",").fillna(-1).tolist() == [
        1234.5,
        7,
        -1,
        -1,
    ]
    assert parse_numbers(pd.Series([1.5, 2]), ",").tolist() == [1.5, 2]
    # Points divide thousands, and dates are no numbers.
    assert parse_numbers(pd.Series(["12.345.678", "22.02.1994"]), ",").fillna(-1).tolist() == [12_345_678, -1]
