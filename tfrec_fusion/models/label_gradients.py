"""Gradients of several labels in one step: how large each is, and their sum without conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras

from tfrec_fusion import tasks
from tfrec_fusion.models.xla_ops import dense

__all__ = ["freed_of_conflicts", "gradient_norms", "last_matrix"]

Gradients = Sequence[tf.Tensor | tf.IndexedSlices | None]


def last_matrix(head: tf_keras.layers.Layer) -> tf.Variable:
    """The last matrix of a ranking head, which all labels share; GradNorm compares gradients by it.

    Raises:
        ValueError: if the head has none.
    """
    matrices = [variable for variable in head.trainable_variables if variable.shape.rank >= 2]
    if not matrices:
        raise ValueError(
            "`weighting: gradnorm` needs a head with a matrix that is trained. Received:"
            f" {type(head).__name__} without one. Choose another weighting."
        )
    return matrices[-1]


def gradient_norms(tape: tf.GradientTape, losses: Mapping[str, tf.Tensor], shared: tf.Variable) -> tf.Tensor:
    """float32 `[labels]`: the norm of each loss's gradient by a shared variable.

    Args:
        tape: a persistent one, which saw the losses.
        losses: float scalar per label.
        shared: the variable.
    """
    zero = tf.UnconnectedGradients.ZERO
    gradients = [tape.gradient(loss, shared, unconnected_gradients=zero) for loss in losses.values()]
    return tf.stack([tf.norm(tf.cast(gradient, tf.float32)) for gradient in gradients])


def freed_of_conflicts(
    tape: tf.GradientTape,
    losses: Mapping[str, tuple[tf.Tensor, float]],
    variables: Sequence[tf.Variable],
    together: Gradients,
    own: Sequence[tf.Variable],
) -> list[tf.Tensor | None]:
    """Gradients of a weighed sum of losses, where what labels share has them freed of conflicts
    (`tasks.without_conflicts`), in a new random order at each step.

    Every label needs a backward pass, and a dense gradient of all that is shared, embeddings too.

    Args:
        tape: a persistent one, which saw the losses.
        losses: of each label its loss, a float scalar, and its weight.
        variables: what is trained.
        together: gradients of the weighed sum by each of them.
        own: variables whose columns are each of one label, to be left as they are; so is what one label
            alone reads.

    Returns:
        One gradient per variable.
    """
    parts = [
        [
            None if gradient is None else tf.cast(dense(gradient), tf.float32) * weight
            for gradient in tape.gradient(loss, variables)
        ]
        for loss, weight in losses.values()
    ]
    left_alone = {id(variable) for variable in own}
    shared = [
        place
        for place, variable in enumerate(variables)
        if id(variable) not in left_alone and sum(part[place] is not None for part in parts) > 1
    ]
    results = [dense(gradient) for gradient in together]
    if not shared:
        return results
    sizes = [variables[place].shape.num_elements() for place in shared]

    def flat(part: Gradients) -> tf.Tensor:
        columns = [tf.zeros([size]) if part[place] is None else tf.reshape(part[place], [-1])
                   for place, size in zip(shared, sizes, strict=True)]  # fmt: skip
        return tf.concat(columns, 0)

    rows = tf.stack([flat(part) for part in parts])
    order = tf.stack([tf.random.shuffle(tf.range(len(parts))) for _ in parts])
    change = tf.reduce_sum(tasks.without_conflicts(rows, order) - rows, 0)
    for place, part in zip(shared, tf.split(change, sizes), strict=True):
        whole = tf.convert_to_tensor(results[place])
        results[place] = whole + tf.cast(tf.reshape(part, variables[place].shape), whole.dtype)
    return results
