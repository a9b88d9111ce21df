"""Cases about times: one rule reads them all."""

import datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.config.pipeline_config import load_config
from pipeline.onboarding.measuring import measure_split
from tests.cases.reading import cells, choices, needs_cases, tables
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import cutoffs_of
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

pytestmark = needs_cases


# How each folder's times come from those of `t_ms`.
def _days(at: int) -> int:
    return at // 86400 * 86400


TIMES = {
    "t_ms": lambda at: at,
    "t_2digit": _days,
    "t_yyyymmdd": _days,
    "t_day_first": lambda at: at // 60 * 60,
    "t_offset": lambda at: at - 7200,
    "t_iso_mixed": lambda at: at,
    "t_excel": lambda at: at,
    "t_sentinel": lambda at: at if at % 97 else None,
    "t_zero": lambda at: at if at % 97 else 0,
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_by_one_rule(opened, validate, name):
    folder = opened("report-15")
    truth = [int(row["at"]) // 1000 for row in cells(folder / "t_ms/orders.csv")]
    wanted = [TIMES[name](at) for at in truth]
    rows, rejects = choices(tables(f"{name}.yaml"))
    found = [time / 1e9 for _, _, time in rows]
    kept = [at for at in wanted if at is not None]
    np.testing.assert_allclose(
        found, kept, rtol=0, atol=0.05
    )  # a millionth of a day, as Excel's were written
    assert rejects == ({"unparsable time": wanted.count(None)} if None in wanted else {})
    status, said = validate(f"{name}.yaml")
    first, last = (
        f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M}" for at in (min(kept), max(kept))
    )
    assert f"from {first} to {last}" in said
    if name == "t_zero":
        assert "4 of 480 lie before 1990" in said
        assert "far from the shares that are asked for (0.1 and 0.1)" in said  # a test of one choice
    if TIMES[name] is _days:  # eight days: there is no moment that leaves a test
        assert status == 1 and "the times must differ" in said
    else:
        # The future is not in training.
        validation, test = cutoffs_of((round(at * 1e9) for at in kept), 0.1, 0.1)
        frame = pd.DataFrame(rows, columns=["user", "item", "time"])
        sizes = measure_split(frame, load_config(f"{name}.yaml").split).sizes
        assert status == 0
        assert sizes["train"] == sum(at * 1e9 < validation for at in kept)
        assert sizes["test"] == sum(at * 1e9 >= test for at in kept)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["11/01/2024 10:00", "12/01/2024 10:00", "13/01/2024 10:00", "14/01/2024 10:00"], [11, 12, 13, 14]),
        (["20240111", "20240112"], [11, 12]),
        (["45302.5", "45303.5"], [11, 12]),
        (["1704967200000", "1705053600000"], [11, 12]),
    ],
)
def test_days_of_january(tmp_path, values, wanted):
    """report-15's mixed.py: each is a day of January 2024."""
    path = str(tmp_path / "o.csv")
    pd.DataFrame({"who": "p", "sku": "a", "at": values}).to_csv(path, index=False)
    rows, _ = choices(settle(Tables(Interactions(path, "who", "sku", "at"), Items(path, "sku"))).tables)
    moments = [datetime.datetime.fromtimestamp(time / 1e9, datetime.UTC) for _, _, time in rows]
    assert [(moment.year, moment.month, moment.day) for moment in moments] == [
        (2024, 1, day) for day in wanted
    ]
