"""Determinantal point processes against determinants, and rules on categories against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import check_layer
from tfrec_fusion.layers.category_rules import SMOOTHING, UNLIMITED, CategoryRules, distribution
from tfrec_fusion.layers.reranking import DeterminantalPointProcess, MaximalMarginalRelevance

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 12)).astype(np.float32)
VECTORS = RNG.normal(size=(3, 12, 4)).astype(np.float32)
RIDGE = 1e-3


def by_determinants(scores, vectors, diversity, k):
    """Each pick by the whole objective of every longer list, in double precision."""
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    kernel = (1 - RIDGE) * (1 + unit @ unit.T) / 2
    np.fill_diagonal(kernel, 1)
    picked = []
    while len(picked) < k:
        lists = [[*picked, one] for one in range(len(scores)) if one not in picked]
        objective = [
            (1 - diversity) * relevance[some].sum()
            + diversity * np.linalg.slogdet(kernel[np.ix_(some, some)])[1]
            for some in lists
        ]
        picked = lists[int(np.argmax(objective))]
    return picked


@pytest.mark.parametrize("arguments", [{}, {"rescale": False, "ridge": 0.05}])
def test_check_layer(arguments):
    call_kwargs = {"vectors": VECTORS, "diversity": np.float32([0.1, 0.5, 0.9]), "k": 6}
    check_layer(
        DeterminantalPointProcess, arguments, SCORES, (3, 6), expected_dtype="int32", call_kwargs=call_kwargs
    )


@pytest.mark.parametrize("diversity", [0.0, 0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("width", "k"), [(4, 1), (4, 12), (200, 7)])  # beyond the rank of the vectors, too
def test_equals_the_greedy_search_by_determinants(diversity, width, k):
    vectors = RNG.normal(size=(3, 12, width)).astype(np.float32)
    order = DeterminantalPointProcess()(SCORES, vectors, diversity, k).numpy()
    for row in range(3):
        expected = by_determinants(SCORES[row], vectors[row], diversity, k)
        assert order[row].tolist() == expected


def test_the_quality_weighted_kernel_of_the_paper_has_the_same_order():
    """`det L` with `q = exp(a r)` is another way to write the objective."""
    diversity, unit = 0.4, VECTORS[0].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    kernel = (1 - RIDGE) * (1 + unit @ unit.T) / 2
    np.fill_diagonal(kernel, 1)
    quality = np.exp((1 - diversity) / (2 * diversity) * SCORES[0].astype(np.float64))
    kernel *= np.outer(quality, quality)
    picked = []
    while len(picked) < 6:
        lists = [[*picked, one] for one in range(12) if one not in picked]
        picked = max(lists, key=lambda some: np.linalg.det(kernel[np.ix_(some, some)]))
    order = DeterminantalPointProcess(rescale=False)(SCORES[:1], VECTORS[:1], diversity, 6)
    assert order.numpy()[0].tolist() == picked


def test_it_sees_a_mixture_of_picks_where_the_nearest_pick_does_not():
    vectors = np.float32([[[1, 0, 0], [0, 1, 0], [0.7, 0.7, 0.15], [0.75, 0, 0.66]]])
    scores = np.float32([[1.0, 0.9, 0.5, 0.5]])
    assert MaximalMarginalRelevance()(scores, vectors, 0.5, 3).numpy()[0, 2] == 2
    assert DeterminantalPointProcess()(scores, vectors, 0.5, 3).numpy()[0, 2] == 3


@pytest.mark.parametrize("layer", [MaximalMarginalRelevance, DeterminantalPointProcess])
def test_what_is_no_number_is_never_picked_or_like_no_other(layer):
    scores, vectors = SCORES.copy(), VECTORS.copy()
    scores[0, :4] = [np.nan, -np.inf, np.inf, 3e38]
    scores[1] = np.nan
    vectors[0, 5], vectors[0, 6], vectors[2] = np.nan, np.inf, 0
    order = layer()(scores, vectors, 0.5, 12).numpy()
    assert sorted(order[0]) == [-1, -1, *range(2, 12)]
    assert (order[1] == -1).all()
    # All alike: the order of the scores.
    assert order[2].tolist() == np.argsort(-SCORES[2], kind="stable").tolist()


def test_copies_come_in_the_order_of_their_scores():
    vectors = np.repeat(VECTORS[:1, :1], 12, 1)
    order = DeterminantalPointProcess()(SCORES[:1], vectors, 0.9, 12).numpy()[0]
    assert order.tolist() == np.argsort(-SCORES[0], kind="stable").tolist()


def test_a_batch_is_its_rows_one_by_one():
    layer = DeterminantalPointProcess()
    whole = layer(SCORES, VECTORS, 0.6, 8).numpy()
    rows = [layer(SCORES[row : row + 1], VECTORS[row : row + 1], 0.6, 8).numpy()[0] for row in range(3)]
    np.testing.assert_array_equal(whole, rows)


def test_a_ridge_outside_its_range_is_refused():
    for ridge in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"`ridge` must be above 0 and below 1. Received"):
            DeterminantalPointProcess(ridge=ridge)


def rules(of_items, limits=None, target=None, weight=0.0, size=4):
    batch = len(of_items)
    return CategoryRules(
        tf.constant(of_items, tf.int32),
        tf.fill([batch, size + 1], UNLIMITED) if limits is None else tf.constant(limits, tf.int32),
        tf.zeros([batch, size + 1]) if target is None else tf.constant(target, tf.float32),
        tf.constant([False, *[True] * size]),
        tf.constant(weight),
    )


def divergence(target, categories, picked, weight, relevance):
    """Steck's objective of a list, by sums."""
    sums = np.zeros(len(target))
    for one in picked:
        own = [category for category in categories[one] if category]
        for category in own:
            sums[category] += 1 / len(own)
    shares = sums / sums.sum() if sums.sum() else sums
    kl = sum(
        p * np.log(p / ((1 - SMOOTHING) * q + SMOOTHING * p))
        for p, q in zip(target, shares, strict=True)
        if p
    )
    return (1 - weight) * relevance[picked].sum() - weight * kl


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("layer", [MaximalMarginalRelevance, DeterminantalPointProcess])
def test_calibration_is_the_greedy_search_of_its_objective(weight, layer):
    categories = np.random.default_rng(3).integers(0, 5, [1, 12, 2])
    categories[categories[..., 0] == categories[..., 1], 1] = 0
    target = np.array([0, 0.5, 0.25, 0.25, 0])
    relevance = (SCORES[0] - SCORES[0].min()) / np.ptp(SCORES[0]).astype(np.float64)
    given_rules = rules(categories, target=[target], weight=weight)
    order = layer()(SCORES[:1], VECTORS[:1], 0.0, 8, given_rules).numpy()[0]
    picked: list[int] = []
    for one in order:
        best = max(
            divergence(target, categories[0], [*picked, other], weight, relevance)
            for other in range(12)
            if other not in picked
        )
        picked.append(int(one))
        assert divergence(target, categories[0], picked, weight, relevance) == pytest.approx(best, abs=1e-5)


