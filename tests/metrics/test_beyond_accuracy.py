"""Metrics beyond accuracy, by hand."""

import itertools

import numpy as np
import pytest

from tfrec_fusion.metrics import beyond_accuracy

RECOMMENDED = np.array([[1, 2], [1, 3], [1, -1]])


def test_coverage_counts_distinct_items():
    assert beyond_accuracy.coverage(RECOMMENDED, 10) == 0.3


def test_novelty_in_bits():
    # Items met by 4, 2 and 0 of 4 users: 0, 1 and (as if chosen once) 2 bits.
    counts = np.array([0, 4, 2, 0])
    assert beyond_accuracy.novelty(RECOMMENDED, counts, num_users=4) == pytest.approx((3 * 0 + 1 + 2) / 5)
    # Shares of 10 smoothed interactions: 5, 3 and 1.
    expected = -(3 * np.log2(0.5) + np.log2(0.3) + np.log2(0.1)) / 5
    assert beyond_accuracy.novelty(RECOMMENDED, counts) == pytest.approx(expected)


def test_intra_list_diversity_equals_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 5))
    recommended = np.array([[3, 7, 11], [2, 5, -1], [4, -1, -1]])
    cosine = lambda a, b: vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])  # noqa: E731
    first = np.mean([1 - cosine(a, b) for a, b in itertools.combinations([3, 7, 11], 2)])
    expected = (first + 1 - cosine(2, 5)) / 2
    assert beyond_accuracy.intra_list_diversity(recommended, vectors) == pytest.approx(expected)


def test_serendipity_weighs_hits_by_how_rare_they_are():
    counts = np.array([0, 3, 1, 2])
    # User 0 hits item 2 (unexpected 3/4), user 1 hits 1 (1/4) and 3 (2/4), user 2 has nothing to find.
    value = beyond_accuracy.serendipity(RECOMMENDED, [[2], [1, 3], []], counts, num_users=4)
    assert value == pytest.approx((0.75 / 2 + 0.75 / 2) / 2)


def test_gini_of_equal_and_of_one_sided_lists():
    assert beyond_accuracy.gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert beyond_accuracy.gini(np.array([[0], [0], [0]]), 4) == pytest.approx(3 / 4)
    # Frequencies 0, 1, 3: half the mean absolute difference over the mean, (1 + 3 + 2) * 2 / (2 * 9 * 4 / 3).
    assert beyond_accuracy.gini(np.array([[1, 2], [2, 2]]), 3) == pytest.approx(12 / 24)


def test_nothing_recommended_is_no_number():
    empty = np.full((2, 3), -1)
    assert np.isnan(beyond_accuracy.novelty(empty, np.ones(4)))
    assert np.isnan(beyond_accuracy.gini(empty, 4))
    assert np.isnan(beyond_accuracy.intra_list_diversity(empty, np.ones((4, 2))))
    assert beyond_accuracy.coverage(empty, 4) == 0
