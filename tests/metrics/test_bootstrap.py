"""Intervals by resampling users: against theory, and their coverage."""

import numpy as np
import pytest

from tfrec_fusion.metrics import bootstrap


def test_group_sums_keep_totals_and_bound_groups():
    rng = np.random.default_rng(0)
    user, columns = rng.integers(0, 50, 300), rng.random((300, 2))
    for groups in (7, 1000):
        sums = bootstrap.group_sums(user, columns, groups)
        assert len(sums) == min(50, groups)
        np.testing.assert_allclose(sums.sum(0), columns.sum(0))


@pytest.mark.parametrize("groups", [10_000, 200])
def test_the_spread_of_a_mean_is_its_standard_error(groups):
    values = np.random.default_rng(0).normal(size=2000)
    sums = bootstrap.group_sums(np.arange(2000), np.stack([values, np.ones(2000)], 1), groups)
    draws = bootstrap.resample(sums, 2000)
    spread = (draws[:, 0] / draws[:, 1]).std()
    assert spread == pytest.approx(values.std() / np.sqrt(2000), rel=0.15)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        values = rng.exponential(size=100)
        draws = bootstrap.resample(bootstrap.group_sums(np.arange(100), values[:, None]), 500)[:, 0] / 100
        low, high = bootstrap.interval(draws, 0.9)
        inside += low <= 1 <= high
    assert 0.83 < inside / 300 < 0.95
    least, most = bootstrap.normal_interval(values.mean(), draws, 0.9)
    assert (least, most) == pytest.approx((low, high), abs=0.05)


def test_nobody_to_draw_is_an_error_and_no_numbers_have_no_interval():
    with pytest.raises(ValueError, match="nobody to draw"):
        bootstrap.resample(np.zeros((0, 2)))
    assert np.isnan(bootstrap.interval(np.array([np.nan]))).all()
    assert np.isnan(bootstrap.normal_interval(np.nan, np.array([1.0]))).all()
