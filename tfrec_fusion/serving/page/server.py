"""The HTTP server of the page: static files, pictures, and the model server's few routes that the page uses.

It listens on loopback alone and answers nobody but the page itself (`guard`). Requests to models are worded
anew and sent on, so that the model server needs no CORS headers and may be TF Serving, in Docker or
elsewhere.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import importlib.resources
import json
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.errors import ServingError
from tfrec_fusion.serving.client.http_connections import Address, Connections, HttpRequest
from tfrec_fusion.serving.page import guard
from tfrec_fusion.serving.page.contract import page_settings, sentences
from tfrec_fusion.serving.page.pictures import Pictures

DEFAULT_PORT = 8502
MODELS = ("retrieval", "recommender", "ranking")
"""The names under which `tfrec run` pushes."""

MAX_CONNECTIONS = 64
IDLE_SECONDS = 30.0
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class PageServer:
    """Serves the page until it is closed; a `with` block closes it.

    Args:
        url: address of the model server's REST API, `http://host:port` or `https://…`.
        models: names of the models to offer.
        port: 0 takes any free one.
        pictures: of the items.
        timeout: seconds that a model may take to answer.
        ssl_context: certificates, where `url` is https.

    Attributes:
        url: address of the page.

    Raises:
        RequestError: `url` is no such address, or there are no models.
        OSError: the port is taken.
    """

    def __init__(
        self,
        url: str,
        models: Iterable[str],
        *,
        port: int = DEFAULT_PORT,
        pictures: Pictures | None = None,
        timeout: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
    ):
        self.models = tuple(models)
        if not self.models:
            raise RequestError("`models` must name at least one model. Received: none.")
        self.model_url = (url if "://" in url else f"http://{url}").rstrip("/")
        self.connections = Connections(Address(self.model_url, ssl_context))
        self.pictures, self.timeout = pictures, timeout
        self.headers = guard.headers(pictures.origins if pictures else ())
        self.files = _static_files()
        settings = page_settings(self.model_url, self.models, bool(pictures))
        self.files["/settings.json"] = ("application/json", json.dumps(settings).encode())
        self._http = _Listener(("127.0.0.1", port), self)
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def prepare_explanations(self) -> threading.Thread:
        """Has each model explain an item, in the background: a version's first explanation takes seconds."""

        def ask() -> None:
            for name in self.models:
                # What it answers does not matter; a model without `explain` says so.
                with (
                    contextlib.suppress(ServingError, RequestError),
                    Client.connect(self.model_url, name, timeout=self.timeout) as client,
                ):
                    client.explain("", [""], text="warm")

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stops listening and closes the connections to the model server."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self.connections.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def served_names(url: str, names: Iterable[str] = MODELS, timeout: float = 5.0) -> list[str]:
    """Those of some models that a server has; no route of TF Serving lists them.

    Raises:
        ServingError: no server answers.
    """
    found = []
    for name in names:
        with Client.connect(url, name, timeout=timeout) as client:
            try:
                client.status()
            except ServingError as error:
                if error.code != "NOT_FOUND":
                    raise
            else:
                found.append(name)
    return found


def _static_files() -> dict[str, tuple[str, bytes]]:
    """Type and content by path."""
    folder = importlib.resources.files("tfrec_fusion.serving.page") / "static"
    files = {f"/{file.name}": file for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES}
    read = {path: (_TYPES[path.rpartition(".")[2]], file.read_bytes()) for path, file in files.items()}
    read["/"] = read.pop("/index.html")
    return read


class _Listener(http.server.ThreadingHTTPServer):
    """A thread a connection, and no more than `MAX_CONNECTIONS` of them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], page: PageServer):
        self.page = page
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser closes connections as it likes, and all else is answered in `_Handler`."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        page = self.server.page
        given: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            given.setdefault(name.lower(), []).append(value.strip())
        method = "GET" if self.command == "HEAD" else self.command
        try:
            guard.check_sender(self.path, method, given)
            if self.path in page.files and method == "GET":
                self._send(200, *page.files[self.path])
            elif self.path.startswith("/pictures/") and method == "GET":
                self._send_picture(unquote(self.path.removeprefix("/pictures/"), errors="replace"))
            elif self.path == "/sentences" and method == "POST":
                self._send_sentences(self.rfile.read(guard.body_length(given)))
            else:
                route = guard.find_route(self.path, method, page.models)
                body = self.rfile.read(guard.body_length(given)) if method == "POST" else None
                self._ask(route, body)
        except guard.Refused as refused:
            # What is left of the request is not read, and so must not be taken for the next one.
            self.close_connection = True
            self._send_error(refused.status, refused.message)

    def _ask(self, route: guard.Route, body: bytes | None) -> None:
        page = self.server.page
        start = time.perf_counter()
        try:
            request = HttpRequest(route.method, route.path, body)
            status, answer = page.connections.exchange(request, page.timeout)
        except ServingError as error:
            late = error.code == "DEADLINE_EXCEEDED"
            words = f"The model server does not answer: {error}. Is it running? `tfrec serve` starts one."
            self._send_error(504 if late else 502, words)
            return
        milliseconds = 1000 * (time.perf_counter() - start)
        self._send(status, "application/json", answer, {"Server-Timing": f"model;dur={milliseconds:.2f}"})

    def _send_sentences(self, body: bytes) -> None:
        try:
            answer = json.dumps({"sentences": sentences(json.loads(body))})
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            words = f"`outputs` must be those of a signature `explain`. Received: {error!r:.200}."
            self._send_error(400, words)
        else:
            self._send(200, "application/json", answer.encode())

    def _send_picture(self, item: str) -> None:
        pictures = self.server.page.pictures
        picture = pictures.find(item) if pictures else None
        if picture is None:
            self._send(204, "text/plain", b"")  # no error: most catalogues have gaps
        elif picture.address:
            self._send(302, "text/plain", b"", {"Location": picture.address})
        else:
            self._send(200, picture.type, picture.content, {"Cache-Control": "private, max-age=300"})

    def _send_error(self, status: int, message: str) -> None:
        self._send(status, "application/json", json.dumps({"error": message}).encode())

    def _send(self, status: int, kind: str, content: bytes, more: dict[str, str] | None = None) -> None:
        fixed = {"Content-Type": kind, "Content-Length": str(len(content))}
        if self.close_connection:
            fixed["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Error')}"]
        lines += [
            f"{name}: {value}"
            for name, value in {**self.server.page.headers, **fixed, **(more or {})}.items()
        ]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head if self.command == "HEAD" else head + content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: a request line or headers that cannot be read, another method."""
        self.close_connection = True
        self._send_error(int(code), message or "The request cannot be read.")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was looked at is nobody's business."""
