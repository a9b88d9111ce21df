"""`fit` under `tf.distribute`, on virtual CPU devices and in processes that are workers: as with one
replica."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.free_addresses import free_addresses
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.training import cluster
from tfrec_fusion.training.fitting import strategy

# Says what a run trained on and what came of it. Nothing is drawn that replicas would draw each for itself.
SCRIPT = """
import dataclasses, hashlib, json, sys
import tfrec_fusion
import numpy as np
import tensorflow as tf

name, devices, chosen, changes = sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
from tests.models.planted_models import RANKING, RETRIEVAL, batches, ranking, two_tower
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.training.fitting import fit, precision, strategy

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
        "digest": hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest(),
    }
print(json.dumps(found))
"""


KINDS = ("catalogue", "in batch", "ranking")
CLUSTER = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}


def start(script, *arguments, environment=None):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
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


def train(name, devices=1, kinds=KINDS, **changes):
    return result(start(SCRIPT, name, devices, json.dumps(kinds), json.dumps(changes)))


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
    return train("none")


@pytest.mark.slow
def test_two_replicas_train_as_one(alone):
    # In-batch negatives are those of both replicas, so losses and weights are the single replica's.
    assert_same(train("mirrored", 2), alone, 2)


@pytest.mark.slow
def test_two_replicas_train_as_one_in_micro_batches(alone):
    kinds = ["in batch"]
    assert_same(train("mirrored", 2, kinds, micro_batch=5), alone, 2, kinds)


# A run on several workers that is killed at a step, or given folders.
KILLED = """
import json, sys
import tfrec_fusion
import tensorflow as tf

strategy_name, folder, kill_after = sys.argv[1], sys.argv[2], int(sys.argv[3])
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.models.base import Model
from tfrec_fusion.layers.replicas import mean_over_replicas
from tfrec_fusion.training.fitting import fit, strategy

class Line(Model):
    def __init__(self):
        super().__init__()
        self.slope = self.add_weight("slope", (), initializer="zeros")

    def compute_loss(self, inputs, training=False):
        return mean_over_replicas((self.slope * inputs["x"] - inputs["y"]) ** 2)

training = TrainingConfig(epochs=3, learning_rate=1e-2, patience=10, strategy=strategy_name)
with strategy(training).scope():
    model = Line()
from tests.test_training import interrupted, line
train = interrupted(line(), kill_after) if kill_after else line()
seconds = 0 if kill_after else 60
try:
    history = fit(model, train, line(), training, folder, checkpoint_seconds=seconds, progress=False)
except (ValueError, tf.errors.UnknownError) as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"slope": float(model.slope.numpy()), "loss": history.history["val_loss"]}))
"""


def on_workers(script, *arguments):
    """Runs a script in a process for each worker of a cluster on this machine; a list gives each its own
    argument."""
    workers = free_addresses(2)
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        own = [argument[index] if isinstance(argument, list) else argument for argument in arguments]
        processes.append(start(script, *own, environment={"TF_CONFIG": json.dumps(config)}))
    try:
        return [result(process) for process in processes]
    finally:
        for process in processes:  # without the other one, a worker waits
            process.kill()


@pytest.mark.slow
def test_two_workers_train_as_one(alone):
    # In-batch negatives are those of both workers.
    kinds = ["in batch", "ranking"]
    chief, other = on_workers(SCRIPT, "multi_worker", 1, json.dumps(kinds), "{}")
    assert_same(chief, alone, 2, kinds)
    for kind in kinds:
        assert chief[kind]["digest"] == other[kind]["digest"]
        assert chief[kind]["val_loss"] == other[kind]["val_loss"]


@pytest.mark.slow
def test_killed_workers_go_on_at_their_step(tmp_path):
    whole = result(start(KILLED, "none", tmp_path / "alone", 0))
    folder = tmp_path / "shared"
    killed = on_workers(KILLED, "multi_worker", folder, 3)
    assert all("Killed" in worker["error"] for worker in killed)
    counters = json.loads((folder / "run.json").read_text())
    assert counters["step"] == 3
    # One of them wrote.
    files = {f"{counters['checkpoint']}.{end}" for end in ("index", "data-00000-of-00001")}
    assert {file.name for file in folder.iterdir()} == {"run.json", *files}
    separate = on_workers(KILLED, "multi_worker", [folder, tmp_path / "other"], 0)
    assert all("`folder` must be the same for all workers" in worker["error"] for worker in separate)
    chief, other = on_workers(KILLED, "multi_worker", folder, 0)
    assert chief == other
    assert chief["slope"] == pytest.approx(whole["slope"], rel=1e-5)
    np.testing.assert_allclose(chief["loss"], whole["loss"], rtol=1e-4)


# Trains on the servers of a cluster, saves, and scores with what was saved in a model that knows no servers.
SERVED = """
import dataclasses, json, sys
import tfrec_fusion
import numpy as np
import tensorflow as tf

