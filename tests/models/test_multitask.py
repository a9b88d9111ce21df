"""Retrieval and rankings in one model solve both planted problems."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, batches, hit_rates, tensors, two_tower
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.layers.experts import PLE, MMoE
from tfrec_fusion.models.multitask import Multitask
from tfrec_fusion.training.fitting import fit

DATA = planted(num_users=120, circles=4)
LABELS = {"rating": "rating", "click": "binary"}
LAST = dataclasses.replace(RETRIEVAL, all_positions=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MMoE, PLE])
def test_multitask_solves_retrieval_and_ratings(kind):
    model = Multitask(two_tower(DATA, LAST, user_id=True, history_encoder="mean"), kind(list(LABELS)), LABELS)
    config = dataclasses.replace(RETRIEVAL.training, epochs=25)
    fit(model, batches(DATA.train, 64), None, config, progress=False)
    assert hit_rates(model.two_tower, DATA.test, 3).mean() > 0.9
    outputs = model(tensors(DATA.test))
    assert np.sqrt(np.mean((outputs["rating"] - DATA.test["rating"]) ** 2)) < 0.8
    assert ((outputs["click"].numpy() > 0.5) == (DATA.test["click"] > 0)).mean() > 0.95


def test_the_loss_is_the_weighted_sum_of_its_parts():
    weights = {"retrieval": 0.5, "rating": 2.0, "click": 3.0}
    model = Multitask(two_tower(DATA, LAST, dropout=0.0), MMoE(list(LABELS)), LABELS, weights)
    batch = tensors({name: column[:9] for name, column in DATA.train.items()})
    outputs = model(batch)
    rating = np.mean((outputs["rating"] - batch["rating"]) ** 2)
    click = np.where(batch["click"] > 0, outputs["click"], 1 - outputs["click"])
    expected = 0.5 * model.two_tower.compute_loss(batch) + 2 * rating - 3 * np.mean(np.log(click))
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-4)
    assert set(model.weighting.weights_by_task) == {"retrieval", "rating", "click"}


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="`all_positions` off"):
        Multitask(two_tower(DATA), MMoE(list(LABELS)), LABELS)
    with pytest.raises(ValueError, match="tasks must be the labels"):
        Multitask(two_tower(DATA, LAST), MMoE(["stars"]), LABELS)


def test_outputs_have_the_labels_names():
    model = Multitask(two_tower(DATA, LAST), PLE(list(LABELS)), LABELS)
    outputs = model(tensors({name: column[:4] for name, column in DATA.test.items()}))
    assert {name: (value.shape, value.dtype) for name, value in outputs.items()} == {
        name: ((4,), tf.float32) for name in LABELS
    }
