"""Field of the ranking model's head: what was written about items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.naming import ITEM_REVIEWS

__all__ = ["ItemReviews"]


class ItemReviews(tf_keras.layers.Layer):
    """A linear map of the mean of text vectors about each item (`features.reviews`).

    An example of training says itself what was known at its moment; where it does not, and in what is served,
    a table that is not trained does.

    Args:
        means: float32 `[N + 1, any]`, by item; zeros where nothing was written.
        dim: of the field.
    """

    def __init__(self, means: np.ndarray, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.table = self.add_weight(
            "table_reviews",
            means.shape,
            tf.float32,
            initializer=lambda shape, dtype=None, **_: tf.constant(means, dtype),
            trainable=False,
            experimental_autocast=False,
        )
        # Without a bias, nothing written is a field of zeros.
        self.projection = tf_keras.layers.Dense(dim, use_bias=False, name="reviews")
        self.projection.build([None, means.shape[1]])

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The field of items.

        Args:
            inputs: `item_index` int32 `[batch]`, and where it is known `item_reviews` float `[batch, any]`.

        Returns:
            float `[batch, dim]`.
        """
        means = inputs.get(ITEM_REVIEWS)
        if means is None:
            means = tf.nn.embedding_lookup(self.table, inputs["item_index"])
        return self.projection(tf.cast(means, self.compute_dtype))

    def catalogue(self) -> tf.Tensor:
        """The field of every item: float `[N + 1, dim]`."""
        return self.projection(tf.cast(tf.convert_to_tensor(self.table), self.compute_dtype))
