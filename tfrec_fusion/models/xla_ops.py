"""Steps that XLA compiles to loops over single entries, done so that it need not: on a GPU such loops take
most of a step."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["dense", "distinct"]


def distinct(ids: tf.Tensor, compiled: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """`tf.unique`, and a form of it for XLA, which compiles the operation to a loop over the ids.

    Args:
        ids: int `[n]`, none negative.
        compiled: whether XLA compiles this. The distinct ids are then sorted and followed by zeros up to `n`.

    Returns:
        The distinct ids `[m]` or `[n]`, and int32 `[n]`, the row of each id among them.
    """
    if not compiled:
        return tf.unique(ids)
    count = tf.size(ids)
    order = tf.argsort(ids)
    ordered = tf.gather(ids, order)
    first = tf.concat([tf.ones_like(ordered[:1], tf.bool), ordered[1:] != ordered[:-1]], 0)
    positions = tf.cumsum(tf.cast(first, tf.int32)) - 1
    values = tf.maximum(tf.math.unsorted_segment_max(ordered, positions, count), 0)
    return values, tf.scatter_nd(order[:, None], positions, count[None])


def dense(gradient: tf.Tensor | tf.IndexedSlices | None) -> tf.Tensor | None:
    """A gradient as one tensor: Keras's optimizers look for repeated rows of slices by `tf.unique`.

    Adam's step is the same, since Keras decays the moments of all rows either way.
    """
    return None if gradient is None else tf.convert_to_tensor(gradient)
