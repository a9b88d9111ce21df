"""The text adaptor against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tfrec_fusion.layers.text_adaptor import TextAdaptor


def texts(*leading):
    return np.random.default_rng(0).normal(size=(*leading, 6)).astype(np.float32)


@pytest.mark.parametrize("leading", [(5,), (2, 3)])
def test_experts_whiten_around_the_centre_and_a_gate_mixes_them(leading):
    inputs = texts(*leading)
    layer = TextAdaptor(4, num_experts=3)
    layer(inputs)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    centred = inputs - layer.centre.numpy()
    bias, kernel = layer.experts.bias.numpy(), layer.experts.kernel.numpy()
    logits = centred @ layer.experts.gate.kernel.numpy()
    gates = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = sum(gates[..., [k]] * ((centred - bias[k]) @ kernel[k]) for k in range(3))
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-4)


def test_domains_that_lie_apart_meet_at_the_origin():
    inputs, apart = texts(7), np.full(6, 3, np.float32)
    layer = TextAdaptor(4)
    there = layer(inputs)
    layer.centre.assign(apart)
    np.testing.assert_allclose(layer(inputs + apart), there, rtol=1e-4, atol=1e-5)
    assert not layer.centre.trainable


@pytest.mark.slow
def test_check_text_adaptor():
    check_layer(
        TextAdaptor,
        {"dim": 4, "num_experts": 3, "dropout": 0.0},
        texts(5),
        (5, 4),
        prepare=lambda layer: (layer.build(tf.TensorShape([None, 6])), layer.centre.assign(tf.ones(6))),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextAdaptor(0), "`dim` must be at least 1"),
        (
            lambda: TextAdaptor(4)(tf.zeros([2, 3], tf.int32)),
            "needs floats. Received: int32. Encode the texts",
        ),
        (lambda: TextAdaptor(4)(tf.zeros([3])), "needs text vectors.*Received the shape"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
