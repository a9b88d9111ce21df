"""Exploration: probabilities by simulation, exact propensities, bounded cost, and less regret than greed."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import experiments as benchmark
from tfrec_fusion.experiments import ExperimentError, Exploration, explore, ips
from tfrec_fusion.experiments.exploring import best_probabilities, probabilities


def test_probabilities_of_being_best():
    """Two: a normal probability; several: a million draws; equal ones: equal."""
    two = best_probabilities(np.array([0.3, 0.0]), np.array([1.0, 0.5]))
    assert two[0] == pytest.approx(stats.norm.cdf(0.3 / np.sqrt(1.25)), abs=1e-6)
    rng = np.random.default_rng(0)
    means, widths = rng.normal(size=12), rng.uniform(0.05, 1.5, 12)
    drawn = rng.normal(means, widths, (200_000, 12)).argmax(1)
    share = np.bincount(drawn, minlength=12) / 200_000
    assert np.abs(best_probabilities(means, widths) - share).max() < 4 * np.sqrt(0.25 / 200_000)
    np.testing.assert_allclose(best_probabilities(np.zeros(30), np.full(30, 0.1)), 1 / 30)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(-(10**6), 10**6).map(lambda n: n / 1000), min_size=1, max_size=12),
    st.floats(0, 1),
    st.floats(0, 50),
    st.sampled_from([0.0, 0.01]),
    st.integers(1, 15),
    st.integers(0, 3),
    st.sampled_from(["thompson", "ucb"]),
)
def test_what_holds_of_every_list(scores, max_cost, width, floor, k, keep, method):
    exploration = Exploration(top=8, keep=keep, width=width, max_cost=max_cost, floor=floor, method=method)
    values = np.asarray(scores)
    one = explore(values, k, exploration, np.random.default_rng(0), np.arange(len(values)))
    assert len(set(one.order.tolist())) == len(one.order) == min(k, len(values))
    assert ((one.propensities > 0) & (one.propensities <= 1)).all()
    ranking = np.argsort(-values, kind="stable")
    assert one.order[:keep].tolist() == ranking[: min(keep, k)].tolist()
    left = values.copy()
    for item, cost in zip(one.order[: min(k, 8)], one.cost, strict=False):
        inside = left[np.isin(np.arange(len(values)), ranking[:8]) & np.isfinite(left)]
        distance = inside.max() - inside.min()
        assert -1e-6 <= cost <= max_cost * distance * (1 + 1e-6) + 1e-6
        left[item] = np.nan
    # The scores' unit and origin do not count.
    drawn = probabilities(values, np.zeros(len(values)), exploration)
    assert drawn.sum() == pytest.approx(1)
    if values.std() > 1e-3:
        np.testing.assert_allclose(
            probabilities(2 * values + 3, np.zeros(len(values)), exploration), drawn, atol=1e-6
        )


def test_propensities_are_what_is_drawn():
    """Every list of three candidates: how often it comes is the product of its propensities."""
    exploration = Exploration(width=2.0, max_cost=0.6)
    scores, shown = np.array([0.3, 0.2, 0.0]), np.array([100.0, 0.0, 10.0])
    rng = np.random.default_rng(0)
    counts, chances = dict.fromkeys(itertools.permutations(range(3)), 0), {}
    for _ in range(1200):
        one = explore(scores, 3, exploration, rng, shown)
        counts[tuple(one.order.tolist())] += 1
        chances[tuple(one.order.tolist())] = one.propensities.prod()
    assert len(chances) == 6 and sum(chances.values()) == pytest.approx(1)
    assert stats.chisquare(list(counts.values()), [1200 * chances[one] for one in counts]).pvalue > 1e-4


def test_what_is_logged_can_be_evaluated():
    """From an explored log, IPS tells the click rate of always showing the second candidate first."""
    exploration = Exploration(top=4, width=1.0, max_cost=1.0, floor=0.05)
    scores, truth = np.array([0.3, 0.2, 0.1, 0.0]), np.array([0.1, 0.6, 0.2, 0.3])
    rng = np.random.default_rng(1)
    ones = [explore(scores, 1, exploration, rng) for _ in range(800)]
    shown, chance = (
        np.array([one.order[0] for one in ones]),
        np.array([one.propensities[0] for one in ones]),
    )
    clicks = (rng.random(800) < truth[shown]).astype(float)
    estimate = ips(clicks, chance, (shown == 1).astype(float))
    assert abs(estimate.value - 0.6) < 4 * (estimate.high - estimate.low) / 3.92


def test_what_was_seldom_shown_is_explored_more():
    exploration = Exploration(floor=0.0, max_cost=1.0)
    scores = np.array([1.0, 0.8, 0.8, 0.0])
    drawn = probabilities(scores, np.array([1e4, 1e4, 0.0, 1e4]), exploration)
    assert drawn[2] > 5 * drawn[1] and np.argmax(drawn) == 0
    greedy = probabilities(scores, np.zeros(4), Exploration(width=0.0))
    assert greedy.tolist() == [1, 0, 0, 0]
    assert probabilities(scores, np.zeros(4), Exploration(max_cost=0.0)).tolist() == [1, 0, 0, 0]


def test_the_highest_upper_bound_by_hand():
    """Standard deviation 0.1 of 0.3, 0.1: the second was never shown, the first often."""
    scores, shown = np.array([0.3, 0.1]), np.array([300.0, 0.0])
    free = Exploration(width=1.0, max_cost=1.0, floor=0.0, method="ucb")
    # Bounds 0.3 + 0.1 / sqrt(1 + 3) and 0.1 + 0.1; then, twice as wide, 0.4 and 0.3; then 0.45 and 0.4 + 0.1.
    for width, second in ((1.0, 0), (2.0, 0), (5.0, 1)):
        drawn = probabilities(scores, shown, dataclasses.replace(free, width=width))
        assert drawn.tolist() == [1 - second, second]
    # The cost of always showing the second is the whole distance: a quarter of it is a quarter of the time.
    drawn = probabilities(scores, shown, dataclasses.replace(free, width=5.0, max_cost=0.25))
    np.testing.assert_allclose(drawn, [0.75, 0.25])
    # Of equal scores the one that was shown least.
    assert probabilities(np.zeros(3), np.array([5.0, 1.0, 9.0]), free).tolist() == [0, 1, 0]


def test_a_catalogue_with_new_items():
    """The benchmark's catalogue, small: what exploration costs at first is earned again later, in most
    catalogues."""
    late = []
    for seed in range(3):
        greedy, explored = (
            benchmark.regret(one, 500, items=16, k=2, seed=seed)
            for one in (None, Exploration(top=16, max_cost=0.2))
        )
        late.append(greedy.last - explored.last)
    assert np.mean(late) > 0.05


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"top": 0}, "`top` must be between 1 and 1000. Received: 0"),
        ({"width": -1}, "`width`"),
        ({"max_cost": 2}, "`max_cost` must be between 0 and 1"),
        ({"floor": 0.5}, "`floor` must be at most 1 / `top`"),
        ({"top": 1.5}, "`top`"),
        ({"share": 1}, "Exploration has the keys"),
        ({"method": "greedy"}, "`method` must be one of thompson, ucb. Received: 'greedy'"),
        ({"prior": float("nan")}, "`prior`"),
    ],
)
def test_settings_that_cannot_be_used(values, words):
    with pytest.raises(ExperimentError, match=words):
        Exploration.from_mapping(values)


def test_candidates_that_cannot_be_used():
    rng = np.random.default_rng(0)
    for scores, k, shown, words in (
        ([float("nan"), 1.0], 1, None, "`scores`"),
        ([1.0, 2.0], 0, None, "`k`"),
        ([1.0, 2.0], 1, [-1.0, 0.0], "`shown` must hold counts"),
        ([1.0, 2.0], 1, [1.0], "`shown` must have one value"),
    ):
        with pytest.raises(ExperimentError, match=words):
            explore(np.asarray(scores), k, Exploration(), rng, shown)
    assert len(explore(np.array([]), 3, Exploration(), rng).order) == 0
