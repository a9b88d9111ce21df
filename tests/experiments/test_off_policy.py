"""Off-policy estimates: by hand, their properties, against a known truth, and on the Open Bandit data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import off_policy as benchmark
from tfrec_fusion.experiments import (
    ExperimentError,
    NoSupport,
    clip_weights,
    cross_fitted_means,
    doubly_robust,
    effective_sample_size,
    ips,
    snips,
)

ROWS = 40


def log(weights=None):
    """40 rows, shown with 1/2 or 1/4, that the target shows with 1/4 or 1/2."""
    logging = np.tile([0.5, 0.25], ROWS // 2)
    target = np.tile([0.25, 0.375], ROWS // 2)
    rewards = np.tile([1.0, 0.0, 0.0, 1.0], ROWS // 4)
    return rewards, logging, target


def test_by_hand():
    """Weights 0.5 and 1.5 in turn, of mean 1; rewards 1 at weights 0.5 and 1.5."""
    one = ips(*log())
    assert one.value == pytest.approx((0.5 + 1.5) / 4) and one.mean_weight == pytest.approx(1)
    assert one.effective_rows == pytest.approx((20 * 0.5 + 20 * 1.5) ** 2 / (20 * 0.25 + 20 * 2.25)) == 32
    terms = np.tile([0.5, 0, 0, 1.5], 10)
    reach = 1.959964 * terms.std(ddof=1) / np.sqrt(ROWS)
    assert (one.low, one.high) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-6)
    assert snips(*log()).value == pytest.approx(0.5)
    clipped = ips(*log(), clip=1.0)
    assert clipped.value == pytest.approx((0.5 + 1.0) / 4) and clipped.clipped == pytest.approx(0.25)
    twin = doubly_robust(*log(), np.full(ROWS, 0.2), np.full(ROWS, 0.3))
    assert twin.value == pytest.approx(0.3 + np.mean(np.tile([0.5, 1.5], 20) * (log()[0] - 0.2)))


def test_rows_of_a_user_are_not_independent():
    """Each row ten times, as one user's: the interval is that of the single rows."""
    rewards, logging, target = log()
    once = snips(rewards, logging, target)
    tenfold = [np.repeat(column, 10) for column in (rewards, logging, target)]
    assert snips(*tenfold).high - snips(*tenfold).low < 0.4 * (once.high - once.low)
    whole = snips(*tenfold, units=np.repeat(np.arange(ROWS).astype(str), 10))
    assert (whole.low, whole.high) == pytest.approx((once.low, once.high))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(60, 200),
    st.sampled_from([None, 0.5, 2.0, 1e9]),
    st.floats(-5, 5),
    st.floats(0.01, 100),
)
def test_what_holds_of_every_log(seed, rows, clip, shift, stretch):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(4), 2) * 0.8 + 0.05
    actions = rng.choice(4, rows, p=probabilities[0])
    logging, target = probabilities[0][actions], probabilities[1][actions]
    rewards = rng.normal(size=rows)
    try:
        plain, normal = (one(rewards, logging, target, clip=clip) for one in (ips, snips))
    except ExperimentError:  # a draw that lacks support by chance
        return
    weights = clip_weights(target / logging, clip)
    # In the range of the rewards, whatever the weights; moves and stretches with them.
    assert rewards.min() <= normal.value <= rewards.max()
    moved = snips(shift + stretch * rewards, logging, target, clip=clip)
    assert moved.value == pytest.approx(shift + stretch * normal.value, abs=1e-9 * (1 + stretch))
    assert moved.high - moved.low == pytest.approx(stretch * (normal.high - normal.low))
    assert ips(stretch * rewards, logging, target, clip=clip).value == pytest.approx(stretch * plain.value)
    # Doubly robust: without predictions it is IPS, with perfect ones it is theirs.
    nothing = np.zeros(rows)
    twin = doubly_robust(rewards, logging, target, nothing, nothing, clip=clip)
    assert (twin.value, twin.low) == pytest.approx((plain.value, plain.low))
    perfect = doubly_robust(rewards, logging, target, rewards, np.full(rows, shift), clip=clip)
    assert perfect.value == pytest.approx(shift) and perfect.high - perfect.low < 1e-9
    assert 1 <= plain.effective_rows <= rows + 1e-9
    assert plain.effective_rows == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert 0 <= plain.clipped < 1 and plain.low <= plain.value <= plain.high
    # In any order, and the same policy is the log's own mean.
    order = rng.permutation(rows)
    again = snips(rewards[order], logging[order], target[order], clip=clip)
    assert (again.value, again.high) == pytest.approx((normal.value, normal.high))
    assert ips(rewards, logging, logging).value == pytest.approx(rewards.mean())


