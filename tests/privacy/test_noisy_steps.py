"""Users' clipped gradients against NumPy, the noise on their sum, and how users are drawn."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.models.planted_models import RANKING, RETRIEVAL, ranking, tensors, two_tower
from tfrec_fusion.config import ConfigError, PrivacyConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.base import Model
from tfrec_fusion.training.privacy.gradients import NoisySteps
from tfrec_fusion.training.privacy.user_batches import ROW_USER, UserBatches

DATA = planted(num_users=12, circles=3)
PRIVACY = PrivacyConfig(noise_multiplier=1.0, rating_range=(1, 5), seed=3)


def private(config):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, privacy=PRIVACY))


class Line(Model):
    """`y = a x + b`, whose gradients NumPy can write down."""

    def __init__(self):
        super().__init__()
        self.slope = self.add_weight("slope", (), initializer="ones")
        self.offset = self.add_weight("offset", (), initializer="zeros")

    def compute_loss(self, inputs, training=False):
        return tf.reduce_mean((self.slope * inputs["x"] + self.offset - inputs["y"]) ** 2)


def rows_of(sizes, rng):
    """A batch of users with so many rows each."""
    user = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    x, y = rng.normal(size=(2, len(user))).astype(np.float32) * 3
    return {"x": x, "y": y, ROW_USER: user}


def line_gradients(batch):
    """float64 `[users, 2]`, of each user's mean loss."""
    x, y, of = (batch[name].astype(np.float64) for name in ("x", "y", ROW_USER))
    error = 2 * (x - y)
    users = [of == user for user in np.unique(of)]
    return np.array([[(error * x)[own].mean(), error[own].mean()] for own in users]).reshape(-1, 2)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), max_size=6), clip=st.floats(0.01, 20), seed=st.integers(0, 2**31 - 1)
)
def test_the_sum_is_that_of_each_users_clipped_gradient(sizes, clip, seed):
    batch, model = rows_of(sizes, np.random.default_rng(seed)), Line()
    steps = NoisySteps(clip, 0.0, expected_users=1)
    found = steps.clipped_sum(model, tensors(batch), model.trainable_variables)
    each = line_gradients(batch)
    lengths = np.linalg.norm(each, axis=1, keepdims=True)
    expected = (each * np.minimum(1, clip / np.maximum(lengths, 1e-30))).sum(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Every user of it could go away, and the sum would change by no more than `clip`.
    for user in range(len(sizes)):
        others = {name: values[batch[ROW_USER] != user] for name, values in batch.items()}
        others[ROW_USER] -= others[ROW_USER] > user
        without = steps.clipped_sum(model, tensors(others), model.trainable_variables)
        assert np.linalg.norm(np.subtract(found, without)) <= clip * (1 + 1e-4) + 1e-5


def test_a_user_whose_gradient_is_not_finite_adds_nothing():
    batch, model = rows_of([2, 2], np.random.default_rng(0)), Line()
    batch["y"][0] = np.inf
    steps = NoisySteps(1.0, 0.0, expected_users=1)
    found = steps.clipped_sum(model, tensors(batch), model.trainable_variables)
    second = {name: values[2:] for name, values in batch.items()} | {ROW_USER: np.zeros(2, np.int32)}
    alone = steps.clipped_sum(model, tensors(second), model.trainable_variables)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, alone, rtol=1e-6)


