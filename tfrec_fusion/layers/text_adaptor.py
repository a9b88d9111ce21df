"""From a text encoder's vectors into a tower's space, in a form that carries over to other domains."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.fusion import ExpertsFusion
from tfrec_fusion.layers.input_checks import check_floats


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TextAdaptor(tf_keras.layers.Layer):
    """Parametric whitening by experts, which a gate mixes.

    `x' = x - m` around the mean `m` of a domain's texts, expert `e_k = W_k (x' - b_k)`, gate
    `g = softmax(U x' + ε ⊙ softplus(V x'))` with standard normal `ε` in training and `ε = 0` otherwise,
    `y = Σ_k g_k e_k` (`ExpertsFusion` of one modality). Other than in UniSRec, which has no `m`, domains
    whose texts lie apart meet at the origin, and experts share a dropout mask.

    Args:
        dim: of the output.
        num_experts: how many experts are mixed.
        dropout: share of the elements of `x'` dropped before the experts in training, in [0, 1).

    Attributes:
        centre: float32 `[text_dim]`, `m`; zeros until it is assigned, and not trained.

    Reference: Hou et al., 2022 (UniSRec), https://arxiv.org/abs/2206.05941
    """

    def __init__(self, dim: int, num_experts: int = 8, dropout: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.num_experts = num_experts
        self.dropout = dropout
        self.experts = ExpertsFusion(dim, num_experts, dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank is None or shape.rank < 2 or shape[-1] is None:
            raise ValueError(
                f"TextAdaptor needs text vectors [..., text_dim], text_dim fixed. Received the shape {shape}."
                " Encode the texts first."
            )
        self.centre = self.add_weight(
            name="centre", shape=[int(shape[-1])], initializer="zeros", trainable=False
        )
        self.experts.build({"text": shape})
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps text vectors, float `[..., text_dim]`, to `[..., dim]`."""
        check_floats(type(self).__name__, inputs.dtype, "Encode the texts first.")
        return self.experts({"text": inputs - tf.cast(self.centre, inputs.dtype)}, training=training)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)[:-1].concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        config = {"dim": self.dim, "num_experts": self.num_experts, "dropout": self.dropout}
        return {**super().get_config(), **config}
