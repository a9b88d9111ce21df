"""What the items of a history get on top of their scores: against plain Python, and planted weights found
again."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfrec_fusion.models.hybrid.repeat_fitting import KEPT, Competition
from tfrec_fusion.models.hybrid.repeats import Repeats, baseline_weights, features, with_repeats

HISTORIES = st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=4)
FEW, MANY = KEPT[1], KEPT[2]


def padded(rows, width=9):
    return np.array([[0] * (width - len(row)) + row for row in rows], np.int32)


def expected(row, item):
    newer = [len(row) - 1 - place for place, one in enumerate(row) if one == item]
    level = math.log(sum((1 + behind) ** -0.5 for behind in newer))
    return [1.0, math.log(len(newer)), -math.log1p(min(newer)), level]


@given(HISTORIES)
def test_features_are_those_of_the_definition(rows):
    values, last = (part.numpy() for part in features(tf.constant(padded(rows))))
    for row, own, there in zip(rows, values, last, strict=True):
        assert there.sum() == len(set(row))
        for place in np.flatnonzero(there):
            item = row[place - (9 - len(row))]
            assert place == 8 - row[::-1].index(item)
            np.testing.assert_allclose(own[place], expected(row, item), atol=1e-5)


@given(HISTORIES)
def test_scores_of_other_items_stay(rows):
    scores = np.random.default_rng(0).normal(size=(len(rows), 7)).astype(np.float32)
    weights = [0.5, 0.25, -0.5, 2.0]
    found = with_repeats(Repeats(weights), padded(rows), scores)
    for row, before, after in zip(rows, scores, found, strict=True):
        for item in range(7):
            added = np.dot(weights, expected(row, item)) if item in row else 0.0
            assert after[item] == pytest.approx(before[item] + added, abs=1e-4)
    assert with_repeats(None, padded(rows), scores) is scores
    np.testing.assert_array_equal(with_repeats(Repeats(), padded(rows), scores), scores)


def test_of_an_item_that_is_no_more_nothing_is_added():
    scores = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(with_repeats(Repeats([1, 0, 0, 0]), padded([[2, 7]]), scores), [[0, 0, 1]])


def test_candidates_get_what_belongs_to_the_latest_choice():
    again = Repeats([1, 0, 0, 0])(tf.constant(padded([[3, 4, 3], []])))
    found = again.of(tf.constant([[3, 5], [3, 0]])).numpy()
    assert found.shape == (2, 2, 9)
    assert found[0, 0].tolist() == [0] * 8 + [1] and not found[0, 1].any() and not found[1].any()


def test_the_baseline_lists_what_was_chosen_before_everything_else():
    scores = with_repeats(Repeats(baseline_weights()), padded([[2, 1, 1, 3]]), np.array([[0, 0, 0, 0, 9.0]]))
    assert np.argsort(-scores[0]).tolist() == [1, 3, 2, 4, 0]  # twice, then lately, then once


def test_a_layer_is_made_again_from_its_config():
    layer = Repeats([1.0, 2.0, 3.0, 4.0], name="again")
    copy = Repeats.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy.solved, layer.solved)
    assert not layer.trainable_weights


def competition(weights, rows=1500, items=40, scale=2.0, seed=0):
    """Choices drawn from the model that is fitted."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(1, 12, rng.integers(1, 10)).tolist() for _ in range(rows)]
    history = padded(lists)
    scores = rng.normal(size=(rows, items)).astype(np.float32)
    scores[:, 0] = -np.inf
    values, last = (part.numpy() for part in features(tf.constant(history)))
    total = scale * with_repeats(Repeats(np.array(weights) / scale), history, scores)
    target = (total + rng.gumbel(size=total.shape)).argmax(1)
    position = np.array([row.tolist().index(item) if item in row else -1
                         for row, item in zip(np.where(last, history, 0), target, strict=True)])  # fmt: skip
    others = scores.copy()
    np.put_along_axis(others, history, -np.inf, 1)
    again = np.where(last, np.take_along_axis(scores, history, 1), -np.inf)
    own = scores[np.arange(rows), target]
    return Competition(others, again, values, own, position, np.full(rows, 1 / rows), 1.0)


def test_planted_weights_are_found_again():
    planted = [1.0, 1.5, 0.8, 0.0]
    found = competition(planted).weights((0, 1, 2))
    np.testing.assert_allclose(2.0 * found, planted, atol=0.25)
    assert found[3] == 0


def test_all_of_the_term_puts_choices_higher_where_habits_are_planted():
    data = competition([2.0, 1.5, 1.5, 0.5])
    nothing, alike, whole = (data.gains(data.weights(kept)).mean() for kept in KEPT)
    assert nothing < alike < whole


def test_what_is_never_chosen_again_is_put_behind():
    data = competition([-30.0, 0, 0, 0])
    weights = data.weights(FEW)
    assert not data.repeated.any() and weights[0] < -1
    assert data.gains(weights).mean() > data.gains(data.weights(())).mean()


def test_a_sample_of_items_stands_for_all():
    """Half of the other items, each counted twice, tell about the same weights."""
    planted = [1.0, 1.0, 0.5, 0.0]
    data = competition(planted, items=200)
    kept = np.sort(np.random.default_rng(1).permutation(200)[:100])
    half = Competition(data.others[:, kept], data.again, data.values, data.target, data.position,
                       data.weight, 2.0)  # fmt: skip
    np.testing.assert_allclose(half.weights(MANY[:3]), data.weights(MANY[:3]), atol=0.3)
