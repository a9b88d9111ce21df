"""Interactions: the factorization machine pair by pair, and TFRS's layers under Keras 2."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.checks import check_layer
from tfrec_fusion.layers.interaction import Cross, DotInteraction, FactorizationMachine

EMBEDDINGS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("first_order", [True, False])
def test_check_layer(first_order):
    check_layer(FactorizationMachine, {"first_order": first_order}, EMBEDDINGS, (4, 1))


def test_factorization_machine_equals_the_sum_over_pairs():
    layer = FactorizationMachine()
    layer(EMBEDDINGS)
    weight, bias = np.random.default_rng(1).normal(size=[3, 5]), 0.5
    layer.set_weights([weight, np.array([bias])])
    for example, score in zip(EMBEDDINGS, layer(EMBEDDINGS).numpy(), strict=True):
        pairs = sum(one @ other for one, other in itertools.combinations(example, 2))
        assert score.item() == pytest.approx(bias + np.sum(weight * example) + pairs, rel=1e-4)


def test_a_single_feature_has_no_pairs():
    np.testing.assert_allclose(
        FactorizationMachine(first_order=False)(EMBEDDINGS[:, :1]), np.zeros([4, 1]), atol=1e-6
    )


@pytest.mark.parametrize("embeddings", [EMBEDDINGS[0], EMBEDDINGS[None]])
def test_wrong_rank(embeddings):
    with pytest.raises(ValueError, match=r"\[batch, features, dim\].*Received the shape"):
        FactorizationMachine()(embeddings)


def test_cross_of_tfrs_equals_its_formula_and_reloads(tmp_path):
    features = EMBEDDINGS[:, 0]
    symbol = tf_keras.Input([5])
    model = tf_keras.Model(symbol, Cross(kernel_initializer="glorot_uniform")(symbol, symbol))
    kernel, bias = model.get_weights()
    expected = features * (features @ kernel + bias) + features
    np.testing.assert_allclose(model(features), expected, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model.keras")
    reloaded = tf_keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(reloaded(features), expected, rtol=1e-4, atol=1e-5)


def test_dot_interaction_of_tfrs_equals_its_formula():
    dots = DotInteraction(self_interaction=False)([tf.constant(EMBEDDINGS[:, place]) for place in range(3)])
    expected = [[b @ a, c @ a, c @ b] for a, b, c in EMBEDDINGS]
    np.testing.assert_allclose(dots, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_layers_of_tfrs_compute_in_mixed_precision(policy):
    features = tf.constant(EMBEDDINGS)
    first = Cross(dtype=policy)(features[:, 0])
    crossed = Cross(dtype=policy)(features[:, 0], first)
    dots = DotInteraction(skip_gather=True, dtype=policy)([features[:, 0], features[:, 1]])
    assert crossed.dtype.name == dots.dtype.name == policy.removeprefix("mixed_")
