"""The benchmark of several labels: its label by hand, and conversions under planted selection."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.multitask import DAY, conversion_rate, planted_impressions, returns


def test_who_comes_back_within_a_week():
    rows = [("a", 0), ("a", 0), ("a", 7), ("a", 15), ("b", 3), ("c", 16)]
    ratings = pd.DataFrame(rows, columns=["user_id", "timestamp"])
    ratings["timestamp"] = ratings["timestamp"] * DAY + 60
    # The last day is 16: of days from 10 on nobody knows what follows.
    np.testing.assert_array_equal(returns(ratings), [1, 1, 0, np.nan, 0, np.nan])


@pytest.mark.slow
def test_esmm_recovers_the_rate_that_selection_hides():
    columns, rate = planted_impressions(1)
    true = rate[columns["item_index"]].mean()
    assert abs(conversion_rate(columns, "esmm", 2) - true) < 0.05
    assert conversion_rate(columns, "clicked", 2) - true > 0.05
    assert conversion_rate(columns, "all", 2) - true < -0.1
