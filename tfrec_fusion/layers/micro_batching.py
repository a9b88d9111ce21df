"""Rows of a batch in parts, with the memory of one part and the gradients of the whole batch.

Deep layers keep what they computed for the backward pass, for every row of a batch. `in_parts` keeps nothing:
the backward pass takes the parts one after the other, computes each again and adds up the gradients. That
costs one more forward pass. Since a loss of all rows may be computed of what comes out, in-batch negatives
are those of the whole batch, which adding up gradients over several batches would not give.

Reference: Gao et al., 2021 (GradCache), https://arxiv.org/abs/2101.06983; Chen et al., 2016,
https://arxiv.org/abs/1604.06174
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfrec_fusion.layers.stateless_random import repeatable

Nest = Any
Gradient = Any
"""A tensor, or `tf.IndexedSlices`."""
State = Any
"""Tensors and arrays of tensors that a loop carries on."""


def in_parts(function: Callable[[Nest, Nest], tf.Tensor], rows: Nest, shared: Nest, size: int) -> tf.Tensor:
    """`function(rows, shared)` of a few rows at a time.

    Everything that gradients flow into must be an argument or a variable; what else `function` refers to
    counts as constant. Dropout in it must be `repeatable`.

    Args:
        function: takes some of the rows, and `shared`; returns float `[any, ...]`.
        rows: tensors `[n, ...]` in any structure.
        shared: tensors that every part gets whole.
        size: rows in a part, at least 1.

    Returns:
        What `function` returned for each part, one after the other.

    Raises:
        ValueError: if `size` is less than 1.
    """
    if size < 1:
        raise ValueError(
            f"`size` must be at least 1. Received: size={size}. Give None upstream for whole batches."
        )
    flat, num_rows = [*tf.nest.flatten(rows), *tf.nest.flatten(shared)], len(tf.nest.flatten(rows))

    @tf.custom_gradient
    def run(*flat: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        parts = _Parts(function, (rows, shared), flat, num_rows, size)
        output, ends = parts.forward()

        def gradient(upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            return parts.backward(upstream, ends, list(variables))

        return output, gradient

    return run(*flat)


class _Parts:
    """The parts of one call, for both passes."""

    def __init__(
        self, function: Callable, structure: Nest, flat: Sequence[tf.Tensor], num_rows: int, size: int
    ) -> None:
        self.function, self.structure, self.flat = function, structure, flat
        self.num_rows, self.size = num_rows, size
        total = tf.shape(flat[0])[0]
        self.count = tf.maximum((total + size - 1) // size, 1)
        self.seed = tf.random.uniform([2], 0, 2**30, tf.int32)

    def forward(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The output, and int32 `[parts + 1]`, where in it the parts begin and the last one ends."""
        first = self._compute(0, self._part(0))
        outputs = _array(first, self.count)
        sizes = tf.TensorArray(tf.int32, self.count, element_shape=[])

        def step(number: tf.Tensor, outputs: tf.TensorArray, sizes: tf.TensorArray) -> tuple:
            output = self._compute(number, self._part(number))
            return number + 1, outputs.write(number, output), sizes.write(number, tf.shape(output)[0])

        start = [1, outputs.write(0, first), sizes.write(0, tf.shape(first)[0])]
        _, outputs, sizes = self._loop(step, start)
        return outputs.concat(), tf.concat([[0], tf.cumsum(sizes.stack())], 0)

    def backward(self, upstream: tf.Tensor, ends: tf.Tensor, variables: list[tf.Variable]) -> Any:
        """Gradients of all inputs and of the variables."""

        def gradients(number: int | tf.Tensor) -> list[Gradient]:
            part = self._part(number)
            # Nothing may be computed again before its gradient has come.
            part = [_after(values, upstream) for values in part]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([values for values in part if values.dtype.is_floating])
                tape.watch(variables)
                output = self._compute(number, part)
            own = upstream[ends[number] : ends[number + 1]]
            return tape.gradient(output, [*part, *variables], output_gradients=own)

        first = gradients(0)
        used = [position for position, value in enumerate(first) if value is not None]
        kept = {position: _Sum.of(first[position], position < self.num_rows, self.count) for position in used}

        def step(number: tf.Tensor, states: list[State]) -> tuple:
            values = gradients(number)
            return number + 1, [
                kept[position].add(state, number, values[position])
                for position, state in zip(used, states, strict=True)
            ]

        states = [kept[position].add(kept[position].start, 0, first[position]) for position in used]
        _, states = self._loop(step, [1, states])
        results = [None] * len(first)
        for position, state in zip(used, states, strict=True):
            results[position] = kept[position].result(state, first[position])
        inputs, of_variables = results[: len(self.flat)], results[len(self.flat) :]
        return (inputs, of_variables) if variables else inputs

    def _loop(self, step: Callable, start: list[Any]) -> Any:
        start[0] = tf.constant(start[0])
        return tf.while_loop(lambda number, *_: number < self.count, step, start, parallel_iterations=1)

    def _part(self, number: int | tf.Tensor) -> list[tf.Tensor]:
        begin = number * self.size
        rows = [values[begin : begin + self.size] for values in self.flat[: self.num_rows]]
        return [*rows, *self.flat[self.num_rows :]]

    def _compute(self, number: int | tf.Tensor, part: list[tf.Tensor]) -> tf.Tensor:
        rows, shared = tf.nest.pack_sequence_as(self.structure, part)
        with repeatable(self.seed + tf.stack([number, 0])):
            return self.function(rows, shared)


class _Sum:
    """How one gradient is gathered over the parts: rows end to end, slices end to end, everything else added
    up."""

    def __init__(self, kind: str, start: State) -> None:
        self.kind, self.start = kind, start

    @classmethod
    def of(cls, value: Gradient, per_row: bool, count: tf.Tensor) -> _Sum:
        if per_row:
            return cls("rows", _array(tf.convert_to_tensor(value), count))
        if isinstance(value, tf.IndexedSlices):
            return cls("slices", (_array(value.values, count), _array(value.indices, count)))
        return cls("sum", tf.zeros_like(value))

    def add(self, state: State, number: int | tf.Tensor, value: Gradient) -> State:
        if self.kind == "rows":
            return state.write(number, tf.convert_to_tensor(value))
        if self.kind == "slices":
            return state[0].write(number, value.values), state[1].write(number, value.indices)
        return state + value

    def result(self, state: State, like: Gradient) -> Gradient:
        if self.kind == "rows":
            return state.concat()
        if self.kind == "slices":
            return tf.IndexedSlices(state[0].concat(), state[1].concat(), like.dense_shape)
        return state


def _array(like: tf.Tensor, size: tf.Tensor) -> tf.TensorArray:
    shape = tf.TensorShape([None]).concatenate(like.shape[1:])
    return tf.TensorArray(like.dtype, size, infer_shape=False, element_shape=shape)


def _after(values: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([other]):
        return tf.identity(values)
