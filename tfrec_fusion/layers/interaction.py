"""Interactions between features: TFRS's `Cross` (DCN-V2) and `DotInteraction` (DLRM), and factorization
machines.

In mixed precision, call the first cross as `Cross()(x0)`, not `Cross()(x0, x0)`: Keras lowers a layer's first
argument only, and TFRS then adds float16 to float32, which fails. `DotInteraction` in float16 on a CPU needs
`skip_gather=True`, since TensorFlow has no boolean mask for it there.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_recommenders.layers.feature_interaction import Cross, DotInteraction

from tfrec_fusion.layers.input_checks import check_floats

__all__ = ["Cross", "DotInteraction", "FactorizationMachine"]


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class FactorizationMachine(tf_keras.layers.Layer):
    """A factorization machine over embedded features: all pairs interact through their dot product.

    `y = w_0 + Σ_i w_i · e_i + Σ_{i<j} e_i · e_j`, the pairs in linear time as `½ (‖Σ e_i‖² - Σ ‖e_i‖²)`. The
    first-order weight of a feature value is here a learned projection `w_i` of its embedding `e_i`, where the
    paper has a free number a value.

    Args:
        first_order: whether `w_0` and the `w_i` are there; without them nothing is learned.

    References: Rendle, 2010, https://doi.org/10.1109/ICDM.2010.127; in DeepFM: Guo et al., 2017,
    https://arxiv.org/abs/1703.04247
    """

    def __init__(self, first_order: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first_order = first_order

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3 or shape[1] is None or shape[2] is None:
            raise ValueError(
                "FactorizationMachine needs embeddings [batch, features, dim], features and dim fixed. "
                f"Received the shape {shape}. `tf.stack` the features' embeddings on axis 1."
            )
        if self.first_order:
            self.weight = self.add_weight(name="weight", shape=shape[1:], initializer="zeros")
            self.bias = self.add_weight(name="bias", shape=[1], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps embeddings, floats `[batch, features, dim]`, to a score `[batch, 1]`."""
        check_floats("FactorizationMachine", inputs.dtype, "Embed the features first.")
        # In float32: the difference of two large sums loses everything in half precision.
        embeddings = tf.cast(inputs, tf.float32)
        square_of_sum = tf.square(tf.reduce_sum(embeddings, axis=1))
        sum_of_squares = tf.reduce_sum(tf.square(embeddings), axis=1)
        score = 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)
        score = tf.cast(score, inputs.dtype)
        if self.first_order:
            score += tf.reduce_sum(inputs * self.weight, axis=[1, 2])[:, tf.newaxis] + self.bias
        return score

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([input_shape[0], 1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "first_order": self.first_order}
