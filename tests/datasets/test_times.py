"""One format a column, read to the nanosecond."""

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.times import MISSING, SECOND, detect_time_format, parse_times

JANUARY = 1_704_067_200  # 2024-01-01


def parsed(values, time_format):
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return [None if time == MISSING else time for time in parse_times(array, time_format).tolist()]


@pytest.mark.parametrize(
    ("time_format", "values", "expected"),
    [
        (
            "s",
            ["1704067200.123456789", "-1.5", "x", None],
            [JANUARY * SECOND + 123_456_789, -SECOND * 3 // 2, None, None],
        ),
        ("s", [1.5, None], [SECOND * 3 // 2, None]),
        ("s", ["1.7e9"], [1_700_000_000 * SECOND]),
        ("ms", [JANUARY * 1000 + 200, None], [JANUARY * SECOND + 200_000_000, None]),
        ("ms", [JANUARY], [None]),  # seconds among milliseconds would be January 1970
        ("ns", ["1700000000000000001"], [1_700_000_000_000_000_001]),
        ("excel", [45292.5], [(JANUARY + 43_200) * SECOND]),
        (
            "iso",
            ["2024-01-01T00:00:00.100", "2024-01-01T01:00:00+01:00", "9999-12-31"],
            [JANUARY * SECOND + SECOND // 10, JANUARY * SECOND, None],
        ),
        ("%Y%m%d", ["20240101", "20240101.0", "20241301"], [JANUARY * SECOND, JANUARY * SECOND, None]),
        ("%d/%m/%Y", pa.array([datetime.date(2024, 1, 1)]), [JANUARY * SECOND]),
        ("s", pa.array([2**64 - 1, 1], pa.uint64()), [None, SECOND]),
    ],
)
def test_times_are_read_to_the_nanosecond(time_format, values, expected):
    assert parsed(values, time_format) == expected


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (["11/01/2024", "12/01/2024", "13/01/2024", "14/01/2024"], "%d/%m/%Y"),
        (["01/11/2024", "01/12/2024", "01/13/2024"], "%m/%d/%Y"),
        (["20240131", "20240201"], "%Y%m%d"),
        ([20240131, 20240201], "%Y%m%d"),
        ([20240131102030], "%Y%m%d%H%M%S"),
        ([45292.5, 45293.25], "excel"),
        ([JANUARY, JANUARY + 1, 0], "s"),
        ([str(JANUARY * 1000)], "ms"),
        ([JANUARY * 10**6], "us"),
        ([JANUARY * 10**9], "ns"),
        (["2024-01-01T10:00:00+02:00", "2024-01-01", "2024-01-01 10:00:00.5"], "iso"),
        (["2024-01-31 10:00:00 UTC"], "%Y-%m-%d %H:%M:%S %Z"),
        (["09 13, 2014", "1 5, 2012"], "%m %d, %Y"),
        (["Mon Jul 17 02:36:07 2017"], "%a %b %d %H:%M:%S %Y"),
        (["5/13/2013 10:20:33 PM"], "%m/%d/%Y %I:%M:%S %p"),
        (["31.01.24 10:00"], "%d.%m.%y %H:%M"),
        (pa.array([datetime.datetime(2024, 1, 1)]), "iso"),
    ],
)
def test_a_column_has_one_format(values, name):
    result = detect_time_format(values)
    assert (result.name, result.share, result.rivals) == (name, 1.0, ())


def test_day_and_month_that_cannot_be_told_apart_are_rivals():
    result = detect_time_format(["11/01/2024", "12/01/2024"])
    assert {result.name, *result.rivals} == {"%d/%m/%Y", "%m/%d/%Y"}
    assert detect_time_format(["11/11/2024", "12/12/2024"]).rivals == ()  # both read the same


def test_a_value_that_does_not_fit_is_shown():
    result = detect_time_format(["2024-01-01", "2024-01-02", "soon"])
    assert (result.name, result.misfit, round(result.share, 2)) == ("iso", "soon", 0.67)


def test_numbers_that_only_give_an_order():
    result = detect_time_format([1, 2, 3])
    assert (result.name, result.sure) == ("s", False)
    assert parsed([2, 1], detect_time_format([5, 5 * 10**17]).name) == [2, 1]


@pytest.mark.parametrize(
    "values", [["soon", "later"], [None, None], ["11/01/2024", "2024 weeks", "x", "y", "z"]]
)
def test_what_is_no_column_of_times_is_refused(values):
    with pytest.raises(ConfigError, match="must hold times"):
        detect_time_format(pa.array(values, pa.string()))


MOMENTS = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2040, 1, 1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(MOMENTS, min_size=1, max_size=5),
    st.sampled_from(["s", "ms", "us", "iso", "%d.%m.%Y %H:%M:%S.%f"]),
)
def test_what_was_written_is_read(moments, time_format):
    epoch = datetime.datetime(1970, 1, 1)
    exact = [round((moment - epoch) / datetime.timedelta(microseconds=1)) for moment in moments]
    if time_format in ("s", "ms", "us"):
        unit = {"s": 10**6, "ms": 10**3, "us": 1}[time_format]
        written = [
            f"{time // unit}.{time % unit:0{len(str(unit)) - 1}d}" if unit > 1 else str(time)
            for time in exact
        ]
    else:
        written = [
            moment.isoformat() if time_format == "iso" else moment.strftime(time_format) for moment in moments
        ]
    assert parsed(written, time_format) == [time * 1000 for time in exact]
