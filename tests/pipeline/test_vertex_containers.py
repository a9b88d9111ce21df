"""Each step's container as the spec has it, really run: on folders in place of the bucket."""

import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from pipeline.vertex.compiling import compile_pipeline
from pipeline.vertex_config import TrainingJob
from tests.pipeline.fake_google import PROJECT, REGION
from tests.pipeline.vertex_containers import TASKS, Cluster
from tests.pipeline.vertex_settings import plain_vertex

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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
    other = Cluster(compile_pipeline(again), cluster.bucket)
    other.made = cluster.made
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
    said = re.findall(r"epoch (\d+)", other.log("RetrievalTrainer").read_text())
    assert all(int(epoch) > before for epoch in said)


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
