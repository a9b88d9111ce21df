"""Experts shared between tasks: one input, one vector per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.input_checks import check_floats
from tfrec_fusion.naming import identifier


class _Experts(tf_keras.layers.Layer):
    """Several equal multi-layer perceptrons side by side: `[..., input]` to `[..., experts, units[-1]]`."""

    def __init__(
        self, count: int, units: Sequence[int], activation: str, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.count = count
        self.units = units
        self.activation = tf_keras.activations.get(activation)
        self.dropout = repeatable.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        width = int(input_shape[-1])
        self.kernels, self.biases = [], []
        for position, units in enumerate(self.units):
            kernel = self.add_weight(
                name=f"kernel_{position}", shape=[self.count, width, units], initializer=glorot_per_expert
            )
            bias = self.add_weight(name=f"bias_{position}", shape=[self.count, units], initializer="zeros")
            self.kernels.append(kernel)
            self.biases.append(bias)
            width = units
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        hidden = inputs
        for position, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            hidden = tf.einsum("...ei,eij->...ej", hidden, kernel) if position else for_all(hidden, kernel)
            hidden = self.dropout(self.activation(hidden + bias), training=training)
        return hidden


class _TaskExperts(tf_keras.layers.Layer):
    """What MMoE and PLE share: names of tasks, shape of an expert, gates."""

    def __init__(
        self, tasks: Sequence[str], units: Sequence[int], activation: str, dropout: float, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"`tasks` must be distinct names, at least one. Received: {list(tasks)}.")
        if not units or min(units) < 1:
            raise ValueError(
                f"`units` must be widths of at least 1, at least one of them. Received: {list(units)}."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")
        self.tasks = list(tasks)
        self.units = list(units)
        self.activation = activation
        self.dropout = dropout

    def _experts(self, name: str, count: int, width: int) -> _Experts:
        experts = _Experts(
            count, list(self.units), self.activation, self.dropout, name=name, dtype=self.dtype_policy
        )
        experts.build(tf.TensorShape([None, width]))
        return experts

    def _gate(self, name: str, count: int, width: int) -> tf_keras.layers.Dense:
        gate = tf_keras.layers.Dense(
            count, activation="softmax", use_bias=False, name=name, dtype=self.dtype_policy
        )
        gate.build([None, width])
        return gate

    def compute_output_shape(self, input_shape: tf.TensorShape) -> dict[str, tf.TensorShape]:
        output = tf.TensorShape(input_shape)[:-1].concatenate([self.units[-1]])
        return {task: output for task in self.tasks}

    def get_config(self) -> dict[str, Any]:
        config = {"tasks": list(self.tasks), "units": list(self.units)}
        return {**super().get_config(), **config, "activation": self.activation, "dropout": self.dropout}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MMoE(_TaskExperts):
    """Multi-gate mixture of experts: all tasks share the experts, each task mixes them with a gate of its
    own.

    `y_k = Σ_i g_k(x)_i f_i(x)` with `g_k(x) = softmax(W_k x)`.

    Args:
        tasks: names of the tasks.
        num_experts: how many experts there are.
        units: widths of the layers of an expert.
        activation: of every layer of an expert, name of a Keras activation.
        dropout: after every layer of an expert, in [0, 1).

    Reference: Ma et al., 2018, https://doi.org/10.1145/3219819.3220007
    """

    def __init__(
        self,
        tasks: Sequence[str],
        num_experts: int = 4,
        units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tasks, units, activation, dropout, **kwargs)
        if num_experts < 1:
            raise ValueError(f"`num_experts` must be at least 1. Received: num_experts={num_experts}.")
        self.num_experts = num_experts

    def build(self, input_shape: tf.TensorShape) -> None:
        width = _width(self, input_shape)
        self.experts = self._experts("experts", self.num_experts, width)
        self.gates = {
            task: self._gate(f"gate_{identifier(task)}", self.num_experts, width) for task in self.tasks
        }
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Maps floats `[..., input]` to `[..., units[-1]]` per task."""
        check_floats(type(self).__name__, inputs.dtype, "Embed ids first, or cast numbers.")
        experts = self.experts(inputs, training=training)
        return {task: _mix(self.gates[task](inputs), experts) for task in self.tasks}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_experts": self.num_experts}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class PLE(_TaskExperts):
    """Progressive layered extraction: shared experts, and experts of each task's own, level upon level.

    At each level a task's gate mixes its own experts with the shared ones, and, before the last level, the
    shared gate mixes all experts; what the gates give is the next level's input, and gates look at the input
    of their level. Experts of another task never feed a task directly, which is what keeps tasks that
    disagree apart. With one level this is customised gate control.

    Args:
        tasks: names of the tasks.
        num_task_experts: experts of each task, at each level.
        num_shared_experts: shared experts at each level.
        num_levels: how many levels are stacked.
        units: widths of the layers of an expert.
        activation: of every layer of an expert, name of a Keras activation.
        dropout: after every layer of an expert, in [0, 1).

    Reference: Tang et al., 2020, https://doi.org/10.1145/3383313.3412236
    """

    def __init__(
        self,
        tasks: Sequence[str],
        num_task_experts: int = 2,
        num_shared_experts: int = 2,
        num_levels: int = 2,
        units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tasks, units, activation, dropout, **kwargs)
        for name, value in (
            ("num_task_experts", num_task_experts),
            ("num_shared_experts", num_shared_experts),
            ("num_levels", num_levels),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
        self.num_task_experts = num_task_experts
        self.num_shared_experts = num_shared_experts
        self.num_levels = num_levels

    def build(self, input_shape: tf.TensorShape) -> None:
        width = _width(self, input_shape)
        # Flat dictionaries: Keras' file format finds no weights in containers inside containers.
        self.experts, self.gates = {}, {}
        self.shared_experts, self.shared_gates = [], []
        own, shared = self.num_task_experts, self.num_shared_experts
        for level in range(self.num_levels):
            for task in self.tasks:
                self.experts[f"{task}_{level}"] = self._experts(
                    f"experts_{identifier(task)}_{level}", own, width
                )
                self.gates[f"{task}_{level}"] = self._gate(
                    f"gate_{identifier(task)}_{level}", own + shared, width
                )
            self.shared_experts.append(self._experts(f"shared_experts_{level}", shared, width))
            if level < self.num_levels - 1:
                count = own * len(self.tasks) + shared
                self.shared_gates.append(self._gate(f"shared_gate_{level}", count, width))
            width = self.units[-1]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Maps floats `[..., input]` to `[..., units[-1]]` per task."""
        check_floats(type(self).__name__, inputs.dtype, "Embed ids first, or cast numbers.")
        states, shared_state = {task: inputs for task in self.tasks}, inputs
        for level in range(self.num_levels):
            shared = self.shared_experts[level](shared_state, training=training)
            own, gates = {}, {}
            for task in self.tasks:
                own[task] = self.experts[f"{task}_{level}"](states[task], training=training)
                gates[task] = self.gates[f"{task}_{level}"](states[task])
            if level < self.num_levels - 1:
                everyone = tf.concat([*own.values(), shared], axis=-2)
                shared_state = _mix(self.shared_gates[level](shared_state), everyone)
            states = {task: _mix(gates[task], tf.concat([own[task], shared], axis=-2)) for task in self.tasks}
        return states

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_task_experts": self.num_task_experts,
            "num_shared_experts": self.num_shared_experts,
            "num_levels": self.num_levels,
        }
        return {**super().get_config(), **config}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class CrossStitch(_TaskExperts):
    """A perceptron of each task's own, whose layers are mixed with the other tasks' after every layer.

    `x̃_k = Σ_j α_kj x_j`, with one learned number `α_kj` for each two tasks at each layer. They start at 0.9
    for a task's own layer and share 0.1 among the others.

    Args:
        tasks: names of the tasks.
        units: widths of the layers of each perceptron.
        activation: of every layer, name of a Keras activation.
        dropout: after every layer, in [0, 1).

    Reference: Misra et al., 2016, https://arxiv.org/abs/1604.03539
    """

    def __init__(
        self,
        tasks: Sequence[str],
        units: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(tasks, units, activation, dropout, **kwargs)

    def build(self, input_shape: tf.TensorShape) -> None:
        width, count = _width(self, input_shape), len(self.tasks)
        self.function = tf_keras.activations.get(self.activation)
        self.drop = repeatable.Dropout(self.dropout, dtype=self.dtype_policy)
        own = 0.9 if count > 1 else 1.0
        start = np.full([count, count], (1.0 - own) / max(1, count - 1), np.float32)
        np.fill_diagonal(start, own)
        self.kernels, self.biases, self.stitches = [], [], []
        for level, units in enumerate(self.units):
            kernel = self.add_weight(
                name=f"kernel_{level}", shape=[count, width, units], initializer=glorot_per_expert
            )
            bias = self.add_weight(name=f"bias_{level}", shape=[count, units], initializer="zeros")
            stitch = self.add_weight(
                name=f"stitch_{level}",
                shape=[count, count],
                initializer=tf_keras.initializers.Constant(start),
            )
            self.kernels.append(kernel)
            self.biases.append(bias)
            self.stitches.append(stitch)
            width = units
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Maps floats `[..., input]` to `[..., units[-1]]` per task."""
        check_floats(type(self).__name__, inputs.dtype, "Embed ids first, or cast numbers.")
        hidden = inputs
        levels = zip(self.kernels, self.biases, self.stitches, strict=True)
        for level, (kernel, bias, stitch) in enumerate(levels):
            own = tf.einsum("...ti,tij->...tj", hidden, kernel) if level else for_all(hidden, kernel)
            own = self.drop(self.function(own + bias), training=training)
            hidden = tf.einsum("kt,...tj->...kj", stitch, own)
        return dict(zip(self.tasks, tf.unstack(hidden, axis=-2), strict=True))


def _width(layer: tf_keras.layers.Layer, input_shape: Any) -> int:
    shape = tf.TensorShape(input_shape)
    if shape.rank is None or shape.rank < 2 or shape[-1] is None:
        raise ValueError(
            f"{type(layer).__name__} needs floats [..., input], input fixed. Received the shape {shape}."
        )
    return int(shape[-1])


def _mix(gate: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
    return tf.einsum("...e,...ej->...j", gate, experts)


def for_all(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The same input to every expert: `[..., input]` and `[experts, input, units]` to
    `[..., experts, units]`.

    Not `tf.einsum("...i,eij->...ej")`: its broadcast matrix product is wrong from the second row on in
    float16 and bfloat16 on CPUs with AVX512-FP16 or AMX (TensorFlow 2.21 with oneDNN).
    """
    return tf.tensordot(inputs, kernel, [[-1], [1]])


def glorot_per_expert(shape: tf.TensorShape, dtype: tf.DType) -> tf.Tensor:
    """One Glorot matrix an expert; drawn at once, the three-dimensional array would be scaled too small."""
    # An initializer called twice gives the same values twice, so each expert gets its own.
    return tf.stack([tf_keras.initializers.GlorotUniform()(shape[1:], dtype) for _ in range(shape[0])])
