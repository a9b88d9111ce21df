"""Maximal marginal relevance against a greedy loop in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tfrec_fusion.layers.reranking import MaximalMarginalRelevance

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 12)).astype(np.float32)
VECTORS = RNG.normal(size=(3, 12, 4)).astype(np.float32)


def greedy(scores, vectors, diversity, k):
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    picked = []
    while len(picked) < k:
        penalty = np.max(unit @ unit[picked].T, axis=1) if picked else 0.0
        value = (1 - diversity) * relevance - diversity * penalty
        value[picked] = -np.inf
        picked.append(int(np.argmax(value)))
    return picked


@pytest.mark.parametrize("rescale", [True, False])
def test_check_layer(rescale):
    call_kwargs = {"vectors": VECTORS, "diversity": np.float32([0.1, 0.5, 0.9]), "k": 5}
    check_layer(
        MaximalMarginalRelevance,
        {"rescale": rescale},
        SCORES,
        (3, 5),
        expected_dtype="int32",
        call_kwargs=call_kwargs,
    )


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_equals_the_greedy_loop(diversity, k):
    order = MaximalMarginalRelevance()(SCORES, VECTORS, diversity, k)
    expected = [
        greedy(scores, vectors, diversity, k) for scores, vectors in zip(SCORES, VECTORS, strict=True)
    ]
    np.testing.assert_array_equal(order, expected)


def test_without_diversity_it_is_the_order_of_the_scores():
    np.testing.assert_array_equal(
        MaximalMarginalRelevance()(SCORES, VECTORS, 0.0, 12), np.argsort(-SCORES, axis=1, kind="stable")
    )


def test_each_request_has_its_own_weight():
    order = MaximalMarginalRelevance()(SCORES, VECTORS, tf.constant([0.0, 0.5, 0.9]), 6)
    for row, diversity in enumerate([0.0, 0.5, 0.9]):
        np.testing.assert_array_equal(order[row], greedy(SCORES[row], VECTORS[row], diversity, 6))


def test_a_copy_of_what_was_picked_comes_last():
    scores = np.float32([[3.0, 2.9, 1.0]])
    vectors = np.float32([[[1, 0], [2, 0], [0, 1]]])
    layer = MaximalMarginalRelevance()
    np.testing.assert_array_equal(layer(scores, vectors, 0.6, 3), [[0, 2, 1]])
    np.testing.assert_array_equal(layer(scores, vectors, 0.0, 3), [[0, 1, 2]])


def test_scores_of_any_scale_give_the_same_order_when_rescaled():
    layer, raw = MaximalMarginalRelevance(), MaximalMarginalRelevance(rescale=False)
    np.testing.assert_array_equal(layer(SCORES * 1000 + 5, VECTORS, 0.5, 12), layer(SCORES, VECTORS, 0.5, 12))
    assert np.any(raw(SCORES * 1000, VECTORS, 0.5, 12) != raw(SCORES, VECTORS, 0.5, 12))


@pytest.mark.parametrize("diversity", [0.0, 0.5, 1.0])
def test_excluded_candidates_are_never_picked(diversity):
    scores = SCORES.copy()
    scores[0, [2, 5]] = -np.inf
    scores[1] = -np.inf
    order = MaximalMarginalRelevance()(scores, VECTORS, diversity, 12).numpy()
    assert sorted(order[0]) == [-1, -1, 0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(order[0, -2:], [-1, -1])
    np.testing.assert_array_equal(order[1], -1)
    assert sorted(order[2]) == list(range(12))


def test_equal_scores_are_taken_in_their_order():
    np.testing.assert_array_equal(
        MaximalMarginalRelevance()(np.ones([1, 12]), VECTORS[:1], 0.0, 3), [[0, 1, 2]]
    )


def test_k_and_diversity_can_be_request_tensors():
    layer = MaximalMarginalRelevance()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None, None, 4]),
            tf.TensorSpec([]),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def serve(scores, vectors, diversity, k):
        return layer(scores, vectors, diversity, k)

    for k in (2, 7):
        order = serve(SCORES, VECTORS, tf.constant(0.4), tf.constant(k))
        assert order.shape == (3, k)
        np.testing.assert_array_equal(order[1], greedy(SCORES[1], VECTORS[1], 0.4, k))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SCORES, VECTORS, 0.5, 13), r"at most the number of candidates \(12\). Received: k=13"),
        ((SCORES, VECTORS, 0.5, 0), "Received: k=0"),
        ((SCORES[0], VECTORS, 0.5, 3), r"Scores must be \[batch, N\]"),
        ((SCORES, VECTORS[:, :5], 0.5, 3), r"Received shapes: \(3, 12\) and \(3, 5, 4\)"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaximalMarginalRelevance()(*arguments)
