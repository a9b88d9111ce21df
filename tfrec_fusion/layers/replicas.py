"""Rows and means over all replicas of a `tf.distribute` strategy; outside of one, what is given is all there
is."""

from __future__ import annotations

import contextlib

import tensorflow as tf

__all__ = ["gather_across_replicas", "mean_over_replicas", "weighted_mean_over_replicas"]


def gather_across_replicas(*values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Concatenates each replica's rows, this replica's own rows first.

    Own rows come first so that row `i` of the queries still belongs to row `i` of the candidates. With one
    replica, or outside a strategy, the values come back as they are. Gradients flow back to the replica a row
    came from.

    Args:
        *values: tensors `[rows, ...]`; `rows` may differ between replicas, but not between the values of one
            replica.

    Returns:
        The same number of tensors, `[rows of all replicas, ...]`.
    """
    context = tf.distribute.get_replica_context()
    if not _replicas_talk(context):
        return values
    with _on_its_device(context):
        sizes = context.all_gather(tf.reshape(tf.shape(values[0])[0], [1]), axis=0)
        before = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
        return tuple(
            tf.roll(context.all_gather(tf.identity(value), axis=0), -before, axis=0) for value in values
        )


def mean_over_replicas(per_example: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
    """This replica's share of the mean over all replicas' examples, of which they may have different numbers.

    Args:
        per_example: float `[rows]`.
        sample_weight: float `[rows]`, multiplies the losses; the mean still counts rows.

    Returns:
        Scalar; summed over the replicas it is the mean. NaN without a row anywhere.
    """
    if sample_weight is not None:
        per_example *= tf.cast(sample_weight, per_example.dtype)
    return tf.reduce_sum(per_example) / tf.cast(_sum_over_replicas(tf.size(per_example)), per_example.dtype)


def weighted_mean_over_replicas(per_example: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """This replica's share of the weighted mean over all replicas' examples,
    `sum(weights * values) / sum(weights)`.

    Args:
        per_example: float `[rows]`.
        weights: float `[rows]`, at least 0.

    Returns:
        Scalar; summed over the replicas it is the weighted mean. 0 where all weights are 0.
    """
    weights = tf.cast(weights, per_example.dtype)
    return tf.math.divide_no_nan(
        tf.reduce_sum(per_example * weights), _sum_over_replicas(tf.reduce_sum(weights))
    )


def _sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value) if _replicas_talk(context) else value


def _replicas_talk(context: tf.distribute.ReplicaContext | None) -> bool:
    """Whether there are other replicas."""
    return context is not None and context.num_replicas_in_sync > 1


def _on_its_device(context: tf.distribute.ReplicaContext) -> contextlib.AbstractContextManager:
    """Places operations where the replica runs: TensorFlow gathers to the device of what it is given, and a
    worker with one device leaves that open ("destinations can not be empty")."""
    devices = context.strategy.extended.worker_devices
    return tf.device(devices[0]) if len(devices) == 1 else contextlib.nullcontext()
