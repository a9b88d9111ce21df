"""`micro_batch`: a model's loss and gradients stay those of the whole batch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import RANKING, RETRIEVAL, batches, ranking, two_tower
from tfrec_fusion.config import ConfigError, check_training
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.training.fitting import fit, precision

DATA = planted(num_users=40, circles=3)
# Nothing is drawn that the way of computing could change.
STEADY = {"dropout": 0.0, "id_dropout": 0.0}


def loss_and_gradients(make, config, micro_batch):
    training = dataclasses.replace(config.training, micro_batch=micro_batch)
    config = dataclasses.replace(config, tower=dataclasses.replace(config.tower, **STEADY), training=training)
    model = make(DATA, config)
    tf_keras.utils.set_random_seed(3)
    batch = next(iter(batches(DATA.train, 50)))

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, gradients = step()
    names = [variable.name for variable in model.trainable_variables]
    gradients = [
        None if gradient is None else tf.convert_to_tensor(gradient).numpy() for gradient in gradients
    ]
    return float(loss), names, gradients


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (two_tower, RETRIEVAL),
        (two_tower, dataclasses.replace(RETRIEVAL, negatives=0)),
        (two_tower, dataclasses.replace(RETRIEVAL, negatives=5, all_positions=False, text_query_weight=0.1)),
        (ranking, RANKING),
    ],
    ids=["catalogue", "in batch", "newest", "ranking"],
)
def test_loss_and_gradients_are_those_of_the_whole_batch(make, config):
    loss, names, gradients = loss_and_gradients(make, config, None)
    found_loss, _, found = loss_and_gradients(make, config, 7)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    for name, ours, expected in zip(names, found, gradients, strict=True):
        if expected is None:
            assert ours is None, name
            continue
        atol = 1e-4 * np.abs(expected).max() + 1e-7
        np.testing.assert_allclose(ours, expected, atol=atol, err_msg=name)
    assert sum(gradient is not None for gradient in gradients) > 10


def test_adding_up_the_gradients_of_small_batches_would_change_an_in_batch_loss():
    # Why micro-batches are parts of one loss: with their own negatives alone they would be an easier task.
    config = dataclasses.replace(
        RETRIEVAL, negatives=0, logq=False, tower=dataclasses.replace(RETRIEVAL.tower, **STEADY)
    )
    model = two_tower(DATA, config)
    whole = float(model.compute_loss(next(iter(batches(DATA.train, 50))), training=True))
    apart = [float(model.compute_loss(batch, training=True)) for batch in batches(DATA.train, 10).take(5)]
    assert np.mean(apart) < whole - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", [two_tower, ranking])
def test_training_with_dropout_learns_in_every_precision(make, name):
    config = RETRIEVAL if make is two_tower else RANKING
    training = dataclasses.replace(config.training, epochs=6, micro_batch=8, precision=name)
    config = dataclasses.replace(
        config, training=training, tower=dataclasses.replace(config.tower, dropout=0.2)
    )
    with precision(training):
        model = make(DATA, config)
    history = fit(model, batches(DATA.train, 32), None, training, progress=False)
    assert history.history["loss"][-1] < 0.95 * history.history["loss"][0]


@pytest.mark.parametrize("changes", [{"jit_compile": True}, {"strategy": "tpu"}])
def test_what_needs_fixed_shapes_refuses_micro_batches(changes):
    training = dataclasses.replace(RETRIEVAL.training, micro_batch=8, **changes)
    with pytest.raises(ConfigError, match="`training.micro_batch` must be left out with"):
        check_training(training)
    with pytest.raises(
        ConfigError, match="micro_batch` must be at least 1 and at most 10,000,000. Received: 0"
    ):
        check_training(dataclasses.replace(RETRIEVAL.training, micro_batch=0))
