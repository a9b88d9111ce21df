"""Each step's container as the spec has it, really run: on folders instead of the bucket."""

import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from pipeline.config.vertex_config import TrainingJob
from pipeline.vertex.compiling import compile_pipeline
from tests.free_addresses import free_addresses
from tests.pipeline.fake_google import PROJECT, REGION
from tests.pipeline.vertex_containers import TASKS, Cluster
from tests.pipeline.vertex_settings import plain_vertex

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.shared_run("vertex")]


def test_every_class_is_among_the_tasks(cluster):
    def classes(tasks):
        executors = cluster.spec["deploymentSpec"]["executors"]
        return {executors[f"{task}_executor"]["container"]["args"][1] for task in tasks}

    assert classes(TASKS) == classes(cluster.spec["root"]["dag"]["tasks"])


def test_tables_become_a_pushed_model_that_is_blessed(cluster, results):
    assert results["RetrievalEvaluator"]["blessing"]["metadata"]["blessed"] == 1.0
    assert results["RetrievalServingValidator"]["blessing"]["metadata"]["blessed"] == 1.0
    assert results["RetrievalPusher"]["pushed_model"]["metadata"]["pushed"] == 1.0
    (version,) = (cluster.bucket / "shop" / "serving" / "retrieval").iterdir()
    assert (version / "saved_model.pb").is_file()
    assert results["TextEmbeddings"]["text_vectors"]["metadata"]["dim"] == 16.0
    assert "pushed_version" not in results["RetrievalBaseline"]["model"].get("metadata", {})


def test_the_next_candidate_meets_what_was_pushed(cluster, results):
    made = cluster.run_all(["RetrievalBaseline", "RetrievalEvaluator"])
    (version,) = (cluster.bucket / "shop" / "serving" / "retrieval").iterdir()
    assert made["RetrievalBaseline"]["model"]["metadata"]["pushed_version"] == version.name
    assert "baseline_model" in made["RetrievalEvaluator"]["blessing"]["metadata"]


def test_a_killed_trainer_goes_on_where_it_was(cluster, results, config):
    """As after a preemption: the same command with the same arguments, on a machine that knows nothing."""
    long = dataclasses.replace(config.retrieval.training, epochs=60, patience=60)
    again = dataclasses.replace(config, retrieval=dataclasses.replace(config.retrieval, training=long))
    other = Cluster(compile_pipeline(again), cluster.bucket, run="killed")
    other.made = dict(cluster.made)
    process = other.start("RetrievalTrainer")
    before = _wait_for_epoch(cluster.bucket, 3, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert before < 60
    process = other.start("RetrievalTrainer")
    first = _wait_for_epoch(cluster.bucket, before + 1, process)
    assert first > before
    assert process.wait(timeout=600) == 0, other.log("RetrievalTrainer").read_text()[-4000:]
    folder = pathlib.Path(other.finish("RetrievalTrainer")["model_run"]["uri"])
    assert len(json.loads((folder / "history.json").read_text())["loss"]) == 60
    epochs = re.findall(r"epoch (\d+)", other.log("RetrievalTrainer").read_text())
    assert all(int(epoch) > before for epoch in epochs)


CLUSTERS = {
    "multi_worker": ({"worker": 2}, [("worker", 0), ("worker", 1)]),
    "parameter_server": (
        {"chief": 1, "worker": 1, "ps": 1},
        [("ps", 0), ("worker", 0), ("chief", 0)],
    ),
}


@pytest.mark.parametrize("strategy", CLUSTERS)
def test_several_machines_train_one_model(cluster, results, config, strategy):
    """The same command on all of them; `TF_CONFIG` says what each is."""
    sizes, tasks = CLUSTERS[strategy]
    training = dataclasses.replace(config.retrieval.training, strategy=strategy)
    again = dataclasses.replace(config, retrieval=dataclasses.replace(config.retrieval, training=training))
    other = Cluster(compile_pipeline(again), cluster.bucket, run=strategy)
    other.made = dict(cluster.made)
    free = iter(free_addresses(len(tasks)))
    addresses = {kind: [next(free) for _ in range(size)] for kind, size in sizes.items()}
    processes = {}
    for kind, index in tasks:
        task = {"cluster": addresses, "task": {"type": kind, "index": index}}
        log = cluster.bucket / f"{strategy}-{kind}-{index}.log"
        processes[log] = subprocess.Popen(
            other.command("RetrievalTrainer"),
            env={**other.environment, "TF_CONFIG": json.dumps(task)},
            cwd=cluster.bucket,
            stderr=log.open("w"),
        )
    try:
        # Servers and what works for them stay until they are ended.
        for log, process in processes.items():
            if strategy == "multi_worker" or "chief" in log.name:
                assert process.wait(timeout=600) == 0, log.read_text()[-4000:]
    finally:
        for process in processes.values():
            process.kill()
    made = other.finish("RetrievalTrainer")
    alone = pathlib.Path(results["RetrievalTrainer"]["model_run"]["uri"])
    together = pathlib.Path(made["model_run"]["uri"])
    losses = [json.loads((folder / "history.json").read_text())["loss"] for folder in (alone, together)]
    # Servers take the steps of several workers as they come.
    closeness = 1e-3 if strategy == "multi_worker" else 0.1
    np.testing.assert_allclose(*losses, rtol=closeness)
    # One of them wrote, and what it wrote answers without the others.
    assert {file.name for file in together.glob("*.*")} >= {"history.json", "settings.json", "weights.index"}
    asked = {
        "text": tf.constant([""]),
        "history": tf.constant([["s0", "s2"]]),
        "user_id": tf.constant(["p0"]),
        "context_place": tf.constant(["web"]),
    }
    vectors = [
        tf.saved_model.load(f"{model['uri']}/Format-Serving").signatures["embed_query"](**asked)
        for model in (results["RetrievalTrainer"]["model"], made["model"])
    ]
    for name, values in vectors[0].items():
        assert np.abs(values).max() > 0.1
        if strategy == "multi_worker":
            np.testing.assert_allclose(vectors[1][name], values, atol=1e-2)
        else:
            assert vectors[1][name].shape == values.shape


def _wait_for_epoch(bucket, epoch, process):
    """The number of epochs in the checkpoint, once it is at least `epoch`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for file in (bucket / "shop" / "checkpoints").glob("*/run.json"):
            reached = json.loads(file.read_text())["epoch"]
            if reached >= epoch:
                return reached
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


def test_the_training_job_trains(cluster, results, config, google, tmp_path):
    """The step starts a job at a server that plays Vertex AI, which runs what it was sent."""
    vertex = dataclasses.replace(plain_vertex(), training=TrainingJob("n1-standard-8"))
    jobs = Cluster(compile_pipeline(dataclasses.replace(config, vertex=vertex)), cluster.bucket)
    jobs.made = cluster.made
    trained = []

    def run(job):
        (pool,) = job["jobSpec"]["workerPoolSpecs"]
        container = pool["containerSpec"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert container["command"][0] == "python"
        done = subprocess.run(
            [sys.executable, *container["command"][1:], *container["args"]],
            env={**jobs.environment, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        trained.append(done.returncode)
        return "JOB_STATE_SUCCEEDED" if done.returncode == 0 else "JOB_STATE_FAILED"

    google.run_job = run
    model = pathlib.Path(jobs.run("RetrievalTrainer")["model"]["uri"])
    assert trained == [0]
    assert (model / "Format-Serving" / "saved_model.pb").is_file()
    assert next(iter(google.jobs)).startswith(f"projects/{PROJECT}/locations/{REGION}/customJobs/")
