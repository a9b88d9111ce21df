"""The page's server: what it sends on, what it refuses, and what stands in its answers' headers."""

import json
import pathlib
import re
import socket
import urllib.parse

import pytest

from tests.serving.conftest import Caller
from tfrec_fusion.export.request import INPUTS, RequestError
from tfrec_fusion.serving import Unavailable
from tfrec_fusion.serving.page import guard, server
from tfrec_fusion.serving.page.pictures import MAX_ORIGINS, Pictures
from tfrec_fusion.serving.page.server import PageServer, served_names

STATIC = pathlib.Path(server.__file__).parent / "static"
PNG = b"\x89PNG\r\n\x1a\n and more"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "posters").mkdir()
    (folder / "posters" / "a.png").write_bytes(PNG)
    (folder / "page.png").write_bytes(b"<svg onload='alert(1)'>")
    (folder.parent / "outside.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    values = {
        "a": "posters/a.png",
        "a/b?c#d": "posters/a.png",
        "svg": "page.png",
        "up": "../outside.png",
        "absolute": str(folder.parent / "outside.png"),
        "link": "link.png",
        "folder": "posters",
        "missing": "posters/b.png",
        "nul": "a\x00.png",
        "web": "https://img.example:8443/a.png?size=1",
        "header": "https://img.example/a\r\nSet-Cookie: x=1",
        "odd host": "https://img.example;script-src*/a.png",
        "user": "https://somebody@img.example/a.png",
    }
    return Pictures(values, folder)


@pytest.fixture(scope="module")
def page(server, pictures):
    url = f"http://127.0.0.1:{server.rest_port}"
    with PageServer(url, ["half", "recommender", "a b/ü"], port=0, pictures=pictures) as running:
        yield running


@pytest.fixture(scope="module")
def get(page):
    return Caller(page.port)


def test_all_that_the_page_loads_is_sent_with_its_type(get):
    assert get("/").headers["content-type"] == "text/html; charset=utf-8"
    for path in STATIC.iterdir():
        if path.name == "index.html":
            continue
        reply = get(f"/{path.name}")
        assert (reply.status, reply.body) == (200, path.read_bytes())
        loaded = re.findall(r'from "\./([\w.]+)"|^import "\./([\w.]+)"', path.read_text(), re.MULTILINE)
        assert all((STATIC / (one or other)).is_file() for one, other in loaded)
    assert get("/index.html").status == 404  # one address a page


def test_nothing_static_names_another_origin_or_makes_html():
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", ""), path
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
            assert word not in text, (path, word)
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script[^>]*>[^<]", page) == [] and "<style" not in page


def test_every_answer_has_the_headers(get):
    for path in ("/", "/settings.json", "/nothing", "/v1/models/half", "/pictures/a", "/pictures/none"):
        headers = get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' https://img.example:8443",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.startswith("access-control") for name in headers)


def test_settings_hold_the_contract(get, page):
    settings = get("/settings.json").json
    assert settings["url"] == page.model_url and settings["models"] == ["half", "recommender", "a b/ü"]
    assert settings["inputs"]["diversity"]["high"] == INPUTS["diversity"].high == 1
    assert list(settings["inputs"]) == list(INPUTS)


@pytest.mark.parametrize(
    "body", [{}, [], {"outputs": {}}, {"outputs": {"part_names": [1]}}, {"outputs": 1}, "{", "[[["]
)
def test_what_is_no_explanation_is_refused(get, body):
    reply = get("/sentences", body, headers=JSON)
    assert reply.status == 400 and "must be those of a signature `explain`" in reply.error


def test_allowed_routes_answer_as_the_model_server_does(get, call):
    for path in (
        "/v1/models/half",
        "/v1/models/half/versions/1",
        "/v1/models/half/metadata",
        "/v1/models/half/versions/1/metadata",
        "/v1/models/a%20b%2F%C3%BC",
    ):
        assert get(path).json == call(path).json
    for path in ("/v1/models/half:predict", "/v1/models/half/versions/1:predict"):
        reply = get(path, {"instances": [2.0]}, headers=JSON)
        assert reply.body == call(path, {"instances": [2.0]}).body
        assert re.fullmatch(r"model;dur=\d+\.\d\d", reply.headers["server-timing"])
    reply = get("/v1/models/half:predict", {"instances": []}, headers=JSON)
    assert (reply.status, reply.body) == (400, call("/v1/models/half:predict", {"instances": []}).body)
    assert get("/v1/models/half/versions/9").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/zoo",  # served, and not offered
        "/v1/models",
        "/v1/models/half/labels/stable",
        "/v1/models/half:classify",
        "/v1/models/half?x=1",
        "/v1/models/half/../zoo",
        "/v1/models/half%2Fversions%2F1",
        "/v1/models/half/versions/1%20",
        "/v1/models/half/versions/١",
        "/monitoring/prometheus/metrics",
        "/../server.py",
        "/static/page.js",
        "/page.js/",
        "//evil.example/",
        "http://127.0.0.1/",
    ],
)
def test_nothing_else_is_sent_on(get, path):
    reply = get(urllib.parse.quote(path, safe="/:?=%.#"))
    assert reply.status == 404 and "status, metadata and predict of half, recommender" in reply.error


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/v1/models/half:predict", "GET", None),
        ("/v1/models/half", "POST", b"{}"),
        ("/v1/models/half/metadata", "POST", b"{}"),
    ],
)
def test_a_route_takes_its_own_method(get, path, method, body):
    assert get(path, body, method, JSON).status == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(page, method):
    reply = Caller(page.port)("/v1/models/half:predict", method=method)
    assert reply.status == 501 and reply.headers["x-frame-options"] == "DENY"
    assert "html" not in reply.headers["content-type"]


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.1:9000", "localhost:1"]
)
def test_loopback_names_are_answered_at_any_forwarded_port(get, name):
    assert get("/", headers={"Host": name}).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8502",
        "",
        "127.0.0.1:",
        "localhost@evil.example",
    ],
)
def test_a_rebound_name_is_refused(get, name):
    """A website that points its own name at 127.0.0.1 reads nothing, the page itself neither."""
    for path in ("/", "/settings.json", "/v1/models/half"):
        reply = get(path, headers={"Host": name})
        assert reply.status == 421 and "Open the page by one of them" in reply.error


