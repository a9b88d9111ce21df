"""Normalisation of a token's vector: layer norm and root-mean-square norm."""

from __future__ import annotations

from typing import Any, get_args

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.architecture import NormKind


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Norm(tf_keras.layers.Layer):
    """Normalises the last axis, computed in float32.

    ``layer``: `(x − mean) / sqrt(var + epsilon) · scale + bias`. ``rms``: `x / sqrt(mean(x²) + epsilon) ·
    scale`. ``rms_shifted``: the same with `1 + scale`, as Gemma stores it.

    Args:
        kind: see above.
        epsilon: added to the variance.
        bias: whether a layer norm adds a bias.

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450; Zhang and Sennrich, 2019,
    https://arxiv.org/abs/1910.07467
    """

    def __init__(
        self, kind: NormKind = "layer", epsilon: float = 1e-12, bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if kind not in get_args(NormKind):
            raise ValueError(
                f"`kind` must be one of {', '.join(map(repr, get_args(NormKind)))}. Received: {kind!r}."
            )
        self.kind = kind
        self.epsilon = epsilon
        self.bias = bias

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        width = tf.TensorShape(input_shape)[-1]
        start = "zeros" if self.kind == "rms_shifted" else "ones"
        self.gamma = self.add_weight("gamma", [width], initializer=start)
        has_bias = self.kind == "layer" and self.bias
        self.beta = self.add_weight("beta", [width], initializer="zeros") if has_bias else None
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[..., width]` → the same shape and dtype."""
        values = tf.cast(inputs, tf.float32)
        gamma = tf.cast(self.gamma, tf.float32)
        if self.kind == "layer":
            values -= tf.reduce_mean(values, -1, keepdims=True)
        power = tf.reduce_mean(tf.square(values), -1, keepdims=True)
        values *= tf.math.rsqrt(power + self.epsilon)
        values *= 1.0 + gamma if self.kind == "rms_shifted" else gamma
        if self.beta is not None:
            values += tf.cast(self.beta, tf.float32)
        return tf.cast(values, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "epsilon": self.epsilon, "bias": self.bias}
