"""The HTTP server's limits: bodies, headers, slow clients, many clients, CORS and TLS."""

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time

import pytest

from tests.serving.conftest import Caller
from tests.serving.http_clients import ANSWER, BODY, Raw, post, still_answers
from tfrec_fusion.serving.server.embedded import EmbeddedServer, TlsConfig


def test_gzip_bodies(strict):
    call = Caller(strict.rest_port)
    headers = {"Content-Encoding": "gzip"}
    assert call("/v1/models/half:predict", gzip.compress(BODY), headers=headers).body == ANSWER
    reply = call("/v1/models/half:predict", BODY, headers=headers)
    assert (reply.status, reply.error) == (400, "JSON Parse error: The document is empty")
    reply = call("/v1/models/half:predict", gzip.compress(BODY)[:-9], headers=headers)
    assert (reply.status, reply.error) == (400, "JSON Parse error: The document is empty")
    for rest in (b"rubbish", gzip.compress(BODY)):  # nothing may follow the one stream that is read
        reply = call("/v1/models/half:predict", gzip.compress(BODY) + rest, headers=headers)
        assert (reply.status, reply.error) == (400, "JSON Parse error: The document is empty")
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 100_000
    assert call("/v1/models/half:predict", bomb, headers=headers).status == 413


def test_a_body_over_the_limit(strict):
    connection = Raw(strict.rest_port)
    connection.send(
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    )
    status, body, _ = connection.read()
    assert status == 413
    assert json.loads(body)["error"] == "The request's body is larger than the limit of 100000 bytes."
    assert connection.ended()
    connection.close()
    connection = Raw(strict.rest_port)
    connection.send(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        connection.send(b"c350\r\n" + b" " * 50_000 + b"\r\n")
    assert connection.read()[0] == 413
    connection.close()
    assert still_answers(strict)


def test_headers_over_the_limit(strict):
    connection = Raw(strict.rest_port)
    connection.send(b"GET /v1/models/half HTTP/1.1\r\n" + b"X: " + b"a" * 10_000)
    assert connection.read()[0] == 431
    assert connection.ended()
    connection.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"rubbish\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"BREW /v1/models/half HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models/half HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /v1/models/half HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_closed(strict, request_bytes):
    connection = Raw(strict.rest_port)
    connection.send(request_bytes)
    assert connection.read()[0] in (400, 501)
    assert connection.ended()
    connection.close()
    assert still_answers(strict)


def test_a_refusal_waits_for_the_answers_before_it(raw):
    raw.send(post() + post() + b"rubbish\r\n\r\n" + post())
    assert raw.read()[:2] == (200, ANSWER)
    assert raw.read()[:2] == (200, ANSWER)
    assert raw.read()[0] in (400, 501)
    assert raw.ended()


def test_random_bytes_never_stop_the_server(strict):
    import random

    source = random.Random(5)
    for _ in range(60):
        with socket.create_connection(("127.0.0.1", strict.rest_port), timeout=5) as client:
            data = bytearray(post())
            for _ in range(source.randrange(1, 6)):
                data[source.randrange(len(data))] = source.randrange(256)
            client.sendall(bytes(data[: source.randrange(1, len(data) + 1)]))
    assert still_answers(strict)


def test_slow_and_half_open_clients_are_let_go(strict):
    half_head, half_body, silent = (Raw(strict.rest_port) for _ in range(3))
    half_head.send(b"POST /v1/models/half:predict HT")
    half_body.send(post()[:-5])
    start = time.monotonic()
    assert half_head.ended()
    assert half_body.ended()
    assert time.monotonic() - start < 6
    assert silent.ended()
    for connection in (half_head, half_body, silent):
        connection.close()


def test_a_client_that_never_reads_is_let_go(strict):
    with socket.create_connection(("127.0.0.1", strict.rest_port), timeout=1) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"instances": [[0.1234567] * 8000]}).encode()
        deadline = time.monotonic() + 20
        dropped = False
        while not dropped and time.monotonic() < deadline:
            try:
                client.sendall(post(body))
            except TimeoutError:  # our requests are no longer read either; the server has stopped to wait
                time.sleep(0.1)
            except ConnectionError:
                dropped = True
    assert dropped
    assert still_answers(strict)


def test_connections_over_the_limit_are_closed(strict):
    open_ones = [Raw(strict.rest_port) for _ in range(20)]
    for connection in open_ones:
        connection.send(post()).read()
    extra = Raw(strict.rest_port)
    with contextlib.suppress(ConnectionError):
        assert extra.ended()
    for connection in (*open_ones, extra):
        connection.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert still_answers(strict)
            return
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.05)
    raise AssertionError("the server did not recover")