def raw(port, *lines, body=b""):
    """A request as it is written; the answer's status line and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        opened.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while part := opened.recv(65536):
            answer += part
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def test_two_hosts_and_none_are_refused(page):
    assert raw(page.port, "GET / HTTP/1.1", "Host: localhost", "Host: evil.example")[0] == 421
    assert raw(page.port, "GET / HTTP/1.1")[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_may_not_ask(page, headers):
    reply = Caller(page.port)("/v1/models/half:predict", {"instances": [2.0]}, headers={**JSON, **headers})
    assert reply.status == 403 and "Only the page itself" in reply.error


def test_the_page_itself_may_ask_and_a_link_may_lead_to_it(page, get):
    own = {"Origin": page.url.rstrip("/"), "Sec-Fetch-Site": "same-origin", **JSON}
    assert get("/v1/models/half:predict", {"instances": [2.0]}, headers=own).status == 200
    assert get("/", headers={"Sec-Fetch-Site": "cross-site"}).status == 200


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "text/plain, application/json"]
)
def test_what_a_form_could_send_is_refused(page, kind):
    headers = {"Content-Type": kind} if kind else {}
    reply = Caller(page.port)("/v1/models/half:predict", {"instances": [2.0]}, headers=headers)
    assert reply.status == 415


@pytest.mark.parametrize(
    ("lengths", "status"),
    [
        (["Content-Length: 99999999"], 413),
        ([f"Content-Length: {guard.MAX_BODY + 1}"], 413),
        (["Content-Length: -1"], 411),
        (["Content-Length: 2", "Content-Length: 2"], 411),
        (["Transfer-Encoding: chunked"], 411),
        ([], 411),
    ],
)
def test_a_body_has_a_length_and_a_bound(page, lengths, status):
    line = "POST /v1/models/half:predict HTTP/1.1"
    found, body = raw(
        page.port, line, "Host: localhost", "Content-Type: application/json", *lengths, body=b"{}"
    )
    assert found == status and "error" in json.loads(body)


def test_a_request_that_cannot_be_read_is_refused(page):
    assert raw(page.port, "GET / HTTP/1.1 more")[0] == 400
    assert raw(page.port, f"GET /{'a' * 70_000} HTTP/1.1", "Host: localhost")[0] == 414
    assert raw(page.port, "GET / HTTP/1.1", "Host: localhost", *(f"X-{n}: 1" for n in range(200)))[0] == 431


def test_head_has_no_body(page):
    assert raw(page.port, "HEAD / HTTP/1.1", "Host: localhost", "Connection: close") == (200, b"")


def test_a_picture_is_a_file_below_the_folder(get, pictures):
    reply = get("/pictures/a")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, PNG, "image/png")
    assert get("/pictures/a%2Fb%3Fc%23d").body == PNG
    for item in (
        "svg",
        "up",
        "absolute",
        "link",
        "folder",
        "missing",
        "nul",
        "nobody",
        "header",
        "odd host",
        "user",
    ):
        assert get(f"/pictures/{urllib.parse.quote(item)}").status == 204, item
    assert pictures.origins == ("https://img.example:8443",)


def test_a_picture_elsewhere_is_led_to(get):
    reply = get("/pictures/web")
    assert (reply.status, reply.headers["location"]) == (302, "https://img.example:8443/a.png?size=1")


def test_too_many_picture_servers_are_refused(tmp_path):
    values = {str(n): f"https://host{n}.example/a.png" for n in range(MAX_ORIGINS + 1)}
    with pytest.raises(ValueError, match=f"on {MAX_ORIGINS} servers at most. Received addresses on 51"):
        Pictures(values, tmp_path)


def test_a_silent_model_server_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with PageServer(f"http://127.0.0.1:{port}", ["half"], port=0, timeout=0.3) as page:
            assert Caller(page.port)("/v1/models/half").status == 504
    with PageServer(f"127.0.0.1:{port}", ["half"], port=0) as page:
        reply = Caller(page.port)("/v1/models/half")
        assert reply.status == 502 and "`tfrec serve` starts one" in reply.error


def test_connections_are_bounded(server):
    with PageServer(f"http://127.0.0.1:{server.rest_port}", ["half"], port=0) as page:
        held = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(server_limit())]
        try:
            for one in held:
                one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            with socket.create_connection(("127.0.0.1", page.port), timeout=5) as further:
                assert further.recv(1) == b""
        finally:
            for one in held:
                one.close()


def server_limit():
    return server.MAX_CONNECTIONS


def test_names_that_a_server_has(server):
    url = f"http://127.0.0.1:{server.rest_port}"
    assert served_names(url) == ["recommender"]
    assert served_names(url, ["half", "nothing"]) == ["half"]
    with pytest.raises(Unavailable):
        served_names("http://127.0.0.1:9", ["half"], timeout=0.2)


def test_what_cannot_be_served_is_refused():
    with pytest.raises(RequestError, match="`models` must name at least one model"):
        PageServer("http://127.0.0.1:8501", [])
    with pytest.raises(RequestError, match="must be like http://host:port"):
        PageServer("grpc://127.0.0.1:8500", ["half"], port=0)
