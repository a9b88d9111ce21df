"""Comparisons of arms: against SciPy, by hand, their properties, and error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import experiments as benchmark
from tfrec_fusion.experiments import (
    ExperimentError,
    adjust,
    always_valid,
    check_sample_ratio,
    compare,
    minimum_effect,
    power,
    preference,
    sample_size,
    team_draft,
)

ONES = np.ones


def test_a_mean_over_units_is_welchs_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 50), rng.normal(1.3, 2, 80)
    one = compare((first, ONES(50)), (second, ONES(80)))
    welch = stats.ttest_ind(second, first, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert one.p_value == pytest.approx(welch.pvalue)
    assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
    assert (one.control, one.difference) == pytest.approx((first.mean(), second.mean() - first.mean()))
    assert one.always_low is None and one.variance_kept == 1


def test_a_ratio_is_the_delta_method():
    """Against the formula of Deng et al., written out, and a bootstrap over units."""
    rng = np.random.default_rng(1)
    rows = rng.integers(1, 20, 400).astype(float)
    clicks = rng.binomial(rows.astype(int), rng.beta(2, 18, 400)).astype(float)
    one = compare((clicks, rows), (clicks[::-1], rows[::-1]))
    ratio, mean = clicks.sum() / rows.sum(), rows.mean()
    covariance = np.cov(clicks, rows)
    variance = (covariance[0, 0] - 2 * ratio * covariance[0, 1] + ratio**2 * covariance[1, 1]) / mean**2 / 400
    assert one.standard_error == pytest.approx(np.sqrt(2 * variance)) and one.difference == pytest.approx(0)
    draws = rng.integers(0, 400, (2000, 400))
    spread = (clicks[draws].sum(1) / rows[draws].sum(1)).std()
    assert np.sqrt(variance) == pytest.approx(spread, rel=0.08)
    # As if rows were independent, it would look far too certain.
    assert np.sqrt(variance) > 1.2 * np.sqrt(ratio * (1 - ratio) / rows.sum())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(1e-3, 1e3), st.booleans())
def test_what_holds_of_every_comparison(seed, units, stretch, covered):
    rng = np.random.default_rng(seed)
    sides = [(rng.poisson(2, count).astype(float), ONES(count)) for count in (units, units + 3)]
    before = [side[0][:, None] + rng.normal(size=(len(side[0]), 1)) for side in sides] if covered else None
    covariates = tuple(before) if before else None
    try:
        one = compare(*sides, covariates=covariates, scale=0.5)
    except ExperimentError:
        assert all(len(set(side[0])) == 1 for side in sides)
        return
    other = compare(sides[1], sides[0], covariates=covariates and covariates[::-1], scale=0.5)
    assert one.low <= one.difference <= one.high and 0 <= one.p_value <= 1
    assert (other.difference, other.p_value) == pytest.approx((-one.difference, one.p_value), abs=1e-9)
    assert one.variance_kept <= 1 + 1e-9
    # Neither the unit of a metric nor that of a covariate changes what is said.
    larger = compare(
        *((stretch * above, below) for above, below in sides),
        covariates=covariates and tuple(7 - stretch * part for part in covariates),
        scale=0.5 * stretch,
    )
    assert larger.p_value == pytest.approx(one.p_value, abs=1e-7)
    assert larger.high - larger.low == pytest.approx(stretch * (one.high - one.low), rel=1e-6, abs=1e-12)


def test_cuped_takes_away_what_was_known_before():
    """Variance by `1 - ρ²` of the correlation within arms, and the same difference in expectation."""
    rng = np.random.default_rng(2)
    before = rng.normal(size=4000)
    after = 0.8 * before + 0.6 * rng.normal(size=4000)
    sides = ((after[:2000], ONES(2000)), (after[2000:] + 0.1, ONES(2000)))
    one = compare(*sides, covariates=(before[:2000], before[2000:]))
    assert one.variance_kept == pytest.approx(1 - 0.64, abs=0.03)
    assert abs(one.difference - 0.1) < 4 * one.standard_error
    # Somebody without a past is neither left out nor taken for one who did nothing.
    before[::3] = np.nan
    part = compare(*sides, covariates=(before[:2000], before[2000:]))
    assert part.variance_kept == pytest.approx(1 - 0.64 * 2 / 3, abs=0.04)
    assert compare(*sides, covariates=(np.full(2000, np.nan), np.full(2000, np.nan))).variance_kept == 1
    same = adjust([sides[0][0] - 1.0], [np.full(2000, 5.0)])[0]
    np.testing.assert_allclose(same, sides[0][0] - 1.0)
    with pytest.raises(ExperimentError, match="Received: infinity"):
        compare(*sides, covariates=(np.full(2000, np.inf), before[2000:]))


def test_relative_differences():
    one = compare((np.array([1.0, 3.0]), ONES(2)), (np.array([2.0, 4.0, 3.0]), ONES(3)))
    assert one.relative == pytest.approx(0.5) and one.relative_low < 0.5 < one.relative_high
    nothing = compare((np.zeros(5), ONES(5)), (np.arange(5.0), ONES(5)))
    assert np.isnan(nothing.relative) and nothing.difference == 2


@pytest.mark.parametrize(
    ("control", "arm", "words"),
    [
        (([], []), ([1, 2], [1, 1]), "at least two units. Received: 0 in the control"),
        (([1, 2], [1, 1]), ([3], [1]), "Received: 1 in the arm"),
        (([1, 2], [0, 0]), ([1, 2], [1, 1]), "denominator .* above 0 in each arm"),
        (([1, 2], [2, -1]), ([1, 2], [1, 1]), "denominator"),
        (([1, float("nan")], [1, 1]), ([1, 2], [1, 1]), "none missing"),
        (([0, 0], [1, 1]), ([1, 1], [1, 1]), "Units must differ"),
    ],
)
def test_arms_that_cannot_be_compared(control, arm, words):
    with pytest.raises(ExperimentError, match=words):
        compare(*(tuple(np.asarray(part, float) for part in side) for side in (control, arm)))


def test_always_valid_interval_by_the_formula():
    """d = 0.3, s = 0.1, τ = 0.2: the interval excludes 0 just where the mixture's likelihood ratio is 1 /
    α."""
    low, high, p_value = always_valid(0.3, 0.1, 0.2, 0.95)
    reach = np.sqrt(0.01 * 0.05 / 0.04 * np.log(0.05 / (0.01 * 0.05**2)))
    assert (low, high) == pytest.approx((0.3 - reach, 0.3 + reach))
    ratio = np.sqrt(0.01 / 0.05) * np.exp(0.04 * 0.09 / (2 * 0.01 * 0.05))
    assert p_value == pytest.approx(1 / ratio)
    assert always_valid(reach, 0.1, 0.2, 0.95)[2] == pytest.approx(0.05)
    assert always_valid(0.0, 1e-160, 1.0)[2] == 1 and always_valid(0.0, np.inf, 1.0)[:2] == (-np.inf, np.inf)
    for wrong in ((0.1, 0.1, 0.0), (0.1, 0.1, np.inf), (np.nan, 0.1, 1.0), (0.1, -1.0, 1.0)):
        with pytest.raises(ExperimentError):
            always_valid(*wrong)


def test_peeking_does_no_harm():
    """The benchmark's simulation with few seeds: at 20 looks, one-look intervals are wrong far too often."""
    peeked = benchmark.peeking(seeds=100, units=1500, looks=12)
    assert peeked.always_false <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 100)
    assert peeked.always_false < peeked.single_false > 0.09
    assert peeked.always_found > 0.25 and peeked.final_found > 0.6


