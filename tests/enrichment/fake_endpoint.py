"""An OpenAI-compatible endpoint in this process, whose answers a test decides."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass
class Reply:
    """What is sent back: a status, headers and a body, which may break off after `cut` bytes."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    cut: int | None = None


def says(
    text: str | None, finish: str = "stop", read: int | None = 20, written: int | None = 10, **message: Any
):
    """A chat completion."""
    usage = {} if read is None else {"usage": {"prompt_tokens": read, "completion_tokens": written}}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    return Reply(body={"object": "chat.completion", "choices": [choice], **usage})


class FakeEndpoint:
    """Keeps the requests that came, and answers each by `answer(request, number)`, number from 0."""

    def __init__(self, answer: Callable[[dict, int], Reply | str]):
        self.answer, self.requests, self.headers = answer, [], []
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self._send(Reply(body={"data": [{"id": "writer"}, {"id": "other"}]}))

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    number = len(fake.requests)
                    fake.requests.append(request)
                    fake.headers.append(dict(self.headers))
                    fake.at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake.at_once)
                try:
                    reply = fake.answer(request, number)
                finally:
                    with fake.lock:
                        fake.at_once -= 1
                self._send(says(reply) if isinstance(reply, str) else reply)

            def _send(self, reply: Reply) -> None:
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                with contextlib.suppress(OSError):
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body if reply.cut is None else body[: reply.cut])
                    if reply.cut is not None:
                        self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def told(self) -> list[str]:
        """The records that were sent."""
        return [request["messages"][1]["content"] for request in self.requests]


@contextlib.contextmanager
def serving(answer: Callable[[dict, int], Reply | str]) -> Iterator[FakeEndpoint]:
    """A running endpoint."""
    fake = FakeEndpoint(answer)
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.server.shutdown()
        fake.server.server_close()
        thread.join()
