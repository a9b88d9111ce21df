"""`in_parts`: the gradients of the whole batch, with the memory of one part."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import in_parts
from tfrec_fusion.layers import stateless_random as repeatable

RNG = np.random.default_rng(0)
ROWS = {
    "index": tf.constant(RNG.integers(0, 20, 23), tf.int32),
    "weight": tf.constant(RNG.normal(size=23), tf.float32),
}
SHARED = {"matrix": tf.constant(RNG.normal(size=(8, 8)), tf.float32)}


class Net:
    """An embedding and a dense layer, whose outputs of some rows only count."""

    def __init__(self):
        self.embedding = tf_keras.layers.Embedding(20, 8)
        self.dense = tf_keras.layers.Dense(8, activation="tanh")
        self(ROWS, SHARED)
        self.weights = [*self.embedding.trainable_weights, *self.dense.trainable_weights]

    def __call__(self, rows, shared):
        hidden = self.dense(self.embedding(rows["index"]))
        weight = tf.cast(rows["weight"][:, None], hidden.dtype)
        hidden = hidden * weight + tf.matmul(hidden, tf.cast(shared["matrix"], hidden.dtype))
        return tf.cast(tf.boolean_mask(hidden, rows["index"] % 3 > 0), tf.float32)


def step(net, size):
    """In-batch softmax of all that comes out, with its gradients; `size` None takes the batch whole."""
    with tf.GradientTape() as tape:
        tape.watch([ROWS["weight"], SHARED["matrix"]])
        vectors = net(ROWS, SHARED) if size is None else in_parts(net, ROWS, SHARED, size)
        scores = tf.matmul(vectors, vectors, transpose_b=True)
        loss = -tf.reduce_mean(tf.linalg.diag_part(tf.nn.log_softmax(scores)))
    gradients = tape.gradient(loss, [ROWS["weight"], SHARED["matrix"], *net.weights])
    return [loss, *(tf.convert_to_tensor(gradient) for gradient in gradients)]


@pytest.mark.parametrize("size", [1, 4, 23, 50])
@pytest.mark.parametrize("graph", [False, True])
def test_loss_and_gradients_are_those_of_the_whole_batch(size, graph):
    net = Net()
    run = tf.function(lambda: step(net, size), autograph=False) if graph else lambda: step(net, size)
    for found, expected in zip(run(), step(net, None), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(("policy", "rounding"), [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11)])
def test_half_precision_is_as_near_to_full_precision_as_the_whole_batch(policy, rounding):
    """Both round each number to `rounding` of itself, and sum the rows in another order: √23 roundings at
    random."""
    tf_keras.utils.set_random_seed(0)
    exact = Net()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        net = Net()
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    for weight, value in zip(net.weights, exact.weights, strict=True):
        weight.assign(value)
    for found, whole, expected in zip(step(net, 5), step(net, None), step(exact, None), strict=True):
        largest = np.abs(expected).max()
        allowed = np.abs(whole - expected).max() + len(ROWS["index"]) ** 0.5 * rounding * largest
        assert np.abs(found - expected).max() <= allowed < 0.1 * largest


def test_embeddings_keep_slices_as_gradients():
    net = Net()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(in_parts(net, ROWS, SHARED, 5))
    assert isinstance(tape.gradient(loss, net.embedding.embeddings), tf.IndexedSlices)


@pytest.mark.parametrize("graph", [False, True])
def test_what_is_dropped_is_the_same_in_both_passes(graph):
    dropout = repeatable.Dropout(0.5)

    def run():
        values = tf.ones([64, 8])
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = in_parts(lambda rows, _: dropout(rows, training=True), values, (), 5)
        return found, tape.gradient(found, values)

    # One function called twice: under a global seed, two functions would draw alike.
    step = tf.function(run, autograph=False) if graph else run
    outputs = [step() for _ in range(2)]
    for found, gradient in outputs:
        # Of x · mask, with x one, the gradient is the mask; parts must not share it.
        np.testing.assert_array_equal(found, gradient)
        assert 0.3 < np.mean(found.numpy() == 0) < 0.7
        assert (found[:5] != found[5:10]).numpy().any()
    assert (outputs[0][0] != outputs[1][0]).numpy().any()


def test_draws_repeat_inside_and_only_there():
    def draw():
        return np.concatenate(
            [repeatable.uniform([4]), repeatable.normal([4]), repeatable.uniform([4], seed=3)]
        )

    with repeatable.repeatable(tf.constant([1, 2])):
        first = draw()
    with repeatable.repeatable(tf.constant([1, 2])):
        np.testing.assert_array_equal(draw(), first)
    with repeatable.repeatable(tf.constant([1, 3])):
        assert (draw() != first).any()
    assert (draw() != draw()).any()
    assert len(np.unique(first)) == len(first)


def test_a_part_must_have_a_row():
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        in_parts(lambda rows, _: rows, tf.ones([3]), (), 0)


# Sixteen dense layers of 256: a row leaves some 40 kB behind for the backward pass, a batch of 8,192 rows 340
# MB.
MEMORY = """
import json, re, sys
import tfrec_fusion
import tensorflow as tf, tf_keras
from tfrec_fusion.layers import in_parts

deep = tf_keras.Sequential([tf_keras.layers.Dense(256, activation="gelu") for _ in range(16)])
deep.build([None, 256])
size = int(sys.argv[1])

@tf.function(autograph=False)
def step(rows):
    with tf.GradientTape() as tape:
        found = in_parts(lambda rows, _: deep(rows), rows, (), size) if size else deep(rows)
        loss = tf.reduce_mean(found ** 2)
    return [loss, *tape.gradient(loss, deep.trainable_weights)]

# Not getrusage's peak, which a process takes over from the one that started it.
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024

step(tf.ones([8, 256]))
before = peak()
step(tf.random.stateless_normal([8192, 256], [1, 2]))
print(json.dumps(peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc"
)
def test_peak_memory_is_that_of_a_part():
    peaks = {}
    for size in (0, 256):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(size)], capture_output=True, text=True, timeout=120, check=True
        )
        peaks[size] = json.loads(done.stdout.splitlines()[-1])
    assert peaks[0] > 200  # megabytes
    assert peaks[256] < peaks[0] / 4, peaks
