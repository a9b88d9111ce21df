"""Experts between tasks, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tfrec_fusion.layers.experts import PLE, CrossStitch, MMoE, for_all

INPUTS = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
TASKS = ["click", "like"]


def made(layer):
    layer(INPUTS)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape, scale=0.5) for weight in layer.get_weights()])
    return layer


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def run(experts, x):
    """The output of each expert, one plain perceptron at a time."""
    outputs = []
    for expert in range(experts.count):
        hidden = x
        for kernel, bias in zip(experts.kernels, experts.biases, strict=True):
            hidden = np.tanh(hidden @ kernel.numpy()[expert] + bias.numpy()[expert])
        outputs.append(hidden)
    return outputs


def mix(gate, experts, x):
    weights = softmax(x @ gate.get_weights()[0])
    return sum(weights[:, [place]] * expert for place, expert in enumerate(experts))


@pytest.mark.parametrize(
    ("layer", "kwargs"),
    [
        (MMoE, {"num_experts": 3, "units": [6, 5], "dropout": 0.1}),
        (PLE, {"num_task_experts": 2, "num_shared_experts": 1, "num_levels": 2, "units": [5]}),
        (PLE, {"num_levels": 1, "units": [6, 5]}),
        (CrossStitch, {"units": [6, 5], "dropout": 0.1}),
    ],
)
def test_check_layer(layer, kwargs):
    # tanh, since a ReLU can be dead for all of four examples.
    kwargs = {"tasks": TASKS, "activation": "tanh", **kwargs}
    check_layer(layer, kwargs, INPUTS, {task: (4, 5) for task in TASKS})


def test_cross_stitches_mix_the_tasks_layers():
    layer = made(CrossStitch(TASKS, units=[6, 5], activation="tanh"))
    hidden = [INPUTS, INPUTS]
    for kernel, bias, stitch in zip(layer.kernels, layer.biases, layer.stitches, strict=True):
        own = [np.tanh(hidden[task] @ kernel.numpy()[task] + bias.numpy()[task]) for task in range(2)]
        alpha = stitch.numpy()
        hidden = [alpha[task, 0] * own[0] + alpha[task, 1] * own[1] for task in range(2)]
    outputs = layer(INPUTS)
    for task, expected in zip(TASKS, hidden, strict=True):
        np.testing.assert_allclose(outputs[task], expected, rtol=1e-4, atol=1e-5)


def test_cross_stitches_start_from_a_tasks_own_layer():
    layer = CrossStitch([*TASKS, "buy"], units=[4])
    layer(INPUTS)
    np.testing.assert_allclose(layer.stitches[0].numpy(), 0.85 * np.eye(3) + 0.05, atol=1e-6)


@pytest.mark.parametrize(
    "layer", [MMoE(TASKS, units=[5]), PLE(TASKS, units=[5]), CrossStitch(TASKS, units=[5])]
)
def test_leading_dimensions(layer):
    outputs = layer(INPUTS.reshape(2, 2, 7))
    for task in TASKS:
        np.testing.assert_allclose(tf.reshape(outputs[task], [4, 5]), layer(INPUTS)[task], atol=1e-6)


def test_mmoe_equals_numpy():
    layer = made(MMoE(TASKS, num_experts=3, units=[6, 5], activation="tanh"))
    experts = run(layer.experts, INPUTS)
    for task, output in layer(INPUTS).items():
        np.testing.assert_allclose(output, mix(layer.gates[task], experts, INPUTS), rtol=1e-4, atol=1e-5)


def test_ple_equals_numpy():
    layer = made(
        PLE(TASKS, num_task_experts=2, num_shared_experts=1, num_levels=2, units=[5], activation="tanh")
    )
    own = {task: run(layer.experts[f"{task}_0"], INPUTS) for task in TASKS}
    shared = run(layer.shared_experts[0], INPUTS)
    states = {task: mix(layer.gates[f"{task}_0"], own[task] + shared, INPUTS) for task in TASKS}
    shared_state = mix(layer.shared_gates[0], own["click"] + own["like"] + shared, INPUTS)
    for task, output in layer(INPUTS).items():
        experts = run(layer.experts[f"{task}_1"], states[task]) + run(layer.shared_experts[1], shared_state)
        np.testing.assert_allclose(
            output, mix(layer.gates[f"{task}_1"], experts, states[task]), rtol=1e-4, atol=1e-5
        )


def test_a_tasks_own_experts_learn_from_it_alone():
    layer = made(PLE(TASKS, num_levels=1, units=[5]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(INPUTS)["click"])
    mine, others, shared = tape.gradient(
        loss,
        [
            layer.experts["click_0"].kernels[0],
            layer.experts["like_0"].kernels[0],
            layer.shared_experts[0].kernels[0],
        ],
    )
    assert others is None
    assert np.any(mine != 0)
    assert np.any(shared != 0)


def test_experts_start_apart():
    layer = MMoE(TASKS, num_experts=2)
    layer(INPUTS)
    assert not np.allclose(layer.experts.kernels[0][0], layer.experts.kernels[0][1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMoE([]), "`tasks` must be distinct names"),
        (lambda: MMoE(["a", "a"]), r"Received: \['a', 'a'\]"),
        (lambda: MMoE(TASKS, num_experts=0), "`num_experts` must be at least 1"),
        (lambda: MMoE(TASKS, units=[]), "`units` must be widths"),
        (lambda: MMoE(TASKS, dropout=1.0), r"`dropout` must be in \[0, 1\)"),
        (lambda: PLE(TASKS, num_levels=0), "`num_levels` must be at least 1. Received: num_levels=0"),
        (lambda: MMoE(TASKS)(tf.ones([3])), r"needs floats \[\.\.\., input\]"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
@pytest.mark.parametrize("size", [6, 7, 16])
def test_every_expert_gets_the_whole_batch_in_any_precision(dtype, size):
    rng = np.random.default_rng(2)
    inputs = tf.cast(rng.normal(size=(2, 8, size)), dtype)
    kernel = tf.cast(rng.normal(size=(3, size, 5)), dtype)
    exact = np.einsum("...i,eij->...ej", inputs.numpy().astype(float), kernel.numpy().astype(float))
    np.testing.assert_allclose(for_all(inputs, kernel).numpy().astype(float), exact, atol=0.1)