def test_deep_nesting_is_an_error_of_the_request(strict):
    call = Caller(strict.rest_port)
    for depth in (70, 300, 990, 20_000):
        body = b'{"instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
        reply = call("/v1/models/half:predict", body)
        assert reply.status == 400
        assert "limited to" in reply.error
    assert still_answers(strict)


def test_cors(strict):
    call = Caller(strict.rest_port)
    reply = call("/v1/models/half:predict", method="OPTIONS", headers={"Origin": "https://example.com"})
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "text/html; charset=ISO-8859-1"  # libevent's default
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-methods"] == "POST, GET"
    assert reply.headers["access-control-allow-headers"] == "Content-Type"
    assert call("/v1/models/half:predict", BODY).headers["access-control-allow-origin"] == "*"
    for headers in (
        {},
        {"Origin": "null"},
    ):  # http_server.cc ProcessRequest: the handler, which writes bodies, is not asked
        reply = call("/v1/models/half:predict", method="OPTIONS", headers=headers)
        assert (reply.status, reply.body) == (400, b"")
        assert reply.headers["content-type"] == "text/html; charset=ISO-8859-1"
    assert call("/elsewhere", method="OPTIONS", headers={"Origin": "https://example.com"}).status == 404


def test_no_cors_headers_on_pages_that_are_not_the_apis(models):
    with EmbeddedServer(
        {"half": models / "half"}, poll_seconds=0, cors=True, metrics_path="/metrics"
    ) as server:
        call = Caller(server.rest_port)
        assert call("/v1/models/half").headers["access-control-allow-origin"] == "*"
        for path, status in (("/metrics", 200), ("/metrics?x", 400), ("/elsewhere", 404)):
            reply = call(path)
            assert reply.status == status
            assert "access-control-allow-origin" not in reply.headers


def test_no_cors_headers_unless_asked_for(call):
    reply = call("/v1/models/half:predict", method="OPTIONS", headers={"Origin": "http://example.com"})
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_many_clients_at_once(strict):
    failures = []

    def work(number):
        call = Caller(strict.rest_port)
        for step in range(50):
            value = number * 100 + step
            reply = call("/v1/models/half:predict", {"instances": [value]})
            if reply.json != {"predictions": [value / 2 + 2]}:
                failures.append(reply)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_slow_model_runs_into_the_time_limit(tmp_path):
    import tensorflow as tf

    from tests.serving import saved_models

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None], "x")
        loop = tf1.while_loop(lambda i, y: i < 10**9, lambda i, y: (i + 1, y + 1.0), (0, x))
        (tmp_path / "m").mkdir()
        saved_models._save(
            tmp_path / "m" / "1",
            session,
            {"serving_default": saved_models._predict({"x": x}, {"y": loop[1]})},
        )
    with EmbeddedServer({"m": tmp_path / "m"}, rest_timeout_ms=300) as server:
        start = time.monotonic()
        reply = Caller(server.rest_port)("/v1/models/m:predict", {"instances": [1.0]})
        assert reply.status == 504
        assert time.monotonic() - start < 5
        raw = Raw(server.rest_port).send(post(b'{"instances": [1.0]}', b"/v1/models/m:predict"))
        assert raw.file.readline() == b"HTTP/1.1 504 Gateway Time-out\r\n"
        raw.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


def test_tls_on_both_ports(models, certificate):
    grpc = pytest.importorskip("grpc")
    from tfrec_fusion.serving.client.client import Client
    from tfrec_fusion.serving.client.errors import ServingError

    key, cert = certificate
    tls = TlsConfig(key.read_text(), cert.read_text(), rest=True)
    with EmbeddedServer({"half": models / "half"}, grpc_port=0, tls=tls) as server:
        context = ssl.create_default_context(cafile=str(cert))
        with Client.connect(f"https://localhost:{server.rest_port}", "half", ssl_context=context) as client:
            assert client.predict([1.0]) == [3.5]
        with pytest.raises(ServingError):
            Client.connect(f"http://localhost:{server.rest_port}", "half", timeout=3).predict([1.0])
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with Client.connect(
            f"grpc://localhost:{server.grpc_port}", "half", credentials=credentials
        ) as client:
            assert client.predict([1.0]) == [3.5]
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            Client.connect(f"grpc://localhost:{server.grpc_port}", "half", timeout=2).predict([1.0])


def test_it_binds_to_loopback_alone(strict):
    assert {address[3][0] for address in _listeners(strict.rest_port)} == {"127.0.0.1"}


def _listeners(port):
    import psutil

    return [
        connection
        for connection in psutil.Process().net_connections()
        if connection.status == "LISTEN" and connection.laddr.port == port
    ]
