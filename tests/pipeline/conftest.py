"""A place that plays Google Cloud, and one run of a compiled pipeline's containers, for the tests that need
them."""

import json

import pytest

from pipeline.components import google_clients
from tests.pipeline.fake_google import Google, key_file
from tests.pipeline.onboarding_tables import folder  # noqa: F401  (fixture)


@pytest.fixture
def google(monkeypatch, tmp_path):
    """The fake, with credentials for it and every client sent there."""
    with Google() as server:
        services = "AIPLATFORM COMPUTE SERVICEUSAGE CLOUDRESOURCEMANAGER ARTIFACTREGISTRY IAM"
        for service in services.split():
            monkeypatch.setenv(google_clients.OVERRIDE + service, server.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        key = tmp_path / "key.json"
        key.write_text(json.dumps(key_file(server)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        yield server


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """A small run on Vertex AI."""
    from tests.pipeline.vertex_containers import small_run

    return small_run(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def cluster(config, tmp_path_factory):
    """Its containers, on folders."""
    from pipeline.vertex.compiling import compile_pipeline
    from tests.pipeline.vertex_containers import Cluster

    return Cluster(compile_pipeline(config), tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="session")
def results(cluster):
    """What they made: a minute, so all tests share it."""
    from tests.pipeline.vertex_containers import TASKS

    return cluster.run_all(TASKS)


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    """Configuration and tables of the films."""
    from tests.pipeline.films import write_films

    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def first(config_file):
    """The summary of the films' first run: a minute, so all tests of the group `films` share it."""
    from pipeline.config.pipeline_config import load_config
    from pipeline.runner.local import run

    return run(load_config(str(config_file)))
