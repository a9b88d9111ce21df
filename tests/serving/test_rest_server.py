"""The HTTP server under raw sockets: pipelining, limits, slow clients, compression, CORS, TLS, time-outs."""

import json
import socket

import pytest

from benchmarks.fuzz import fuzz
from tests.serving.http_clients import ANSWER, BODY, post


def test_one_connection_answers_many_requests(raw):
    for _ in range(3):
        status, body, headers = raw.send(post()).read()
        assert (status, body) == (200, ANSWER)
        assert headers["Connection"] is None
        assert headers["Date"].endswith("GMT")


def test_pipelined_requests_are_answered_in_order(raw):
    bodies = [json.dumps({"instances": [number]}).encode() for number in range(40)]
    raw.send(b"".join(post(body) for body in bodies))
    for number in range(40):
        status, body, _ = raw.read()
        assert (status, json.loads(body)) == (200, {"predictions": [number / 2 + 2]})


def test_a_client_that_is_done_sending_gets_its_answers(server):
    """Half closed before the first answer is there, as `printf … | nc -N` leaves it."""
    body = json.dumps({"signature_name": "matmul", "instances": [[1, 2]] * 20000}).encode()
    slow = post(body, b"/v1/models/zoo:predict")
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as opened:
        opened.sendall(slow + slow)
        opened.shutdown(socket.SHUT_WR)
        reply = b""
        while part := opened.recv(65536):
            reply += part
    assert reply.count(b"HTTP/1.1 200 OK") == 2


def test_damaged_requests_find_nothing(server):
    """A few seconds of `python -m benchmarks.fuzz`, which raises on an answer that must not be."""
    counts = fuzz(server.rest_port, "half", seconds=3.0, seed=5)
    assert counts[200]
    assert counts[400]


def test_a_request_in_single_bytes(raw):
    for byte in post():
        raw.send(bytes([byte]))
    assert raw.read()[:2] == (200, ANSWER)


def test_chunked_bodies(raw):
    raw.send(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    raw.send(b"5\r\n" + BODY[:5] + b"\r\n" + b"%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n")
    assert raw.read()[:2] == (200, ANSWER)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_connection_close(raw, version):
    request = post(extra=b"Connection: close\r\n" if version == b"1.1" else b"")
    raw.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
    status, body, headers = raw.read()
    assert (status, body, headers["Connection"]) == (200, ANSWER, "close")
    assert raw.ended()


def test_http_1_0_is_told_that_its_connection_is_kept(raw):
    request = post(extra=b"Connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    for _ in range(2):
        status, body, headers = raw.send(request).read()
        assert (status, body, headers["Connection"]) == (200, ANSWER, "keep-alive")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        (b"TRACE", b"/elsewhere", 501, b"Not Implemented"),
        (b"TRACE", b"/v1/models/half", 501, b"Not Implemented"),
        (b"GET", b'/v1/models/a"b', 400, b"Bad Request"),
        (b"GET", b"/v1/models/half?x=[1]", 400, b"Bad Request"),
        (b"GET", b"/v1/models/h%zzalf", 400, b"Bad Request"),
        (b"GET", b"/v1/models/half#a#b", 400, b"Bad Request"),
        (b"GET", b'/elsewhere"', 400, b"Bad Request"),
        (b"GET", b"/v1/models/a|b", 400, b"Bad Request"),
        (b"GET", b"//host:x/v1/models/half", 400, b"Bad Request"),
    ],
)
def test_pages_close_the_connection(raw, method, path, status, reason):
    """libevent 2.1.12 evhttp_send_error, evhttp_uri_parse: for what it knows no method for, and what is no
    URI."""
    received, body, headers = raw.send(b"%s %s HTTP/1.1\r\nHost: x\r\n\r\n" % (method, path)).read()
    assert received == status
    assert body == b"<HTML><HEAD>\n<TITLE>%d %s</TITLE>\n</HEAD><BODY>\n<H1>%s</H1>\n</BODY></HTML>\n" % (
        status,
        reason,
        reason,
    )
    assert (headers["Content-Type"], headers["Connection"]) == ("text/html", "close")
    assert raw.ended()


