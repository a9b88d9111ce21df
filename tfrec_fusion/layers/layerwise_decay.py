"""Layer-wise learning-rate decay: one learning rate a variable, for any Keras optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras


def with_multipliers(
    optimizer: tf_keras.optimizers.Optimizer, multipliers: Iterable[tuple[tf.Variable, float]]
) -> tf_keras.optimizers.Optimizer:
    """Makes an optimizer that multiplies its learning rate by a factor of each variable.

    Scaling gradients would not do: Adam and its relatives are invariant to it. So the factor is applied to
    the learning rate while the variable is updated. Decoupled weight decay keeps the optimizer's own rate.

    Args:
        optimizer: a Keras optimizer that has not trained yet; its settings are copied.
        multipliers: variables with their factors, for example from `TextEncoder.learning_rate_multipliers`; a
            variable that is not named keeps the whole rate.

    Returns:
        A new optimizer of a subclass of `optimizer`'s class.

    Reference: Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146 (discriminative fine-tuning)
    """
    base: Any = type(optimizer)

    class Layerwise(base):
        def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
            self._factor = self._factors.get(self._var_key(variable), 1.0)
            try:
                super().update_step(gradient, variable)
            finally:
                self._factor = 1.0

        @property
        def learning_rate(self) -> tf.Tensor:
            rate = base.learning_rate.fget(self)
            return rate if self._factor == 1.0 else rate * self._factor

        @learning_rate.setter
        def learning_rate(self, value: Any) -> tf.Tensor:
            base.learning_rate.fset(self, value)

    Layerwise.__name__ = f"Layerwise{base.__name__}"
    # Needed before the base's __init__, which already reads the learning rate.
    Layerwise._factor = 1.0
    Layerwise._factors = {}
    layerwise = Layerwise.from_config(optimizer.get_config())
    layerwise._factors = {layerwise._var_key(variable): float(factor) for variable, factor in multipliers}
    return layerwise