def test_a_plan_for_always_valid_intervals_keeps_its_word():
    """With the planned units, `always_valid` excludes 0 with the planned probability."""
    units = sample_size(0.1, 1.0, sequential=True)
    assert units > 1.5 * sample_size(0.1, 1.0)
    error = 1 / np.sqrt(units / 4)
    estimates = 0.1 + error * np.random.default_rng(0).normal(size=2000)
    found = np.mean([always_valid(one, error, 0.1)[0] > 0 for one in estimates])
    assert found == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 2000))
    assert power(0.1, units, 1.0, sequential=True) == pytest.approx(0.8, abs=1e-4)


def test_coverage_of_each_kind_of_metric():
    for row in benchmark.coverage(seeds=150, units=400):
        assert row.coverage > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 150), row
    kept = {row.name: row.width for row in benchmark.coverage(seeds=20, units=400)}
    assert kept["clicks by impression, CUPED"] < 0.9 * kept["clicks by impression"]


def test_sample_sizes_are_those_of_statsmodels():
    """statsmodels 0.14.6: NormalIndPower().solve_power(0.1, None, 0.05, 0.8, ratio) units of the control;
    power(0.1, 1500, 0.05, 1)."""
    assert sample_size(0.1, 1.0) == pytest.approx(2 * 1569.7721, abs=1)
    assert sample_size(0.1, 1.0, shares=(0.75, 0.25)) == pytest.approx(3139.5442 * 4 / 3, abs=1)
    assert power(0.1, 3000, 1.0) == pytest.approx(0.7819079987, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(
    st.floats(1e-3, 10),
    st.floats(0.01, 5),
    st.floats(0.1, 0.9),
    st.floats(0.5, 0.99),
    st.floats(-0.9, 0.9),
    st.booleans(),
)
def test_planning_is_of_one_piece(effect, std, share, wanted, correlation, sequential):
    options = {"shares": (share, 1 - share), "correlation": correlation, "sequential": sequential}
    units = sample_size(effect, std, power=wanted, **options)
    if units > 10:
        assert minimum_effect(units, std, power=wanted, **options) <= effect * (1 + 1e-9)
        assert minimum_effect(units - 1, std, power=wanted, **options) >= effect * (1 - 1e-9)
        assert power(effect, units, std, **options) >= wanted - 1e-6


def test_plans_that_cannot_be_made():
    for call, words in (
        (lambda: sample_size(0.0, 1.0), "`effect`"),
        (lambda: sample_size(0.1, 0.0), "`std`"),
        (lambda: sample_size(0.1, 1.0, shares=(1.0,)), "`shares`"),
        (lambda: sample_size(0.1, 1.0, shares=(0.9, 0.9)), "`shares`"),
        (lambda: sample_size(0.1, 1.0, power=1.0), "`power`"),
        (lambda: minimum_effect(1, 1.0), "`units`"),
        (lambda: power(0.1, 100, 1.0, correlation=1.0), "`correlation`"),
    ):
        with pytest.raises(ExperimentError, match=words):
            call()
    assert sample_size(0.1, 1.0, shares=(1 / 3, 1 / 3, 1 / 3)) > 1.5 * sample_size(0.1, 1.0)


def test_sample_ratio():
    """Pearson's p-value is SciPy's; the mixture's Bayes factor is that of the Dirichlet-multinomial."""
    good, bad = check_sample_ratio([5000, 5100], [1, 1]), check_sample_ratio([5000, 5600], [0.5, 0.5])
    assert good.p_value == pytest.approx(stats.chisquare([5000, 5100]).pvalue) and not good.mismatch
    assert bad.mismatch and bad.expected == (5300, 5300)
    exact = stats.multinomial(10, [0.5, 0.5]).pmf([9, 1])
    mixed = [stats.dirichlet_multinomial([half, half], 10).pmf([9, 1]) for half in (5, 500, 50_000)]
    factor = np.mean(mixed) / exact
    assert check_sample_ratio([9, 1], [1, 1]).always_valid_p == pytest.approx(min(1, 1 / factor))
    assert check_sample_ratio([20, 0], [1, 1]).mismatch  # an arm without traffic
    for wrong in (([1], [1]), ([1, 2], [1, 0]), ([0, 0], [1, 1]), ([1, 2, 3], [1, 1]), ([1, -2], [1, 1])):
        with pytest.raises(ExperimentError):
            check_sample_ratio(*wrong)


def test_sample_ratio_at_every_look():
    """Among 40 fair splits that are looked at fifty times each, at most a few raise the alarm."""
    rng = np.random.default_rng(4)
    alarms = singles = 0
    for _ in range(40):
        seen = np.cumsum(rng.random(5000) < 0.5)[99::100]
        looks = [check_sample_ratio([n, 100 * (i + 1) - n], [1, 1]) for i, n in enumerate(seen)]
        alarms += any(look.mismatch for look in looks)
        singles += any(look.p_value < 0.01 for look in looks)
    assert alarms <= 3 < singles


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 20), max_size=25),
    st.lists(st.integers(0, 20), max_size=25),
    st.integers(1, 30),
    st.integers(0, 99),
)
def test_what_holds_of_every_interleaving(first, second, k, seed):
    one = team_draft(first, second, k, np.random.default_rng(seed))
    assert len(set(one.items)) == len(one.items) == min(k, len({*first, *second}))
    for team, ranking in ((0, first), (1, second)):
        own = [item for item, by in zip(one.items, one.teams, strict=True) if by == team]
        assert own == sorted(own, key=ranking.index)  # in the ranking's own order
    assert one == team_draft(first, second, k, np.random.default_rng(seed))
    if first == second and len(set(first)) >= k:
        assert list(one.items) == list(dict.fromkeys(first))[:k]


def test_interleaving_is_fair_and_finds_the_better():
    """The two lists of Radlinski et al.: with equal rankings each has half of the places."""
    rng = np.random.default_rng(0)
    teams = np.array([team_draft(range(10), range(10), 10, rng).teams for _ in range(2000)])
    assert abs(teams.mean() - 0.5) < 0.01 and abs(teams[:, 0].mean() - 0.5) < 0.05
    assert (teams.reshape(-1, 5, 2).sum(2) == 1).all()  # each round one item each
    with pytest.raises(ExperimentError, match="`k`"):
        team_draft([1], [2], 0, rng)
    one = preference(np.array([1, 0, 0, 2, 0.0]), np.array([0, 1, 3, 2, 0.0]))
    assert one.units == 4 and one.value == pytest.approx((-1 + 1 + 1 + 0) / 4)
    clear = preference(np.zeros(60), np.ones(60))
    assert clear.low > 0.9 and clear.always_low > 0 and clear.p_value < 1e-6
    assert preference(np.zeros(2), np.ones(2)).p_value > 0.05
    for wrong in (([0, 0], [0, 1]), ([-1, 1], [1, 1]), ([1], [1, 2])):
        with pytest.raises(ExperimentError):
            preference(*map(np.asarray, wrong))
