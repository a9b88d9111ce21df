"""Layers of one's own instead of built-in ones, made from an import path and tried on zeros.

Each function tries one instance and returns another, so that a layer may create its weights for the
modalities it meets. `config.layer_names` has checked before that the path names a Keras class that takes the
arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.config.layer_names import own_class


def fusion(path: str, dim: int) -> tf_keras.layers.Layer:
    """A fusion: modality name → float `[..., dim of that modality]` to `[..., dim]`, of any leading
    dimensions.

    Raises:
        ValueError: if the class returns another shape.
    """
    for shape in ([2, dim], [2, 3, dim]):
        given = {"id": tf.zeros(shape), "text": tf.zeros(shape)}
        _check(path, functools.partial(_apply, given), {"dim": dim}, shape, "two modalities")
    return own_class(path)(dim=dim)


def history_encoder(path: str, dim: int, return_sequences: bool, **options: Any) -> tf_keras.layers.Layer:
    """A history encoder: float `[batch, T, dim]` and a bool mask `[batch, T]` to `[batch, T, dim]` with
    `return_sequences`, else to `[batch, dim]`.

    Raises:
        ValueError: if the class returns another shape.
    """
    options |= {"return_sequences": return_sequences}
    history, mask = tf.zeros([2, 3, dim]), tf.constant([[False, True, True], [False, False, False]])
    shape = [2, 3, dim] if return_sequences else [2, dim]
    _check(
        path, lambda layer: layer(history, mask=mask, training=False), options, shape, "histories [2, 3, dim]"
    )
    return own_class(path)(**options)


def head(path: str, dim: int, hidden: Sequence[int], dropout: float) -> tf_keras.layers.Layer:
    """A ranking head: float `[batch, fields, dim]` to `[batch, any]`.

    Raises:
        ValueError: if the class returns another shape.
    """
    options = {"hidden": hidden, "dropout": dropout}
    fields = tf.zeros([2, 4, dim])
    _check(path, lambda layer: layer(fields, training=False), options, [2, None], "fields [2, 4, dim]")
    return own_class(path)(**options)


def _apply(inputs: Any, layer: tf_keras.layers.Layer) -> tf.Tensor:
    return layer(inputs)


def _check(
    path: str,
    call: Callable[[tf_keras.layers.Layer], tf.Tensor],
    options: dict[str, Any],
    shape: Sequence[int | None],
    given: str,
) -> None:
    result = tf.convert_to_tensor(call(own_class(path)(**options)))
    if not tf.TensorShape(shape).is_compatible_with(result.shape):
        raise ValueError(
            f"`{path}` must return the shape {list(shape)} for {given}, dim {options.get('dim', 'as given')}."
            f" Received: {result.shape.as_list()}. Correct its `call`."
        )
