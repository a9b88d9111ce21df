"""Clients against a server that fails: what is sent again, how often, and for how long."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving.blocking import Blocking
from tfrec_fusion.serving import (
    AsyncClient,
    Client,
    RetryPolicy,
)
from tfrec_fusion.serving.client import errors


class Flaky:
    """A server that answers from a script: a status, or `None` to drop the connection."""

    def __init__(self, script):
        self.script = list(script)
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests += 1
                step = outer.script.pop(0) if outer.script else 200
                if step is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                if step == "slow":
                    time.sleep(1.0)
                    step = 200
                body = json.dumps({"outputs": 1} if step == 200 else {"error": "busy"}).encode()
                if isinstance(step, bytes):
                    body, step = step, 200
                self.send_response(step)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *arguments: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()


QUICK = RetryPolicy(retries=2, base_seconds=0.01)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("script", "outcome", "requests"),
    [
        ([503, 429, 200], 1, 3),
        ([None, 200], 1, 2),
        ([503] * 5, errors.Unavailable, 3),
        ([400], errors.InvalidRequest, 1),
        ([500], errors.ServerFailure, 1),
        ([b"<html>"], errors.ServerFailure, 1),
        ([b'{"ok": 1}'], errors.ServerFailure, 1),
        ([b"[1]"], errors.ServerFailure, 1),
        (["slow"], errors.AnswerTimeout, 1),
    ],
)
def test_only_what_is_safe_to_send_again_is(is_async, script, outcome, requests):
    with Flaky(script) as flaky:
        client = Client.connect(flaky.url, retry=QUICK, timeout=0.5)
        if is_async:
            client = Blocking(AsyncClient.connect(flaky.url, retry=QUICK, timeout=0.5))
        if outcome == 1:
            assert client.predict([1]) == 1
        else:
            with pytest.raises(outcome) as caught:
                client.predict([1])
            assert type(caught.value) is outcome
        assert flaky.requests == requests
        client.close()


def test_pauses_end_before_the_time_is_up():
    with Flaky([503] * 5) as flaky:
        start = time.monotonic()
        policy = RetryPolicy(retries=100, base_seconds=5.0, max_seconds=5.0)
        with pytest.raises(errors.Unavailable):
            Client.connect(flaky.url, retry=policy, timeout=0.3).predict([1])
        assert time.monotonic() - start < 2
    with pytest.raises(errors.RequestError, match="`max_seconds` must be at least 0"):
        RetryPolicy(max_seconds=-1)