@pytest.mark.parametrize(("make", "negatives"), [(two_tower, 4096), (two_tower, 4), (ranking, None)])
def test_of_the_models_too_it_is_the_sum_over_users(make, negatives, monkeypatch):
    """Each user's gradient from a tape of its own, over the rows of that user alone, then NumPy."""
    config = private(RANKING if make is ranking else dataclasses.replace(RETRIEVAL, negatives=negatives))
    steady = {"dropout": 0.0, "id_dropout": 0.0, "item_dropout": 0.0}
    model = make(DATA, dataclasses.replace(config, tower=dataclasses.replace(config.tower, **steady)))
    # Negatives that are drawn must be the same both times.
    monkeypatch.setattr(tf.random, "uniform", lambda *_, **__: tf.range(4))
    batch, clip = UserBatches(DATA.train, batch_size=12, user_rows=3, seed=0).draw(), 0.05
    variables = model.trainable_variables
    found = NoisySteps(clip, 0.0, 1).clipped_sum(model, tensors(batch), variables)
    expected = [np.zeros(variable.shape) for variable in variables]
    for user in np.unique(batch[ROW_USER]):
        own = {name: values[batch[ROW_USER] == user] for name, values in batch.items() if name != ROW_USER}
        with tf.GradientTape() as tape:
            loss = model.compute_loss(tensors(own), training=True)
        each = tape.gradient(loss, variables, unconnected_gradients="zero")
        each = [tf.convert_to_tensor(gradient).numpy().astype(np.float64) for gradient in each]
        length = np.sqrt(sum((gradient**2).sum() for gradient in each))
        assert length > clip  # so that it is cut
        expected = [total + part * clip / length for total, part in zip(expected, each, strict=True)]
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-5)


def test_noise_has_the_stated_deviation_and_no_seed_repeats_it():
    zeros = [tf.zeros([400, 100]), tf.zeros([7])]
    steps = NoisySteps(clip=0.5, noise_multiplier=3.0, expected_users=10)
    first, second = (steps.noisy(zeros)[0].numpy().ravel() for _ in range(2))
    assert stats.kstest(first, "norm", (0, 3.0 * 0.5 / 10)).pvalue > 1e-4
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    tf.random.set_seed(1)
    other = NoisySteps(clip=0.5, noise_multiplier=3.0, expected_users=10)
    tf.random.set_seed(1)
    assert not np.array_equal(steps.noisy(zeros)[1], other.noisy(zeros)[1])
    again = [NoisySteps(1.0, 1.0, 1, seed=7).noisy(zeros)[1].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_users_are_drawn_independently_each_as_often():
    rng = np.random.default_rng(0)
    columns = {"user_index": rng.integers(1, 31, 400).astype(np.int32), "row": np.arange(400, dtype=np.int32)}
    users = UserBatches(columns, batch_size=6, user_rows=4, seed=0)
    assert users.num_users == 30 and users.sampling_rate == 0.2 and users.steps == 5
    taken = np.zeros((3000, 31), bool)
    for step in taken:
        batch = users.draw()
        drawn, counts = np.unique(batch["user_index"], return_counts=True)
        step[drawn] = True
        assert counts.max(initial=0) <= 4 and len(np.unique(batch["row"])) == len(batch["row"])
        np.testing.assert_array_equal(columns["user_index"][batch["row"]], batch["user_index"])
        # Each row stands with its user, and users are numbered in order.
        np.testing.assert_array_equal(drawn[batch[ROW_USER]], batch["user_index"])
    share = taken[:, 1:].mean(0)
    assert np.abs(share - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 3000)
    # Independent users: their number in a step is binomial.
    assert taken.sum(1).var() == pytest.approx(30 * 0.2 * 0.8, rel=0.1)


def test_a_step_that_draws_nobody_is_a_step():
    columns = {"user_index": np.ones(3, np.int32), "x": np.ones(3, np.float32), "y": np.ones(3, np.float32)}
    users = UserBatches(columns, 1, 1, seed=0)
    users.sampling_rate = 0.0
    model = Line()
    sums = NoisySteps(1.0, 1.0, 1, seed=1).clipped_sum(
        model, tensors(users.draw()), model.trainable_variables
    )
    assert [float(value) for value in sums] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("columns", "seen"),
    [({"x": np.ones(3)}, "no column of users"), ({"user_index": np.array([0, 1, 1])}, "1 of 3 rows")],
)
def test_rows_of_nobody_are_refused(columns, seen):
    with pytest.raises(ConfigError, match=rf"of which user each row is.*{seen}.*data.interactions.user"):
        UserBatches(columns, 1, 1)
