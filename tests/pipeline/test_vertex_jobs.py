"""Steps that start work elsewhere, against a server that plays Vertex AI: the training job, and the
endpoint."""

import dataclasses
import json

import pytest
from tfx.scripts import run_executor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils

from pipeline.components import vertex_pusher, vertex_trainer
from pipeline.components.artifacts import TextVectors
from pipeline.components.vertex_pusher import Executor as PushExecutor
from pipeline.components.vertex_pusher import deploy
from pipeline.components.vertex_trainer import LABEL, job_settings
from pipeline.config.vertex_config import Endpoint, TrainingJob, VertexConfig
from tests.pipeline.fake_google import BUCKET, PROJECT, REGION
from tfrec_fusion.config import ConfigError

VERTEX = VertexConfig(
    PROJECT,
    REGION,
    f"gs://{BUCKET}/recommenders",
    f"{REGION}-docker.pkg.dev/{PROJECT}/images/tfrec:1.2.3",
    training=TrainingJob(
        "g2-standard-8", "NVIDIA_L4", image="other/tfrec:1.2.3-cuda", spot=True, hours=2, workers=3
    ),
    push="endpoint",
    endpoint=Endpoint("images/serving:2.19.1"),
    labels={"team": "shop"},
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(vertex_trainer, "POLL_SECONDS", (0, 0))


def artifact(kind, name):
    made = kind()
    made.uri = f"gs://{BUCKET}/recommenders/shop/artifacts/{name}"
    return [made]


def train(vertex=VERTEX, output="model"):
    inputs = {
        "examples": artifact(standard_artifacts.Examples, "examples"),
        "text_vectors": artifact(TextVectors, "vectors"),
    }
    outputs = {
        "model": artifact(standard_artifacts.Model, output),
        "model_run": artifact(standard_artifacts.ModelRun, "run"),
    }
    properties = {
        "run_fn": "pipeline.callbacks.training.run_retrieval",
        "custom_config": json_utils.dumps({"model": {"dim": 8}}),
        "job": json.dumps(job_settings(vertex, "shop")),
    }
    vertex_trainer.Executor().Do(inputs, outputs, properties)


def test_the_job_asks_for_the_machine_and_runs_the_trainer(google):
    train()
    (job,) = google.jobs.values()
    first, others = job["jobSpec"]["workerPoolSpecs"]
    assert first["machineSpec"] == {
        "machineType": "g2-standard-8",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 1,
    }
    assert (first["replicaCount"], others["replicaCount"]) == ("1", "2")
    assert job["jobSpec"]["scheduling"] == {
        "timeout": "7200s",
        "restartJobOnWorkerRestart": True,
        "strategy": "SPOT",
    }
    assert job["labels"]["team"] == "shop"
    container = first["containerSpec"]
    assert container["imageUri"] == "other/tfrec:1.2.3-cuda"
    assert container["command"] == ["python", "-m", "tfx.scripts.run_executor"]
    options, rest = run_executor.parse_flags(["run_executor", *container["args"]])
    assert options.executor_class_path == "pipeline.components.trainer.Executor"
    assert rest == ["run_executor"]
    inputs = artifact_utils.parse_artifact_dict(options.inputs)
    assert inputs["text_vectors"][0].uri == f"gs://{BUCKET}/recommenders/shop/artifacts/vectors"
    assert isinstance(inputs["text_vectors"][0], TextVectors)
    assert json.loads(options.exec_properties)["run_fn"] == "pipeline.callbacks.training.run_retrieval"
    assert "job" not in json.loads(options.exec_properties)


def test_servers_are_the_third_pool(google):
    train(dataclasses.replace(VERTEX, training=dataclasses.replace(VERTEX.training, servers=2)))
    (job,) = google.jobs.values()
    pools = job["jobSpec"]["workerPoolSpecs"]
    assert [pool["replicaCount"] for pool in pools] == ["1", "2", "2"]
    assert pools[2]["containerSpec"] == pools[0]["containerSpec"]


def test_a_step_that_is_started_again_finds_its_job(google):
    train()
    train()
    assert len(google.jobs) == 1
    train(output="another_model")
    assert len({job["labels"][LABEL] for job in google.jobs.values()}) == 2


def test_a_job_that_failed_is_told_and_started_anew(google):
    google.finish_jobs = "JOB_STATE_FAILED"
    with pytest.raises(
        ConfigError,
        match=r"(?s)JOB_STATE_FAILED.*non-zero status.*training/1000\?.*goes on from its last checkpoint",
    ):
        train()
    google.finish_jobs = "JOB_STATE_SUCCEEDED"
    train()
    assert len(google.jobs) == 2


def test_a_region_without_the_machine(google):
    google.faults |= {
        "invalid": "customJobs",
        "message": f"Machine type g2-standard-8 is not supported in region {REGION}.",
    }
    with pytest.raises(
        ConfigError,
        match=r"(?s)not supported in region.*asks for g2-standard-8 with NVIDIA_L4 in europe-west4",
    ):
        train()


def test_a_quota_that_is_used_up(google):
    google.faults |= {
        "exhausted": "customJobs",
        "message": "The following quotas are exceeded: CustomModelTrainingL4GPUsPerProjectPerRegion",
    }
    with pytest.raises(
        ConfigError, match=r"a quota is used up.*L4GPUs.*iam-admin/quotas\?project=shop-project"
    ):
        train()


SETTINGS = {
    "project": PROJECT,
    "region": REGION,
    "labels": {"team": "shop"},
    "name": "shop-retrieval",
    "model": "retrieval",
    **dataclasses.asdict(VERTEX.endpoint),
}


def test_a_version_takes_over_the_endpoint(google):
    name = deploy(SETTINGS, "7", f"gs://{BUCKET}/endpoints/shop-retrieval-7")
    (endpoint,) = google.endpoints.values()
    assert endpoint["name"] == name
    (model,) = google.models.values()
    assert model["displayName"] == "shop-retrieval-7"
    assert model["artifactUri"] == f"gs://{BUCKET}/endpoints/shop-retrieval-7"
    container = model["containerSpec"]
    assert "--model_base_path=$(AIP_STORAGE_URI)" in container["args"]
    assert container["predictRoute"] == "/v1/models/retrieval:predict"
    deploy(SETTINGS, "8", f"gs://{BUCKET}/endpoints/shop-retrieval-8")
    (endpoint,) = google.endpoints.values()
    (deployed,) = endpoint["deployedModels"]
    assert google.models[deployed["model"]]["displayName"] == "shop-retrieval-8"
    assert endpoint["trafficSplit"][deployed["id"]] == 100


def test_deploying_twice_does_nothing_the_second_time(google):
    for _ in range(2):
        deploy(SETTINGS, "7", f"gs://{BUCKET}/endpoints/shop-retrieval-7")
    assert len(google.models) == len(google.endpoints) == 1
    (endpoint,) = google.endpoints.values()
    assert len(endpoint["deployedModels"]) == 1


UNANSWERED = {
    "models are listed": "GET .*/models$",
    "the model is uploaded": "models:upload",
    "endpoints are listed": "GET .*/endpoints$",
    "the endpoint is made": "POST .*/endpoints$",
    "the model is deployed": ":deployModel",
    "the endpoint is looked at": r"GET .*/endpoints/\d+$",
    "the version before is taken off": ":undeployModel",
}


@pytest.mark.parametrize("path", UNANSWERED.values(), ids=UNANSWERED.keys())
def test_an_answer_that_does_not_come_is_not_waited_for(google, monkeypatch, path):
    folder = f"gs://{BUCKET}/endpoints/shop-retrieval"
    deploy(SETTINGS, "7", f"{folder}-7")
    if "endpoints$" in path:
        google.endpoints.clear()
    monkeypatch.setattr(vertex_pusher, "SECONDS", 0.3)
    google.faults["hang"] = path
    with pytest.raises(ConfigError, match=r"could not be reached \(Deploying shop-retrieval\).*run the same"):
        deploy(SETTINGS, "8", f"{folder}-8")
    google.faults.clear()
    deploy(SETTINGS, "8", f"{folder}-8")
    (endpoint,) = google.endpoints.values()
    (deployed,) = endpoint["deployedModels"]
    assert google.models[deployed["model"]]["displayName"] == "shop-retrieval-8"


def test_a_deployment_without_end_is_told_and_not_waited_for(google, monkeypatch):
    monkeypatch.setattr(vertex_pusher, "DEPLOY_SECONDS", 0.3)
    google.faults["unfinished"] = True
    with pytest.raises(
        ConfigError, match=r"Deploying shop-retrieval did not come to an end.*may yet succeed"
    ):
        deploy(SETTINGS, "7", f"gs://{BUCKET}/endpoints/shop-retrieval-7")


@pytest.mark.parametrize("path", ["GET .*/customJobs$", "POST .*/customJobs$", r"GET .*/customJobs/\d+$"])
def test_a_training_job_is_not_waited_for_when_nobody_answers(google, monkeypatch, path):
    monkeypatch.setattr(vertex_trainer, "SECONDS", 0.3)
    google.faults["hang"] = path
    with pytest.raises(ConfigError, match=r"could not be reached .*the training job"):
        train()
    google.faults.clear()
    train()
    assert len(google.jobs) == 1


@pytest.mark.parametrize("blessed", [True, False])
def test_the_pusher_pushes_to_the_folder_first_and_only_what_was_blessed(google, tmp_path, blessed):
    """Folders stand for the bucket."""
    (tmp_path / "model" / "Format-Serving").mkdir(parents=True)
    (tmp_path / "model" / "Format-Serving" / "saved_model.pb").write_bytes(b"graph")
    model, blessing, pushed = (
        standard_artifacts.Model(),
        standard_artifacts.ModelBlessing(),
        standard_artifacts.PushedModel(),
    )
    model.uri, blessing.uri, pushed.uri = (str(tmp_path / name) for name in ("model", "blessing", "pushed"))
    blessing.set_int_custom_property("blessed", int(blessed))
    properties = {
        "push_destination": json.dumps({"filesystem": {"base_directory": str(tmp_path / "serving")}}),
        "custom_config": json_utils.dumps({**SETTINGS, "folder": str(tmp_path / "endpoints")}),
    }
    inputs = {"model": [model], "model_blessing": [blessing]}
    PushExecutor().Do(inputs, {"pushed_model": [pushed]}, properties)
    assert pushed.get_int_custom_property("pushed") == int(blessed)
    assert len(google.endpoints) == int(blessed)
    if blessed:
        (version,) = (tmp_path / "serving").iterdir()
        (model,) = google.models.values()
        assert model["artifactUri"] == str(tmp_path / "endpoints" / f"shop-retrieval-{version.name}")
        assert (
            tmp_path / "endpoints" / f"shop-retrieval-{version.name}" / version.name / "saved_model.pb"
        ).exists()
        assert pushed.get_string_custom_property("endpoint") == next(iter(google.endpoints))
