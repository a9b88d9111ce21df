"""Sending a run off, against a server that plays Google's: what arrives, what goes wrong, and that all may be
repeated."""

import dataclasses
import pathlib

import pytest

from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from pipeline.config.vertex_config import VertexConfig
from pipeline.vertex import submitting
from pipeline.vertex.compiling import Compiled
from pipeline.vertex.inputs import Upload
from tests.pipeline.fake_google import BUCKET, PROJECT, REGION
from tfrec_fusion.config import ConfigError

VERTEX = VertexConfig(
    PROJECT,
    REGION,
    f"gs://{BUCKET}/recommenders",
    f"{REGION}-docker.pkg.dev/{PROJECT}/images/tfrec:1.2.3",
    service_account=f"runs@{PROJECT}.iam.gserviceaccount.com",
)
CONFIG = PipelineConfig("shop", DataConfig(reader="movielens_100k"), vertex=VERTEX)
FOLDER = f"gs://{BUCKET}/recommenders/shop"
SPEC = {
    "displayName": "shop",
    "labels": {"tfx_version": "1-21-0"},
    "runtimeConfig": {"gcsOutputDirectory": f"{FOLDER}/artifacts"},
    "pipelineSpec": {"schemaVersion": "2.0.0", "pipelineInfo": {"name": "shop"}},
}
BIG = 9_000_000  # above 8 MiB an upload is resumable


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(submitting, "RETRY_SECONDS", 0.5)


@pytest.fixture
def uploads(tmp_path):
    orders = tmp_path / "orders.csv"
    orders.write_bytes(b"user,item\n" * (BIG // 10))
    return [
        Upload(f"{FOLDER}/inputs/items-0123456789abcdef/items.csv", b"id,title\n1,Tea\n"),
        Upload(f"{FOLDER}/inputs/interactions-fedcba9876543210/orders.csv", pathlib.Path(orders)),
    ]


def names(uploads):
    return [upload.target.removeprefix(f"gs://{BUCKET}/") for upload in uploads]


def compiled(uploads, spec=SPEC):
    return Compiled(spec, uploads, CONFIG, VERTEX)


def quiet(_):
    pass


def test_inputs_and_spec_arrive_whole(google, uploads):
    messages = []
    sent = submitting.submit(compiled(uploads), messages.append)
    assert google.objects[names(uploads)[0]] == b"id,title\n1,Tea\n"
    assert google.objects[names(uploads)[1]] == uploads[1].source.read_bytes()
    assert [line.split(":")[0] for line in messages] == ["sends 1 of 2", "sends 2 of 2"]
    (job,) = google.jobs.values()
    assert job["pipelineSpec"] == SPEC["pipelineSpec"]
    assert job["runtimeConfig"]["gcsOutputDirectory"] == f"{FOLDER}/artifacts"
    assert job["serviceAccount"] == VERTEX.service_account
    assert job["name"] == sent.name
    assert not sent.found
    assert sent.console == (
        f"https://console.cloud.google.com/vertex-ai/locations/{REGION}/pipelines/runs/"
        f"{sent.name.rsplit('/', 1)[1]}?project={PROJECT}"
    )


def test_what_is_there_is_not_sent_again_and_a_running_run_not_started_twice(google, uploads):
    first = submitting.submit(compiled(uploads), quiet)
    again = submitting.submit(compiled(uploads), quiet)
    assert google.sent() == names(uploads)
    assert again.found
    assert again.name == first.name
    other = submitting.submit(compiled(uploads, {**SPEC, "displayName": "other"}), quiet)
    assert not other.found


def test_a_run_that_is_over_is_started_anew(google, uploads):
    first = submitting.submit(compiled(uploads), quiet)
    google.jobs[first.name]["state"] = "PIPELINE_STATE_FAILED"
    second = submitting.submit(compiled(uploads), quiet)
    assert second.name != first.name
    assert not second.found
    assert submitting.wait(second, VERTEX, quiet, seconds=0)


def test_a_half_finished_upload_leaves_no_object_and_is_taken_up(google, uploads):
    google.faults["cut"] = names(uploads)[1]
    with pytest.raises(ConfigError, match=r"could not be reached.*run the same command again"):
        submitting.submit(compiled(uploads), quiet)
    assert list(google.objects) == names(uploads)[:1]
    assert google.jobs == {}
    google.faults.clear()
    submitting.submit(compiled(uploads), quiet)
    assert google.sent() == names(uploads)
    assert google.objects[names(uploads)[1]] == uploads[1].source.read_bytes()


def test_an_object_that_another_tool_left_half_written_is_replaced(google, uploads):
    google.objects[names(uploads)[0]] = b"id,title\n1,T"
    google.objects[names(uploads)[1]] = b"x" * uploads[1].size  # as long, and other bytes
    assert submitting.upload(uploads, VERTEX, quiet) == 2
    assert google.objects[names(uploads)[0]] == uploads[0].source
    assert google.objects[names(uploads)[1]] == uploads[1].source.read_bytes()


def test_a_lost_answer_does_not_start_two_runs(google, uploads):
    google.faults["lose_answer"] = True
    with pytest.raises(ConfigError, match="run the same command again"):
        submitting.submit(compiled(uploads), quiet)
    assert submitting.submit(compiled(uploads), quiet).found
    assert len(google.jobs) == 1


def test_no_credentials(google, uploads, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    with pytest.raises(ConfigError, match="needs credentials.*gcloud auth application-default login"):
        submitting.submit(compiled(uploads), quiet)


@pytest.mark.parametrize("fault", ["expired", "unauthenticated"])
def test_an_expired_token(google, uploads, fault):
    google.faults[fault] = True
    with pytest.raises(
        ConfigError, match=r"(have expired|does not accept).*gcloud auth application-default login"
    ):
        submitting.submit(compiled(uploads), quiet)
    assert google.objects == {}


def test_a_bucket_that_cannot_be_written(google, uploads):
    google.faults |= {
        "forbidden": "^/upload/",
        "message": f"tester@{PROJECT} does not have storage.objects.create access to the bucket.",
    }
    with pytest.raises(
        ConfigError,
        match=r"(?s)Writing to gs://shop-bucket was refused.*storage.objects.create.*roles/storage",
    ):
        submitting.submit(compiled(uploads), quiet)
    assert google.jobs == {}


def test_a_bucket_that_is_not_there(google, uploads):
    elsewhere = dataclasses.replace(VERTEX, bucket="gs://nobodys-bucket")
    with pytest.raises(ConfigError, match=r"not found.*gcloud storage buckets create gs://nobodys-bucket"):
        submitting.upload(uploads, elsewhere, quiet)


def test_a_service_that_is_switched_off(google, uploads):
    google.faults |= {
        "forbidden": "pipelineJobs",
        "message": "Vertex AI API has not been used in project 1 before or it is disabled.",
    }
    with pytest.raises(ConfigError, match="gcloud services enable aiplatform.googleapis.com"):
        submitting.submit(compiled(uploads), quiet)


def test_a_service_account_that_may_not_be_used(google, uploads):
    google.faults |= {
        "forbidden": "pipelineJobs",
        "message": "You do not have permission to act as service_account",
    }
    with pytest.raises(ConfigError, match="act as.*roles/iam.serviceAccountUser on runs@"):
        submitting.submit(compiled(uploads), quiet)


def test_a_service_that_does_not_answer(google, uploads):
    google.faults["unavailable"] = "storage"
    with pytest.raises(ConfigError, match="could not be reached.*Nothing is lost"):
        submitting.submit(compiled(uploads), quiet)
