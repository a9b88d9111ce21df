"""`fit` under `tf.distribute`, on virtual CPU devices: as with one replica."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Says what a run trained on and what came of it. Nothing is drawn that replicas would draw each for itself.
SCRIPT = """
import dataclasses, json, sys
import tfrec_fusion
import numpy as np
import tensorflow as tf

name, devices, chosen, changes = sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
from tests.models.planted_models import RANKING, RETRIEVAL, batches, ranking, two_tower
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.training import fit, precision, strategy

data = planted(num_users=40, circles=3)
found = {}
kinds = {
    "catalogue": (two_tower, RETRIEVAL),
    "in batch": (two_tower, dataclasses.replace(RETRIEVAL, negatives=0, all_positions=False)),
    "ranking": (ranking, RANKING),
}
training = TrainingConfig(epochs=1, batch_size=32, learning_rate=1e-2, strategy=name, **changes)
distribution = strategy(training)
for kind in chosen:
    make, config = kinds[kind]
    tower = dataclasses.replace(config.tower, history_encoder="mean", dropout=0.0, id_dropout=0.0)
    with distribution.scope(), precision(training):
        model = make(data, dataclasses.replace(config, training=training, tower=tower))
    train = batches(data.train, 32)
    history = fit(model, train, train.take(2), training, progress=False, steps=8)
    found[kind] = {
        "replicas": distribution.num_replicas_in_sync,
        "loss": history.history["loss"],
        "val_loss": history.history["val_loss"],
        "weights": [float(np.abs(weight.numpy()).sum()) for weight in model.trainable_weights],
    }
print(json.dumps(found))
"""


KINDS = ("catalogue", "in batch", "ranking")


def start(name, devices=1, kinds=KINDS, environment=None, **changes):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name, str(devices), json.dumps(kinds), json.dumps(changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def result(process):
    try:
        stdout, stderr = process.communicate(timeout=850)
    finally:
        process.kill()
    assert process.returncode == 0, stderr[-3000:]
    return json.loads(stdout.splitlines()[-1])


def assert_same(found, expected, replicas, kinds=KINDS, rtol=2e-3):
    assert set(found) == set(kinds)
    for kind in kinds:
        assert found[kind]["replicas"] == replicas
        for name in ("loss", "val_loss", "weights"):
            np.testing.assert_allclose(
                found[kind][name], expected[kind][name], rtol=rtol, err_msg=f"{kind} {name}"
            )


@pytest.fixture(scope="module")
def alone():
    return result(start("none"))


@pytest.mark.slow
def test_two_replicas_train_as_one(alone):
    # In-batch negatives are those of both replicas, so losses and weights are the single replica's.
    assert_same(result(start("mirrored", 2)), alone, 2)


@pytest.mark.slow
def test_two_replicas_train_as_one_in_micro_batches(alone):
    kinds = ["in batch"]
    assert_same(result(start("mirrored", 2, kinds, micro_batch=5)), alone, 2, kinds)
