"""Features of items or users as plain columns that a linear regression can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfrec_fusion.config import Feature

# Columns of all categorical features together, at most, in equal parts: of a feature with more values some
# share a column.
MOST_COLUMNS = 1000


class SideColumns:
    """Features side by side, categories as the share that each has.

    Args:
        features: which.

    Attributes:
        width: columns of all together.
    """

    def __init__(self, features: Sequence[Feature]):
        self.features = tuple(features)
        kinds = [feature.kind in ("categorical", "categories") for feature in self.features]
        most = MOST_COLUMNS // max(1, sum(kinds))
        self.columns = [
            min(feature.size, most) if kind else feature.size
            for feature, kind in zip(self.features, kinds, strict=True)
        ]
        self.width = sum(self.columns)

    def __call__(self, values: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Each feature's columns: float32 `[n, its columns]`, of values by name as `Feature` describes
        them."""
        parts = []
        for feature, columns in zip(self.features, self.columns, strict=True):
            value = values[feature.name]
            if feature.kind in ("categorical", "categories"):
                value = tf.reshape(value, [tf.shape(value)[0], -1])
                there = tf.cast(value > 0, tf.float32)[..., None]
                total = tf.reduce_sum(tf.one_hot(value % columns, columns) * there, 1)
                parts.append(tf.math.divide_no_nan(total, tf.reduce_sum(there, 1)))
            else:
                parts.append(tf.reshape(tf.cast(value, tf.float32), [-1, feature.size]))
        return parts
