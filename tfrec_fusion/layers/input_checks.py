"""Checks of inputs that several layers share, with errors that name the rule, the value seen and the way
out."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


def check_floats(layer: str, dtype: tf.DType, advice: str, where: str = "") -> None:
    """Raises where a layer that multiplies is given integers or strings: TensorFlow's own error names an
    operation.

    Args:
        layer: the layer's name.
        dtype: of the inputs.
        advice: the way out.
        where: which of several inputs it is.
    """
    dtype = tf.as_dtype(dtype)
    if not dtype.is_floating:
        raise ValueError(f"{layer} needs floats. Received: {dtype.name}{where}. {advice}")


def check_modalities(layer: str, inputs: Mapping[str, tf.Tensor], names: Mapping[str, int]) -> None:
    """Raises unless a fusion is given float vectors of the modalities that it was built for.

    Args:
        layer: the layer's name.
        inputs: modality → vectors.
        names: modality → dim, as built.
    """
    if set(inputs) != set(names):
        raise ValueError(
            f"{layer} was built for the modalities {', '.join(names)}. Received: {', '.join(sorted(inputs))}."
            " Give zeros for one that is missing, or let ModalityDropout stand in for it."
        )
    for name, vectors in inputs.items():
        check_floats(layer, vectors.dtype, "Look ids up in an embedding, or cast numbers.", f" for {name!r}")


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises unless an argument is one of the names that it may have."""
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, choices))}. Received: {value!r}.")
