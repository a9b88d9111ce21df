"""Attention of a candidate over a history: of what a user chose, that which says something of this item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.input_checks import check_floats


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class CandidateAttention(tf_keras.layers.Layer):
    """The history as a candidate sees it, the local activation unit of the Deep Interest Network.

    `y = sum_t a(x_t, v) x_t` with `a(x, v) = w · relu(W [x; v; x - v; x ⊙ v] + b) + c`, over items `x_t` of
    the history for the candidate `v`. Weights are no softmax: their sum says how strongly a history speaks of
    the candidate. Of the paper the activation differs (Dice there), and `[x; v; x - v; x ⊙ v]` is what its
    authors' code compares.

    Args:
        hidden: width of `W`.

    Reference: Zhou et al., 2018 (DIN), https://arxiv.org/abs/1706.06978
    """

    def __init__(self, hidden: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if hidden < 1:
            raise ValueError(f"`hidden` must be at least 1. Received: hidden={hidden}.")
        self.hidden = hidden
        self.compare = tf_keras.layers.Dense(hidden, activation="relu", dtype=self.dtype_policy)
        self.score = tf_keras.layers.Dense(1, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = int(input_shape[-1])
        self.compare.build([None, None, 4 * dim])
        self.score.build([None, None, self.hidden])
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Sums histories up, each for its candidate.

        Args:
            inputs: floats `[batch, dim]`, the candidates.
            history: floats `[batch, T, dim]`.
            mask: bool `[batch, T]`, true for items; what padded positions hold never matters.

        Returns:
            `[batch, dim]`, zeros where a history has no item.
        """
        check_floats(type(self).__name__, inputs.dtype, "Look the item ids up in an embedding first.")
        history = tf.where(mask[..., tf.newaxis], history, tf.zeros([], history.dtype))
        candidate = tf.broadcast_to(inputs[:, tf.newaxis], tf.shape(history))
        pairs = tf.concat([history, candidate, history - candidate, history * candidate], -1)
        return tf.reduce_sum(self.score(self.compare(pairs)) * history, 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}
