"""Ranking heads that cross a model's vectors with each other: MLP, DCN-V2, DLRM and DeepFM.

Each head takes float `[batch, fields, dim]`, one vector per field (user, item, what their towers say), and
returns a vector `[batch, any]` from which scores are read by a linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.interaction import Cross, DotInteraction, FactorizationMachine


class _Head(tf_keras.layers.Layer):
    """Args:
    hidden: widths of the deep part's ReLU layers.
    dropout: after each of them.
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hidden:
            raise ValueError("`hidden` must name at least one width. Received: (). Give (64,), say.")
        self.hidden = tuple(hidden)
        self.dropout = dropout
        layers = []
        for width in hidden:
            layers += [tf_keras.layers.Dense(width, activation="relu"), repeatable.Dropout(dropout)]
        self.deep = tf_keras.Sequential(layers, name="deep")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden, "dropout": self.dropout}

    @staticmethod
    def _flat(inputs: tf.Tensor) -> tf.Tensor:
        return tf.reshape(inputs, [-1, inputs.shape[1] * inputs.shape[2]])


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MLPHead(_Head):
    """ReLU layers over the fields side by side and the products of every two of them."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps float `[batch, fields, dim]` to `[batch, last hidden width]`."""
        fields = tf.unstack(inputs, axis=1)
        products = [
            first * second for position, first in enumerate(fields) for second in fields[position + 1 :]
        ]
        return self.deep(tf.concat([*fields, *products], -1), training=training)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class DCNHead(_Head):
    """Cross layers, then ReLU layers over what they found (the stacked form of DCN-V2).

    Args:
        num_crosses: cross layers; `n` of them reach interactions of `n + 1` numbers.
        projection_dim: rank of a cross layer's matrix.

    Reference: Wang et al., 2021, https://arxiv.org/abs/2008.13535
    """

    def __init__(
        self,
        hidden: Sequence[int],
        dropout: float = 0.0,
        num_crosses: int = 2,
        projection_dim: int | None = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden, dropout, **kwargs)
        self.num_crosses = num_crosses
        self.projection_dim = projection_dim
        self.crosses = [
            Cross(projection_dim=projection_dim, kernel_initializer="glorot_uniform")
            for _ in range(num_crosses)
        ]

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps float `[batch, fields, dim]` to `[batch, last hidden width]`."""
        start = self._flat(inputs)
        crossed = start
        for position, cross in enumerate(self.crosses):
            crossed = cross(start, crossed) if position else cross(start)
        return self.deep(crossed, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_crosses": self.num_crosses,
            "projection_dim": self.projection_dim,
        }


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class DLRMHead(_Head):
    """ReLU layers over the fields side by side and the dot product of every two of them.

    Reference: Naumov et al., 2019, https://arxiv.org/abs/1906.00091
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(hidden, dropout, **kwargs)
        # Float16 has no boolean mask on a CPU, which gathering the upper triangle would need.
        self.dots = DotInteraction(skip_gather=True)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps float `[batch, fields, dim]` to `[batch, last hidden width]`."""
        dots = self.dots(tf.unstack(inputs, axis=1))
        return self.deep(tf.concat([self._flat(inputs), dots], -1), training=training)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class DeepFMHead(_Head):
    """A factorization machine beside ReLU layers over the same fields.

    Reference: Guo et al., 2017, https://arxiv.org/abs/1703.04247
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(hidden, dropout, **kwargs)
        self.factorization_machine = FactorizationMachine()

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps float `[batch, fields, dim]` to `[batch, last hidden width + 1]`."""
        deep = self.deep(self._flat(inputs), training=training)
        return tf.concat([self.factorization_machine(inputs), deep], -1)
