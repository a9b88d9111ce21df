"""Dropout and other draws that can be repeated, so that a backward pass may compute a forward pass again.

Outside of `repeatable` everything is drawn as TensorFlow draws it. Inside, a seed and the order of the draws
decide.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

# A variable of the context, since the replicas of a strategy are traced by threads side by side.
_seeds: contextvars.ContextVar[Iterator[tf.Tensor] | None] = contextvars.ContextVar("seeds", default=None)


@contextlib.contextmanager
def repeatable(seed: tf.Tensor) -> Iterator[None]:
    """Draws inside are the same whenever the seed and the code that draws are.

    Args:
        seed: int32 `[2]`.
    """
    token = _seeds.set(seed + tf.constant([0, number]) for number in itertools.count())
    try:
        yield
    finally:
        _seeds.reset(token)


def uniform(shape: tf.Tensor, seed: int | None = None) -> tf.Tensor:
    """`tf.random.uniform` in [0, 1), repeatable; `seed` is the operation's own outside of `repeatable`."""
    seeds = _seeds.get()
    if seeds is None:
        return tf.random.uniform(shape, seed=seed)
    return tf.random.stateless_uniform(shape, next(seeds))


def normal(shape: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """`tf.random.normal`, repeatable."""
    seeds = _seeds.get()
    if seeds is None:
        return tf.random.normal(shape, dtype=dtype)
    return tf.random.stateless_normal(shape, next(seeds), dtype=dtype)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Dropout(tf_keras.layers.Dropout):
    """Keras's dropout, repeatable."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Drops some of the inputs in training and scales up the others; any shape, which it keeps."""
        seeds = _seeds.get()
        if seeds is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        noise_shape = self._get_noise_shape(inputs)
        return tf.nn.experimental.stateless_dropout(
            inputs, rate=self.rate, seed=next(seeds), noise_shape=noise_shape
        )
