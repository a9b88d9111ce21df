"""GradNorm, PCGrad and ESMM's loss against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfrec_fusion import tasks

FLOATS = st.floats(-8, 8, width=32)


def projected(gradients, order):
    """Algorithm 1 of Yu et al., 2020."""
    results = []
    for task, gradient in enumerate(gradients.astype(np.float64)):
        for other in order[task]:
            dot = gradient @ gradients[other]
            if other != task and dot < 0:
                gradient = gradient - dot / (gradients[other] @ gradients[other]) * gradients[other]
        results.append(gradient)
    return np.stack(results)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_lose_what_goes_against_others(seed):
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(3, 5)).astype(np.float32)
    order = np.stack([rng.permutation(3) for _ in range(3)]).astype(np.int32)
    found = tasks.without_conflicts(tf.constant(gradients), tf.constant(order))
    np.testing.assert_allclose(found, projected(gradients, order), rtol=1e-4, atol=1e-5)


def test_two_gradients_by_hand():
    # (1, 0) and (-1, 1): each loses its projection onto the other.
    found = tasks.without_conflicts(tf.constant([[1.0, 0.0], [-1.0, 1.0]]), tf.constant([[0, 1], [1, 0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]], atol=1e-6)


def test_gradients_in_accord_stay():
    gradients = tf.constant([[1.0, 2.0], [3.0, 0.5], [0.0, 0.0]])
    order = tf.constant([[0, 1, 2]] * 3)
    np.testing.assert_array_equal(tasks.without_conflicts(gradients, order), gradients)


def test_gradnorm_by_hand():
    layer = tasks.GradNorm(["a", "b"], alpha=1.0, rate=0.1)
    start = {"a": tf.constant(2.0), "b": tf.constant(4.0)}
    assert float(layer(start)) == pytest.approx(6.0)
    layer.learn(start, tf.constant([1.0, 1.0]))  # equal rates and norms: nothing to do
    np.testing.assert_allclose(layer.current, [1.0, 1.0])
    # a has halved its loss and b has not: r = (2/3, 4/3), targets equal r as G is 1; a is above, b below.
    layer.learn({"a": tf.constant(1.0), "b": tf.constant(4.0)}, tf.constant([1.0, 1.0]))
    up, down = np.exp(0.1), np.exp(-0.1)
    np.testing.assert_allclose(layer.current, 2 * np.array([down, up]) / (up + down), rtol=1e-5)


def test_gradnorm_makes_norms_equal():
    layer = tasks.GradNorm(["a", "b", "c"], alpha=0.0)
    values, norms = {name: tf.constant(1.0) for name in "abc"}, np.array([1.0, 5.0, 0.2], np.float32)
    layer(values)
    step = tf.function(layer.learn)
    for _ in range(300):
        step(values, tf.constant(norms))
    weighed = layer.current.numpy() * norms
    assert weighed.max() / weighed.min() < 1.2
    assert layer.current.numpy().sum() == pytest.approx(3.0, rel=1e-4)


def test_gradnorm_waits_for_a_task_without_labels():
    layer = tasks.GradNorm(["a", "b"])
    layer({"a": tf.constant(1.0), "b": tf.constant(0.0)})
    layer.learn({"a": tf.constant(1.0), "b": tf.constant(0.0)}, tf.constant([1.0, 0.0]))
    assert np.isfinite(layer.current.numpy()).all()
    assert np.isnan(layer.first.numpy()).tolist() == [False, True]


def test_gradnorm_starts_from_weights_and_refuses_what_cannot_be():
    layer = tasks.GradNorm(["a", "b"], {"a": 3.0, "b": 1.0})
    layer.build(None)
    np.testing.assert_allclose(layer.current, [1.5, 0.5])
    assert tasks.GradNorm.from_config(layer.get_config()).get_config() == layer.get_config()
    with pytest.raises(ValueError, match=r"above 0 for each of the tasks \['a', 'b'\]. Received: {'a': 1.0}"):
        tasks.GradNorm(["a", "b"], {"a": 1.0})
    with pytest.raises(ValueError, match="Received: alpha=-1, rate=0.1"):
        tasks.GradNorm(["a"], alpha=-1, rate=0.1)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, 6, elements=FLOATS), arrays(np.float32, 6, elements=FLOATS))
def test_the_product_of_two_probabilities_has_its_cross_entropy(click, bought):
    both = 1 / (1 + np.exp(-click.astype(np.float64))) / (1 + np.exp(-bought.astype(np.float64)))
    labels = np.array([0, 1, 0, 1, 0, 1], np.float32)
    expected = -labels * np.log(both) - (1 - labels) * np.log1p(-both)
    found = tasks.conversion_cross_entropy(*map(tf.constant, (labels, click, bought)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_far_out_it_stays_finite():
    ends = tf.constant([-60.0, 60.0, 60.0, -60.0])
    found = tasks.conversion_cross_entropy(tf.constant([0.0, 0.0, 1.0, 1.0]), ends, ends[::-1])
    assert np.isfinite(found.numpy()).all()


def test_conversions_count_where_they_can_be_known():
    nan = float("nan")
    task = tasks.Conversion("buy")
    clicks, labels = tf.constant([1.0, 1.0, 0.0, 0.0, 1.0]), tf.constant([1.0, 0.0, nan, 1.0, nan])
    logits = tf.constant([2.0, -1.0, 0.3, 5.0, 7.0])
    loss = task(clicks, labels, tf.zeros(5), logits)
    # Not clicked: no conversion, whatever is said. Clicked and unknown: nothing.
    per_example = tasks.conversion_cross_entropy(tf.constant([1.0, 0, 0, 0, 0]), tf.zeros(5), logits).numpy()
    assert float(loss) == pytest.approx(per_example[:4].sum() / 5, rel=1e-5)
    assert float(task.metric.result()) == pytest.approx(1.0, abs=1e-3)  # of the two that were clicked
    assert tasks.Conversion.from_config(task.get_config()).get_config() == task.get_config()
    np.testing.assert_allclose(task.activate(tf.constant([0.0])), [0.5])
