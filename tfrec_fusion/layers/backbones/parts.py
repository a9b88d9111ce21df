"""Parts of a block: matrices that are multiplied as such, activations, and the feed-forward part."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

ACTIVATIONS = {
    "gelu": functools.partial(tf.nn.gelu, approximate=False),
    "gelu_python": functools.partial(tf.nn.gelu, approximate=False),
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "gelu_fast": functools.partial(tf.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(tf.nn.gelu, approximate=True),
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "relu": tf.nn.relu,
    "tanh": tf.math.tanh,
    "linear": tf.identity,
}
"""Activations by the names of `hidden_act` and its like."""


def activation_function(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of an activation's name.

    Raises:
        ValueError: for a name that is not in `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(
            f"An activation must be one of {', '.join(ACTIVATIONS)}. Received: {name!r}. Take an encoder"
            " with one of these."
        )
    return ACTIVATIONS[name]


def matrix(
    units: int, bias: bool, initializer_range: float, name: str, dtype: tf.DType
) -> tf_keras.layers.Dense:
    """A dense layer as blocks use it: no activation, a truncated normal for random weights."""
    return tf_keras.layers.Dense(
        units,
        use_bias=bias,
        kernel_initializer=tf_keras.initializers.TruncatedNormal(stddev=initializer_range),
        name=name,
        dtype=dtype,
    )


def as_rows(values: tf.Tensor) -> tf.Tensor:
    """`[batch, length, width]` → `[batch · length, width]`: TensorFlow fuses a product of two matrices with
    its bias and activation, which it does not for more axes."""
    return tf.reshape(values, [-1, values.shape[-1]])


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class FeedForward(tf_keras.layers.Layer):
    """A token's vector through a wider layer and back: `out(activation(in(x)))`, or with a gate
    `out(activation(in(x)) · gate(x))`.

    Args:
        ffn_dim: width inside.
        activation: see `ACTIVATIONS`.
        gated: whether there is a gate.
        bias: whether `in` and `gate` have a bias.
        out_bias: whether `out` has one.
        initializer_range: the standard deviation of random matrices.

    Reference: Shazeer, 2020, https://arxiv.org/abs/2002.05202 (gates)
    """

    def __init__(
        self,
        ffn_dim: int,
        activation: str = "gelu",
        gated: bool = False,
        bias: bool = True,
        out_bias: bool = True,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ffn_dim = ffn_dim
        self.activation = activation
        self.gated = gated
        self.bias = bias
        self.out_bias = out_bias
        self.initializer_range = initializer_range
        self._activate = activation_function(activation)
        self.ffn_in = matrix(ffn_dim, bias, initializer_range, "ffn_in", self.dtype_policy)
        self.ffn_gate = (
            matrix(ffn_dim, bias, initializer_range, "ffn_gate", self.dtype_policy) if gated else None
        )

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        width = tf.TensorShape(input_shape)[-1]
        self.ffn_out = matrix(width, self.out_bias, self.initializer_range, "ffn_out", self.dtype_policy)
        for layer in (self.ffn_in, self.ffn_gate, self.ffn_out):
            if layer is not None:
                with tf.name_scope(layer.name):
                    layer.build([None, self.ffn_dim if layer is self.ffn_out else width])
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """`[batch, length, width]` → the same shape."""
        rows = as_rows(inputs)
        inner = self._activate(self.ffn_in(rows))
        if self.ffn_gate is not None:
            inner *= self.ffn_gate(rows)
        return tf.reshape(self.ffn_out(inner), tf.shape(inputs))

    def get_config(self) -> dict[str, Any]:
        names = ("ffn_dim", "activation", "gated", "bias", "out_bias", "initializer_range")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
