"""A server with small limits, and clients that write bytes to it."""

import http.client
import socket

import pytest

from tfrec_fusion.serving.server.limits import Limits

BODY = b'{"instances": [1]}'
ANSWER = b'{\n    "predictions": [2.5\n    ]\n}'


def post(body=BODY, path=b"/v1/models/half:predict", extra=b""):
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (path, extra, len(body), body)


@pytest.fixture(scope="module")
def strict(models, tmp_path_factory):
    """A server with tight limits, over version 1 of half."""
    import shutil

    from tfrec_fusion.serving.server.embedded import EmbeddedServer

    base = tmp_path_factory.mktemp("strict") / "half"
    shutil.copytree(models / "half" / "1", base / "1")
    limits = Limits(
        max_body_bytes=100_000,
        max_header_bytes=4096,
        max_connections=20,
        read_seconds=1.0,
        write_seconds=1.0,
        idle_seconds=2.0,
        max_pipelined=4,
    )
    with EmbeddedServer({"half": base}, limits=limits, cors=True) as server:
        yield server


class Raw:
    """A raw connection that reads whole answers."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)
        return self

    def read(self):
        status = int(self.file.readline().split()[1])
        headers = http.client.parse_headers(self.file)
        return status, self.file.read(int(headers["Content-Length"])), headers

    def ended(self):
        return self.file.read(1) == b""

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def raw(strict):
    connection = Raw(strict.rest_port)
    yield connection
    connection.close()


def still_answers(server):
    from tests.serving.conftest import Caller  # which has the fixtures of this module

    return Caller(server.rest_port)("/v1/models/half:predict", BODY).body == ANSWER
