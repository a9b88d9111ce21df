"""Greedy selection: one pick after the other, each the best beside those picked before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

State = tuple[tf.Tensor, ...]


class Term(Protocol):
    """A summand of a candidate's value that depends on what is picked already."""

    def start(self, steps: tf.Tensor | int) -> State:
        """What is kept before the first of at most `steps` picks."""
        ...

    def value(self, *state: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, N]`; minus infinity for what must not be picked."""
        ...

    def picked(self, at: tf.Tensor, step: tf.Tensor, *state: tf.Tensor) -> State:
        """The state after a pick: `at` int32 `[batch, 2]` are pairs of row and candidate, `step` counts from
        0."""
        ...


def select(values: tf.Tensor, terms: Sequence[Term], k: tf.Tensor | int, at_once: int = 1) -> tf.Tensor:
    """Picks `k` candidates, each with the highest sum of its value and of the terms.

    Args:
        values: float32 `[batch, N]`, what does not depend on other picks; minus infinity for what must not be
            picked.
        terms: what does.
        k: how many, int `[]`, at least 1.
        at_once: picks in one round of the loop; a round costs as much as a few small operations. Picks beyond
            `k` are made and dropped.

    Returns:
        int32 `[batch, k]`: candidates, best first, the first of equal ones; -1 where none was left.
    """
    batch = tf.shape(values)[0]
    rows, lost = tf.range(batch), tf.fill([batch], np.float32(-np.inf))
    rounds = -(-k // at_once)
    steps = rounds * at_once

    def several(
        number: tf.Tensor, order: tf.TensorArray, values: tf.Tensor, states: list[State]
    ) -> tuple[tf.Tensor, ...]:
        picks, best_values = [], []
        for place in range(at_once):
            value = values
            for term, state in zip(terms, states, strict=True):
                value += term.value(*state)
            picks.append(tf.argmax(value, axis=1, output_type=tf.int32))
            at = tf.stack([rows, picks[-1]], 1)
            best_values.append(tf.gather_nd(value, at))
            values = tf.tensor_scatter_nd_update(values, at, lost)
            step = number * at_once + place
            states = [term.picked(at, step, *state) for term, state in zip(terms, states, strict=True)]
        picks = tf.where(tf.stack(best_values) > lost, tf.stack(picks), -1)
        return number + 1, order.write(number, picks), values, states

    order = tf.TensorArray(tf.int32, size=rounds, element_shape=[at_once, values.shape[0]])
    start = (0, order, values, [term.start(steps) for term in terms])
    _, order, *_ = tf.while_loop(lambda number, *_: number < rounds, several, start)
    return tf.transpose(tf.reshape(order.stack(), [steps, batch])[:k])
