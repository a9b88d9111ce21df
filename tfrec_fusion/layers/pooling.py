"""Pooling: one vector a text from one vector a token."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.input_checks import check_choice

POOLINGS = ("mean", "cls", "max", "last", "attention")


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Pooling(tf_keras.layers.Layer):
    """Turns the vectors of a text's tokens into one, in float32.

    ``mean`` and ``max`` over real tokens; ``cls``, the first token; ``last``, the last real token, the only
    one that sees all others where tokens see those before them; ``attention``, a learned weighted mean with
    one hop and a linear score that starts out as the mean.

    Args:
        kind: see above.

    Raises:
        ValueError: for another kind.

    Reference: Lin et al., 2017, https://arxiv.org/abs/1703.03130 (attention)
    """

    def __init__(self, kind: str = "mean", **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_choice("pooling", kind, POOLINGS)
        self.kind = kind
        self.scorer = (
            tf_keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="scorer")
            if kind == "attention"
            else None
        )

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        if self.scorer is not None:
            with tf.name_scope("scorer"):
                self.scorer.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Pools.

        Args:
            inputs: float `[batch, length, width]`.
            mask: int `[batch, length]`, 0 at padding.

        Returns:
            float32 `[batch, width]`. A row of padding alone gives zeros, except for ``cls`` and ``last``,
            which then take the first token.
        """
        hidden = tf.cast(inputs, tf.float32)
        if self.kind == "cls":
            return hidden[:, 0]
        if self.kind == "last":
            positions = tf.range(tf.shape(mask)[1])
            last = tf.reduce_max(tf.where(mask > 0, positions, 0), axis=1)
            return tf.gather(hidden, last, batch_dims=1)
        real = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
        if self.kind == "max":
            highest = tf.reduce_max(tf.where(real > 0, hidden, hidden.dtype.min), axis=1)
            return tf.where(tf.reduce_any(real > 0, axis=1), highest, 0.0)
        if self.scorer is not None:
            weights = tf.nn.softmax(self.scorer(hidden) + (1.0 - real) * -1e9, axis=1) * real
            return tf.reduce_sum(weights * hidden, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(hidden * real, axis=1), tf.reduce_sum(real, axis=1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind}
