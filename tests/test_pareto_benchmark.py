"""The fronts of accuracy and diversity: the area under a front, and the rule by which a point is chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pareto import Point, choose, hypervolume, means, volumes


def test_the_area_of_a_staircase_is_counted_by_hand():
    """(3, 1), (2, 2) and (1, 3) above (0, 0): 3 + 2 + 1 unit squares; (1, 1) lies inside."""
    assert hypervolume(np.array([[1, 3], [3, 1], [1, 1], [2, 2]]), (0, 0)) == 6
    assert hypervolume(np.array([[3, 1]]), (1, 0)) == 2
    assert hypervolume(np.array([[3, -1], [-1, 3]]), (0, 0)) == 0
    assert hypervolume(np.zeros((0, 2)), (0, 0)) == 0


numbers = st.integers(-2, 8)


@given(st.lists(st.tuples(numbers, numbers), max_size=8))
def test_the_area_is_the_number_of_unit_squares_that_a_point_covers(points):
    covered = {(x, y) for a, b in points for x in range(max(a, 0)) for y in range(max(b, 0))}
    assert hypervolume(np.array(points), (0, 0)) == len(covered)


def point(weight, ndcg, distance):
    figures = {"ndcg": np.asarray(ndcg, float), "distance": np.asarray(distance, float)}
    return Point("way", weight, figures, figures)


def test_the_most_diverse_point_is_chosen_that_is_accurate_enough():
    rng = np.random.default_rng(0)
    ndcg = rng.random(400)
    plain = point(0, ndcg, np.full(400, 0.5))
    little = point(1, ndcg - 0.01, np.full(400, 0.6))
    much = point(2, ndcg - 0.2, np.full(400, 0.9))
    # As accurate on average, and nobody knows: some users gain what others lose.
    unsure = point(3, ndcg + rng.normal(0, 3, 400), np.full(400, 0.95))
    assert choose([little, much, unsure], plain, "distance", 0.1) is little
    assert choose([much], plain, "distance", 0.1) is plain
    assert choose([little, much], plain, "distance", 0.9) is much


def test_volumes_are_in_multiples_of_the_plain_model_and_pair_users():
    """One point at the same accuracy and 1.5 times the distance: (1 - 0.5) * (1.5 - 1)."""
    ndcg = np.random.default_rng(1).random(300)
    plain, wider = point(0, ndcg, np.full(300, 0.4)), point(1, ndcg, np.full(300, 0.6))
    area, draws = volumes([wider], plain, "distance")
    assert area == pytest.approx(0.25)
    assert draws.mean() == pytest.approx(0.25, abs=0.02) and 0 < draws.std() < 0.05


def test_users_without_a_figure_do_not_count():
    values = np.array([[1.0, np.nan], [3.0, 5.0]] * 50)
    np.testing.assert_allclose(means(values).mean(0), [2, 5], atol=0.05)