def test_a_calibrated_list_is_mixed_as_the_history_and_without_one_as_by_score():
    """Steck's example: 70 % romance and 30 % action watched, all the best scores romance."""
    categories = np.repeat([1, 2], 20).reshape(1, 40, 1)
    scores = np.linspace(1, 0, 40, dtype=np.float32)[None]
    history = tf.constant([[[1]] * 7 + [[2]] * 3])
    target = distribution(history, tf.constant([False, True, True]))
    np.testing.assert_allclose(target, [[0, 0.7, 0.3]], atol=1e-6)
    layer, vectors = MaximalMarginalRelevance(), np.ones([1, 40, 1], np.float32)
    picked = layer(scores, vectors, 0.0, 10, rules(categories, target=target, weight=0.99, size=2)).numpy()
    assert (np.bincount(categories[0, picked[0], 0])[1:] == [7, 3]).all()
    nothing = distribution(tf.zeros([1, 3, 0], tf.int32), tf.constant([False, True, True]))
    picked = layer(scores, vectors, 0.0, 10, rules(categories, target=nothing, weight=0.99, size=2)).numpy()
    assert picked[0].tolist() == list(range(10))


@pytest.mark.parametrize("layer", [MaximalMarginalRelevance(), DeterminantalPointProcess()])
@settings(max_examples=40, deadline=None)
@given(draw=st.data())
def test_a_limit_is_never_exceeded_and_nothing_with_room_is_left_out(layer, draw):
    seed = draw.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    categories = rng.integers(0, 5, [2, 12, 3])
    for row in categories.reshape(-1, 3):  # each once
        row[:] = np.pad(np.unique(row), (0, 3 - len(np.unique(row))))
    limits = np.array(
        draw.draw(
            st.lists(
                st.lists(st.sampled_from([0, 1, 2, 5, UNLIMITED]), min_size=5, max_size=5),
                min_size=2,
                max_size=2,
            )
        )
    )
    scores = rng.normal(size=(2, 12)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    target = rng.dirichlet(np.ones(4), 2)
    given_rules = rules(
        categories, limits, np.pad(target, ((0, 0), (1, 0))), draw.draw(st.sampled_from([0.0, 0.5]))
    )
    order = layer(scores, VECTORS[:2], draw.draw(st.sampled_from([0.0, 0.4])), 12, given_rules).numpy()
    for row, picks in enumerate(order):
        real = picks[picks >= 0]
        assert (picks[len(real) :] == -1).all() and len(set(real)) == len(real)
        counts = np.bincount(categories[row, real].ravel(), minlength=5)
        assert (counts[1:] <= limits[row, 1:]).all()
        for left in set(range(12)) - set(real):
            own = categories[row, left][categories[row, left] > 0]
            assert scores[row, left] == -np.inf or (counts[own] >= limits[row, own]).any()
