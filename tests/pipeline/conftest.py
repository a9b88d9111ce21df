"""A place that plays Google Cloud, for the tests that talk to it."""

import json

import pytest

from pipeline import google_clients
from tests.pipeline.fake_google import Google, key_file


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