def test_effective_rows_of_odd_weights():
    assert effective_sample_size(np.zeros(5)) == 0 and effective_sample_size(np.array([])) == 0
    assert effective_sample_size(np.full(7, 1e-200)) == pytest.approx(7)
    assert effective_sample_size(np.array([1e200, 0.0])) == pytest.approx(1)


def test_missing_support_is_refused():
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 2, 2000)  # of three items, the third is never shown
    target = np.array([0.3, 0.2, 0.5])[actions]
    with pytest.raises(
        NoSupport, match=r"weights must average 1. Received: 0\.496.* about 50% .* never logged"
    ):
        ips(np.ones(2000), np.full(2000, 0.5), target)
    with pytest.raises(NoSupport, match="Received: 0.000 ± 0.000"):
        snips(np.ones(50), np.full(50, 0.5), np.zeros(50))
    with pytest.raises(ExperimentError, match="are not those by which this log was shown"):
        ips(np.ones(2000), np.full(2000, 0.2), np.full(2000, 0.5))
    rare = np.r_[np.full(2000, 0.999), 0.001]
    with pytest.raises(NoSupport, match="at least 30 effective rows. Received: 1.0 of 2,001"):
        snips(np.ones(2001), rare, np.r_[np.full(2000, 1e-6), 1.0])


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (
            "logging",
            [0.0],
            r"`logging` must hold probabilities above 0 and at most 1. Received: 0 in row 3 \(1 such",
        ),
        ("logging", [1.5], "Received: 1.5 in row 3"),
        ("logging", [float("nan")], "none missing and none infinite. Received: nan in row 3"),
        ("target", [-0.1], "`target` must hold probabilities from 0"),
        ("rewards", [float("inf")], "`rewards` must hold numbers"),
    ],
)
def test_columns_that_cannot_be_used(column, values, words):
    columns = dict(zip(("rewards", "logging", "target"), log(), strict=True))
    columns[column] = columns[column].copy()
    columns[column][3] = values[0]
    with pytest.raises(ExperimentError, match=words):
        ips(**columns)


def test_shapes_and_settings_that_cannot_be_used():
    rewards, logging, target = log()
    for change, words in (
        ({"rewards": ["a"] * ROWS}, "must hold numbers"),
        ({"target": target[:5]}, r"one value a row \(40 rows\). Received: 5"),
        ({"rewards": np.ones((ROWS, 2))}, "one axis"),
        ({"clip": 0.0}, "`clip` must be above 0"),
        ({"confidence": 1.0}, "`confidence`"),
        ({"units": [1, 2]}, "`units` must have one value a row"),
    ):
        with pytest.raises(ExperimentError, match=words):
            ips(**{"rewards": rewards, "logging": logging, "target": target, **change})
    with pytest.raises(ExperimentError, match="no rows"):
        ips([], [], [])
    for wrong in ((rewards, [0] * 3, 2), (rewards, np.full(ROWS, 2), 2), (rewards, np.zeros(ROWS), 2)):
        with pytest.raises(ExperimentError, match="`choices`"):
            cross_fitted_means(wrong[0], np.asarray(wrong[1]), wrong[2])


def test_reward_means_come_from_the_other_folds():
    rewards, choices = np.arange(6.0), np.array([0, 0, 1, 1, 0, 1])
    fold = np.random.default_rng(3).permutation(6) % 2
    means = cross_fitted_means(rewards, choices, 3, folds=2, prior=1.0, seed=3)
    for row in range(6):
        others = fold != fold[row]
        overall = rewards[others].mean()
        for choice in range(3):
            chosen = rewards[others & (choices == choice)]
            assert means[row, choice] == pytest.approx((chosen.sum() + overall) / (len(chosen) + 1))


def test_bias_and_coverage_where_the_truth_is_known():
    """The benchmark's simulator with few seeds: four standard errors of what 60 seeds can show."""
    for row in benchmark.simulate(seeds=60, rows=1500):
        if row.clip is None:
            assert abs(row.bias) < 4 * row.bias_error, row
            assert row.coverage > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60), row
    assert {row.estimator for row in benchmark.simulate(seeds=2, rows=500)} == {
        "IPS",
        "SNIPS",
        "doubly robust",
    }


@pytest.mark.skipif(not benchmark.DATA.is_dir(), reason="the Open Bandit data are not here")
def test_open_bandit_policies_are_told_from_each_others_logs():
    """Each policy's click rate, from the other's log: the true one's interval and the estimate's overlap."""
    for question in benchmark.questions(benchmark.DATA):
        for estimate in benchmark.estimates(question).values():
            assert estimate.low < question.truth_high and question.truth_low < estimate.high
