import http.client
import json
from typing import NamedTuple

import pytest

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow)
from tests.serving.http_clients import raw, strict  # noqa: F401  (fixtures)
from tests.serving.page_fixtures import (  # noqa: F401  (fixtures)
    clients,
    old_model,
    old_opened,
    old_page,
    opened,
    page,
    served,
    tab,
)


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


def error_body(message):
    """An error to the byte: PrettyWriter's four spaces, its escapes (`json`'s, but for letters in hex),
    nothing after it."""
    return ('{\n    "error": ' + json.dumps(message, ensure_ascii=False) + "\n}").encode(
        "utf-8", "surrogateescape"
    )


class Caller:
    """Sends requests to a server's REST port over one kept connection."""

    def __init__(self, port):
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __call__(self, path, body=None, method=None, headers=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        self.connection.request(
            method or ("GET" if body is None else "POST"), path, body=body, headers=headers or {}
        )
        response = self.connection.getresponse()
        return Reply(
            response.status, response.read(), {key.lower(): value for key, value in response.getheaders()}
        )


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of model base paths: half, zoo, estimator, recommender."""
    from tests.serving import saved_models

    root = tmp_path_factory.mktemp("models")
    saved_models.write_half_plus(root / "half" / "1")
    saved_models.write_half_plus(root / "half" / "00002", plus=3.0)
    saved_models.write_zoo(root / "zoo" / "1")
    saved_models.write_estimator(root / "estimator" / "7")
    saved_models.write_recommender(root / "recommender" / "1")
    return root


@pytest.fixture(scope="session")
def server(models):
    """One server for all tests that only ask: both versions of half, and a label on each."""
    from tfrec_fusion.serving.server.config_file import ModelConfig, VersionPolicy
    from tfrec_fusion.serving.server.embedded import EmbeddedServer
    from tfrec_fusion.serving.server.grpc_service import GrpcOptions

    configs = [
        ModelConfig("half", str(models / "half"), VersionPolicy("all"), (("canary", 2), ("stable", 1))),
        ModelConfig("zoo", str(models / "zoo")),
        ModelConfig("estimator", str(models / "estimator")),
        ModelConfig("recommender", str(models / "recommender")),
        ModelConfig("a b/ü", str(models / "half")),
    ]
    with EmbeddedServer(
        configs,
        grpc_port=0,
        poll_seconds=0,
        allow_unavailable_labels=True,
        metrics_path="/monitoring/prometheus/metrics",
        grpc=GrpcOptions(health=True),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def call(server):
    """One connection a file: the server closes one that is idle for five minutes."""
    return Caller(server.rest_port)


@pytest.fixture(scope="session")
def ask(server):
    """The same server's REST handler, without HTTP: (path, body, method) → Reply."""

    def send(path, body=None, method=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        method = method or ("GET" if body is None else "POST")
        status, answer = server._rest.handler.handle(method.encode(), path.encode(), body or b"")
        return Reply(status, answer, {})

    return send
