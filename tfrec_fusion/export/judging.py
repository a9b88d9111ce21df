"""Ranks and lists of evaluation, from scores of a whole catalogue."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.evaluated import UNDEFINED
from tfrec_fusion.export.request import INPUTS
from tfrec_fusion.metrics.ranks import stands_before

__all__ = ["DEFAULT_K", "diversity", "or_undefined", "ranked"]

DEFAULT_K = INPUTS["k"].default


def ranked(
    scores: tf.Tensor, ties: tf.Tensor, target: tf.Tensor, seen: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The target's rank and the items at the top, both without what is seen; row 0 is no item.

    Returns:
        float32 `[batch]`: 1 + the number of items that stand before the target
            (`metrics.ranks.stands_before`); infinite
        where the target's score is not a number. int32 `[batch, DEFAULT_K]`: rows, 0 where none is left.
    """
    shape = tf.shape(scores)
    rows = tf.repeat(tf.range(shape[0]), tf.shape(seen)[1])
    positions = tf.stack(
        [
            tf.concat([rows, tf.range(shape[0])], 0),
            tf.concat([tf.reshape(seen, [-1]), tf.zeros(shape[0], tf.int32)], 0),
        ],
        1,
    )
    own = tf.gather(scores, target, batch_dims=1)[:, None]
    # What is no number sorts last, and must not make the rest look better than it is.
    numbers = tf.where(tf.math.is_nan(scores), scores.dtype.min, scores)
    hidden = tf.tensor_scatter_nd_min(numbers, positions, tf.fill([tf.shape(positions)[0]], -np.inf))
    before = stands_before(hidden, ties, own, tf.gather(ties, target)[:, None])
    rank = 1.0 + tf.reduce_sum(tf.cast(before, tf.float32), 1)
    # `top_k` takes the first of equal scores: the columns stand in the order of ties.
    order = tf.argsort(ties)
    values, positions = tf.math.top_k(tf.gather(hidden, order, axis=1), tf.minimum(DEFAULT_K, shape[1]))
    top = tf.gather(order, positions)
    top = tf.where(values > scores.dtype.min, top, 0)
    top = tf.pad(top, [[0, 0], [0, DEFAULT_K - tf.shape(top)[1]]])
    scored = tf.logical_not(tf.math.is_nan(own[:, 0])) & (own[:, 0] > -np.inf)
    return tf.where(scored, rank, np.inf), tf.ensure_shape(top, [None, DEFAULT_K])


def or_undefined(values: tf.Tensor) -> tf.Tensor:
    """The same values, `UNDEFINED` for what is no finite number."""
    return tf.where(tf.math.is_finite(values), values, UNDEFINED)


def diversity(vectors: tf.Tensor, shown: tf.Tensor) -> tf.Tensor:
    """float32 `[batch]`: mean `1 - cosine` over pairs of vectors `[batch, k, dim]` where `shown` `[batch, k]`
    is 1."""
    unit = tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1) * shown[..., None]
    # The sum over pairs of cosines is what the squared length of the sum has beyond the single squared
    # lengths.
    total = tf.reduce_sum(tf.reduce_sum(unit, 1) ** 2, 1) - tf.reduce_sum(unit**2, [1, 2])
    count = tf.reduce_sum(shown, 1)
    pairs = count * (count - 1)
    return tf.where(pairs > 0, 1 - total / pairs, float("nan"))