from tests.models.planted_models import RANKING, RETRIEVAL, batches, ranking, tensors, two_tower
from tfrec_fusion.training import cluster
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.export.saving import save
from tfrec_fusion.training.fitting import fit, strategy

kind, folder = sys.argv[1:]
cluster.MIN_SHARD_BYTES = 256
training = TrainingConfig(
    epochs=6, batch_size=32, learning_rate=1e-2, patience=6, strategy="parameter_server"
)
distribution = strategy(training)
data = planted(num_users=40, circles=3)
if kind == "retrieval":
    config = dataclasses.replace(RETRIEVAL, training=training, negatives=8)
else:
    config = dataclasses.replace(RANKING, training=dataclasses.replace(training, micro_batch=20))
make = {"retrieval": two_tower, "ranking": ranking}[kind]
with distribution.scope():
    model = make(data, config)
train = batches(data.train, 32)
history = fit(model, train, batches(data.test, 32), training, folder + "/run", progress=False)
tf.train.Checkpoint(model=model).write(folder + "/weights")
again = make(data, config)
tf.train.Checkpoint(model=again).read(folder + "/weights").expect_partial().assert_existing_objects_matched()
batch = tensors(data.test)
scores = [[value.numpy().tolist() for value in tf.nest.flatten(one(batch))] for one in (model, again)]
try:
    save(model, folder + "/saved")
except ValueError as error:
    refused = str(error)
variables = model.trainable_variables
print(json.dumps({
    "history": history.history,
    "scores": scores,
    "refused": refused,
    "on servers": sum("/job:ps" in variable.device for variable in variables) / len(variables),
    "split": [variable.name for variable in variables if "part_1" in variable.name],
}))
"""


@pytest.fixture
def served():
    """The `TF_CONFIG` of a coordinator whose two workers and two parameter servers run."""
    addresses = free_addresses(5)
    described = {"chief": addresses[:1], "worker": addresses[1:3], "ps": addresses[3:]}

    def environment(kind, index):
        config = {"cluster": described, "task": {"type": kind, "index": index}}
        return {**os.environ, "TF_CONFIG": json.dumps(config)}

    command = [sys.executable, "-m", "tfrec_fusion.training.cluster"]
    with contextlib.ExitStack() as stack:
        for kind in ("ps", "worker"):
            for index in range(2):
                output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                process = subprocess.Popen(command, env=environment(kind, index), **output)
                stack.callback(process.wait)
                stack.callback(process.kill)
        yield environment("chief", 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["retrieval", "ranking"])
def test_parameter_servers_train_a_model_that_scores_alike_without_them(served, tmp_path, kind):
    found = result(start(SERVED, kind, tmp_path, environment=served))
    assert found["on servers"] == 1
    assert any("id/embeddings/part_1" in name for name in found["split"])
    losses = found["history"]["loss"]
    assert losses[-1] < 0.8 * losses[0]
    trained, again = found["scores"]
    assert np.ptp(trained, axis=1).min() > 0.01
    np.testing.assert_allclose(again, trained, atol=1e-5)
    assert "must not be on parameter servers" in found["refused"]


@pytest.mark.slow
def test_a_killed_coordinator_goes_on_at_its_step(served, tmp_path):
    whole = result(start(KILLED, "none", tmp_path / "alone", 0))
    folder = tmp_path / "run"
    assert "Killed" in result(start(KILLED, "parameter_server", folder, 3, environment=served))["error"]
    assert json.loads((folder / "run.json").read_text())["step"] == 3
    found = result(start(KILLED, "parameter_server", folder, 0, environment=served))
    # Workers apply their steps in the order in which they are done with them.
    assert found["slope"] == pytest.approx(whole["slope"], rel=0.02)
    np.testing.assert_allclose(found["loss"], whole["loss"], rtol=0.02)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "names one `chief`, `worker` and `ps` tasks.*Received: none"),
        ("{", "Received: {"),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}, "Received: {"),
        ({"cluster": CLUSTER, "task": {"type": "evaluator", "index": 0}}, "Received: {.*evaluator"),
        ({"cluster": CLUSTER, "task": {"type": "ps", "index": 1}}, "Received: {"),
    ],
)
def test_parameter_servers_need_a_cluster(monkeypatch, given, words):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_CONFIG", given if isinstance(given, str) else json.dumps(given))
    with pytest.raises(ValueError, match=words):
        strategy(TrainingConfig(strategy="parameter_server"))


def test_the_coordinator_does_not_serve(monkeypatch):
    config = {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match="must be a `worker` or a `ps` task.*Received: 'chief'"):
        cluster.serve()


def test_workers_must_come_first(monkeypatch):
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    tf.constant(0)
    with pytest.raises(RuntimeError, match="before TensorFlow does anything else"):
        strategy(TrainingConfig(strategy="multi_worker"))