def test_what_no_handler_is_registered_for(raw):
    """net_http evhttp_server.cc DispatchEvRequest: 404 and nothing more, but for libevent's page, which is
    left out."""
    status, body, headers = raw.send(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n").read()
    assert (status, body, headers["Content-Type"], headers["Connection"]) == (404, b"", "text/html", "close")
    assert raw.ended()


@pytest.mark.parametrize(
    "target", [b"http://some.host:8501/v1/models/half", b"//h/v1/models/half", b"//[::1]:1/v1/models/half"]
)
def test_a_target_may_be_a_whole_uri(raw, target):
    """evhttp_request.cc ParsedEvRequest::decode: path, query and fragment are looked at, scheme and authority
    are not."""
    status, body, _ = raw.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target).read()
    assert (status, json.loads(body)["model_version_status"][0]["version"]) == (200, "1")
    status, body, _ = raw.send(b"GET %s#f HTTP/1.1\r\nHost: x\r\n\r\n" % target).read()
    assert (status, json.loads(body)["error"]) == (404, "Could not find any versions of model half#f")


@pytest.mark.parametrize("name", [b"a!$&'()*+,;=@b", b"a-._~b", b"a%7Bb"])
def test_characters_that_a_path_may_have(raw, name):
    status, body, headers = raw.send(b"GET /v1/models/%s HTTP/1.1\r\nHost: x\r\n\r\n" % name).read()
    assert (status, headers["Connection"]) == (404, None)
    assert json.loads(body)["error"].startswith("Could not find any versions of model a")


# libevent 2.1.12 http.c evhttp_get_body, evhttp_have_expect
def test_expect_continue(raw):
    head, _, body = post(extra=b"Expect: 100-Continue\r\n").partition(b"\r\n\r\n")
    raw.send(head + b"\r\n\r\n")
    assert raw.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert raw.file.readline() == b"\r\n"
    assert raw.send(body).read()[:2] == (200, ANSWER)
    # Nobody waits for the word who has sent the body along, or sends none, or speaks HTTP/1.0.
    assert raw.send(post(extra=b"Expect: 100-continue\r\n")).read()[:2] == (200, ANSWER)
    assert raw.send(post(b"", extra=b"Expect: something\r\n")).read()[0] == 400
    head = head.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"POST", b"POST", 1)
    assert raw.send(head + b"\r\n\r\n" + body).read()[:2] == (200, ANSWER)


def test_other_expectations_fail(raw):
    status, body, headers = raw.send(post(extra=b"Expect: 200-ok\r\n")).read()
    assert (status, headers["Content-Type"], headers["Connection"]) == (417, "text/html", "close")
    assert b"<H1>Expectation Failed</H1>" in body
    assert raw.ended()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"rubbish", 400),
        (b"GET\t/v1/models/half\tHTTP/1.1", 400),
        (b"GET /v1/models/half", 400),
        (b"GET /v1/models/half HTTP/2.0", 400),
        (b"BREW /v1/models/half HTTP/1.1", 501),
        (b"get /v1/models/half HTTP/1.1", 501),
    ],
)
def test_lines_that_are_no_request(raw, line, status):
    """libevent 2.1.12 http.c evhttp_parse_request_line."""
    received, body, headers = raw.send(line + b"\r\nHost: x\r\n\r\n").read()
    assert (received, headers["Content-Type"], body[:6]) == (status, "text/html", b"<HTML>")
    assert raw.ended()


def test_http_1_0_is_answered_in_its_own_version(raw):
    raw.send(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert raw.file.readline() == b"HTTP/1.0 200 OK\r\n"


def test_an_upgrade_is_not_taken_but_the_request_is_answered(raw):
    raw.send(b"GET /v1/models/half HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n")
    raw.send(b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")
    status, _, headers = raw.read()
    assert (status, headers["Connection"]) == (200, "close")
    assert raw.ended()
