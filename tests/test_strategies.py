"""`fit` under `tf.distribute`, on virtual CPU devices and in processes of its own: as with one replica."""

import json
import os
import socket
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

name, devices, changes = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
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
training = TrainingConfig(epochs=2, batch_size=32, learning_rate=1e-2, strategy=name, **changes)
distribution = strategy(training)
for kind, (make, config) in kinds.items():
    tower = dataclasses.replace(config.tower, dropout=0.0, id_dropout=0.0)
    with distribution.scope(), precision(training):
        model = make(data, dataclasses.replace(config, training=training, tower=tower))
    history = fit(model, batches(data.train, 32), batches(data.test, 32), training, progress=False)
    found[kind] = {
        "replicas": distribution.num_replicas_in_sync,
        "loss": history.history["loss"],
        "val_loss": history.history["val_loss"],
        "weights": [float(np.abs(weight.numpy()).sum()) for weight in model.trainable_weights],
    }
print(json.dumps(found))
"""


def start(name, devices=1, environment=None, **changes):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name, str(devices), json.dumps(changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def result(process):
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr[-3000:]
    return json.loads(stdout.splitlines()[-1])


def assert_same(found, expected, replicas, rtol=2e-3):
    assert set(found) == set(expected) == {"catalogue", "in batch", "ranking"}
    for kind in expected:
        assert found[kind]["replicas"] == replicas
        for name in ("loss", "val_loss", "weights"):
            np.testing.assert_allclose(
                found[kind][name], expected[kind][name], rtol=rtol, err_msg=f"{kind} {name}"
            )


@pytest.fixture(scope="module")
def alone():
    return result(start("none"))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"micro_batch": 5}], ids=["whole", "micro-batches"])
def test_two_replicas_train_as_one(alone, changes):
    # In-batch negatives are those of both replicas, so losses and weights are the single replica's.
    assert_same(result(start("mirrored", 2, **changes)), alone, 2)


@pytest.mark.slow
def test_loss_scaling_works_across_replicas():
    found = result(start("mirrored", 2, precision="mixed_float16"))
    for figures in found.values():
        assert figures["loss"][-1] < figures["loss"][0]


@pytest.mark.slow
def test_two_workers_train_as_one(alone):
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    processes = [
        start(
            "multi_worker",
            environment={
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
                )
            },
        )
        for index in range(2)
    ]
    for process in processes:
        assert_same(result(process), alone, 2)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
