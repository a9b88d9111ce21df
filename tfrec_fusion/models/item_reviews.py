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

    Means of many texts lie close together: they are taken around their mean over the catalogue, and divided
    by their deviation, one number for all. An item without a text is a field of zeros.

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
        there = np.asarray(means)[np.any(means, 1)]
        around = there.mean(0) if len(there) else np.zeros(means.shape[1])
        spread = float(np.sqrt(there.var(0).mean())) if len(there) else 0.0
        self.centre = self._constant("centre", around)
        self.spread = self._constant("spread", np.float32(spread or 1.0))
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
        return self._field(means)

    def catalogue(self) -> tf.Tensor:
        """The field of every item: float `[N + 1, dim]`."""
        return self._field(tf.convert_to_tensor(self.table))

    def standards(self) -> list[tf.Variable]:
        """What means are held against, which is part of what was learned."""
        return [self.centre, self.spread]

    def _field(self, means: tf.Tensor) -> tf.Tensor:
        means = tf.cast(means, tf.float32)
        there = tf.cast(tf.reduce_any(means != 0, -1, keepdims=True), tf.float32)
        standard = there * (means - self.centre) / self.spread
        return self.projection(tf.cast(standard, self.compute_dtype))

    def _constant(self, name: str, value: np.ndarray) -> tf.Variable:
        start = tf_keras.initializers.Constant(np.asarray(value, np.float32))
        return self.add_weight(
            name, np.shape(value), tf.float32, start, trainable=False, experimental_autocast=False
        )
