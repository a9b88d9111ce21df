"""The HTTP/1.1 server under the REST API: keep-alive, pipelining, limits and time-outs over asyncio.

Parsing is httptools', the loop is uvloop's where it is installed. Requests that are known to be quick are
answered on the loop; others go to a pool of threads, and a connection's answers leave in the order of its
requests.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import http
import logging
import math
import re
import ssl
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import cast

import httptools

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_writer
from tfrec_fusion.serving.server.deadline import Deadline
from tfrec_fusion.serving.server.deadline import check as check_deadline
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler

logger = logging.getLogger(__name__)

_ORIGIN = re.compile(rb"https?://")

# A request's target as libevent reads it (RFC 3986): a scheme and an authority may come first, and are not
# looked at.
_ESCAPED = rb"%[0-9A-Fa-f]{2}"
_SCHEME = rb"[A-Za-z][A-Za-z0-9+.-]*:"
_USER = rb"(?:(?:[!$&-.0-;=A-Z_a-z~]|" + _ESCAPED + rb")*@)?"
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[!$&-.0-9;=A-Z_a-z~]|" + _ESCAPED + rb")*)"
_AUTHORITY = rb"//" + _USER + _HOST + rb"(?::[0-9]*)?(?=[/?#]|\Z)"
_IN_A_PATH = rb"(?:[!$&-;=@-Z_a-z~]|" + _ESCAPED + rb")*"
_IN_A_QUERY = rb"(?:[!$&-;=?-Z_a-z~]|" + _ESCAPED + rb")*"
_TARGET = re.compile(
    rb"(?:(?:" + _SCHEME + rb")?" + _AUTHORITY + rb"|" + _SCHEME + rb"(?!//)|(?!//|[^/?#]*:))"
    rb"(" + _IN_A_PATH + rb"(?:\?" + _IN_A_QUERY + rb")?(?:#" + _IN_A_QUERY + rb")?)"
)
_CORS = (
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: POST, GET\r\n"
    b"Access-Control-Allow-Headers: Content-Type\r\n"
)
_KNOWN_METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
# libevent, whose HTTP server TF Serving is built on, has words of its own for some statuses and none for
# others.
_REASONS = {status.value: status.phrase for status in http.HTTPStatus} | {
    429: "Client Error",
    499: "Client Error",
    504: "Gateway Time-out",
}
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/1")
_DEFAULT_CONTENT_TYPE = b"text/html; charset=ISO-8859-1"
_SLICE = 16 * 1024
"""Bytes that are parsed at a time, so that a burst of tiny requests is not unpacked before its turn."""
_LONG_PATH = 512
_FREE_EXPANSION = 1024 * 1024
_LATE_SECONDS = 0.25
"""What a request's own answer may come after its deadline before the server answers in its place."""


class RestServer:
    """Serves the REST API on one address, inside a running event loop.

    Args:
        handler: answers requests under `/v1/`.
        metrics: the page under `metrics_path`.
        metrics_path: path of the Prometheus page, or None for no page.
        cors: whether answers carry CORS headers.
        limits: see `Limits`.
        num_threads: threads for requests that are not quick.
        allow_inline: whether quick requests may be answered on the loop.
    """

    def __init__(
        self,
        handler: RestHandler,
        metrics: Metrics,
        *,
        metrics_path: str | None = None,
        cors: bool = False,
        limits: Limits | None = None,
        num_threads: int = 8,
        allow_inline: bool = True,
    ):
        self.handler = handler
        self.metrics = metrics
        self.metrics_path = metrics_path.encode() if metrics_path else None
        self.cors = _CORS if cors else b""
        self.limits = limits or Limits()
        self.held_bytes = 0
        self.waiting = 0
        self.num_threads = num_threads
        self.allow_inline = allow_inline
        self.connections: set[_Connection] = set()
        self.pool = ThreadPoolExecutor(num_threads, thread_name_prefix="rest")
        self.date = b""
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Binds and accepts; returns the port, which the system chooses where 0 is given.

        Raises:
            StatusError: UNAVAILABLE where the port cannot be bound.
        """
        self._refresh_date()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self, loop),
                host,
                port,
                ssl=tls,
                backlog=1024,
                ssl_handshake_timeout=None if tls is None else 10.0,
            )
        except OSError as error:
            message = f"Failed to bind the REST API to {host}:{port}: {error.strerror or error}"
            raise StatusError("UNAVAILABLE", message) from None
        self._sweeper = loop.create_task(self._sweep())
        return self._server.sockets[0].getsockname()[1]

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Stops accepting, lets requests in work finish within the grace (`drain_seconds`), closes what is
        left."""
        if grace_seconds is None:
            grace_seconds = self.limits.drain_seconds
        if self._server is not None:
            self._server.close()
        deadline = time.monotonic() + grace_seconds
        while any(connection.busy for connection in self.connections) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            self._refresh_date()
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check_time(now)

    def _refresh_date(self) -> None:
        self.date = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"


@dataclasses.dataclass
class _Request:
    method: bytes
    target: bytes
    body: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool
    is_http10: bool = False
    refusal: tuple[int, str | None] | None = None
    reading_seconds: float = 0.0


class _Connection(asyncio.Protocol):
    """One client. Requests wait in `waiting` and are answered one after the other."""

    def __init__(self, server: RestServer, loop: asyncio.AbstractEventLoop):
        self.server = server
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: collections.deque[_Request] = collections.deque()
        self.busy = False
        self.closing = False
        self.ended = False
        self.refused = False
        self.receiving = False
        self.write_paused = False
        self.read_paused = False
        self.since = self.began = time.monotonic()
        self.head_bytes = 0
        self.wire_bytes = 0
        self.in_body = False
        self.unread = b""
        self.held = 0
        self.deadline: Deadline | None = None
        self.pending: _Request | None = None
        self._begin()

    def _begin(self) -> None:
        self.expects_to_go_on = self.expects_too_much = False
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body: bytes | bytearray = b""
        self.body_bytes = 0
        self.wire_bytes = 0

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if len(self.server.connections) >= self.server.limits.max_connections:
            self.abort()
            return
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        if self.deadline is not None:
            self.deadline.cancel()
        self.server.connections.discard(self)

    def _forget(self) -> None:
        """Lets go of what was read and is no longer answered."""
        self.closing = True
        self.waiting.clear()
        self.body = self.unread = b""
        self._hold(-self.held)

    def _hold(self, size: int) -> None:
        self.held += size
        self.server.held_bytes += size

    def eof_received(self) -> bool:
        # A client that has sent all it wants to send (`nc -N` does so) still reads its answers.
        self.ended = True
        return bool(self.busy or self.waiting)

    def pause_writing(self) -> None:
        self.write_paused = True
        self.since = time.monotonic()
        self._pace()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.since = time.monotonic()
        self._pace()
        self._next()

    def data_received(self, data: bytes) -> None:
        if self.unread:
            self.unread += data  # it was on its way when reading paused
        elif len(data) <= _SLICE:
            self._feed(data)
        else:
            self.unread = data
            self._feed_unread()

    def _feed_unread(self) -> None:
        data, at, self.unread = self.unread, 0, b""
        while at < len(data) and len(self.waiting) < self.server.limits.max_pipelined:
            self._feed(data[at : at + _SLICE])
            at += _SLICE
        if not (self.closing or self.refused):
            self.unread = data[at:]
        self._pace()

    def _feed(self, data: bytes) -> None:
        if self.closing or self.refused:
            return
        if not self.receiving:
            self.since = self.began = time.monotonic()
        self.receiving = True
        if self.in_body:
            self.wire_bytes += len(data)
        else:
            self.head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501 if _REQUEST_LINE.search(data) else 400)
        except httptools.HttpParserUpgrade:
            # Nothing here can be upgraded to (`curl --http2` asks for it); the request is answered, and what
            # follows it is no longer HTTP/1.1 to the parser.
            self.refused = True
            if self.waiting:
                self.waiting[-1].keep_alive = False
        except _TooLarge as error:
            self._refuse(error.status, error.message)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _TooLarge):
                self._refuse(cause.status, cause.message)
            else:
                self._refuse(400)
        else:
            if self.expects_to_go_on:
                # Who sends a body with its head does not wait for the word.
                self.expects_to_go_on = False
                if self.in_body and not self.body_bytes and not (self.busy or self.waiting):
                    cast(asyncio.Transport, self.transport).write(b"HTTP/1.1 100 Continue\r\n\r\n")
            limit = self.server.limits.max_header_bytes
            if self.receiving and (
                self.head_bytes > limit
                if not self.in_body
                # Sizes of chunks, their extensions and the trailers; the smallest chunk takes six bytes for
                # one.
                else self.wire_bytes - 8 * self.body_bytes > limit
            ):
                self._refuse(431)
        self._next()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self.receiving = True
        self.began = time.monotonic()
        self._begin()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.in_body = True
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.server.limits.max_body_bytes:
            raise self._too_large()
        expected = self.headers.get(b"expect", b"").lower()
        if expected and length != b"0" and (length or b"transfer-encoding" in self.headers):
            version = self.parser.get_http_version()
            self.expects_to_go_on = version == "1.1" and expected == b"100-continue"
            self.expects_too_much = version == "1.1" and expected != b"100-continue"

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        limits = self.server.limits
        if self.body_bytes > limits.max_body_bytes:
            raise self._too_large()
        if self.server.held_bytes + len(body) > limits.max_held_bytes:
            raise _TooLarge(
                503,
                f"The bodies that the server holds have {limits.max_held_bytes} bytes (--max_held_bytes). Try"
                " again later.",
            )
        self._hold(len(body))
        if not self.body:
            self.body = body
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += body

    def on_message_complete(self) -> None:
        now = time.monotonic()
        target = _path(self.target) if len(self.target) <= _LONG_PATH else _path.__wrapped__(self.target)
        request = _Request(
            self.parser.get_method(),
            target or b"",
            bytes(self.body),
            self.headers,
            self.parser.should_keep_alive(),
            self.parser.get_http_version() == "1.0",
            self._refusal(target),
            reading_seconds=now - self.began,
        )
        self.receiving = self.in_body = False
        self.head_bytes = 0
        self.body = b""
        self.since = now
        self.waiting.append(request)
        self._pace()

    def _refusal(self, target: bytes | None) -> tuple[int, None] | None:
        """The page that libevent answers a request with that it does not hand on; None for others."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            return 400, None
        if self.expects_too_much:
            return 417, None
        if self.parser.get_method() not in _KNOWN_METHODS:
            return 501, None
        return (400, None) if target is None else None

    def _too_large(self) -> _TooLarge:
        limit = self.server.limits.max_body_bytes
        return _TooLarge(413, f"The request's body is larger than the limit of {limit} bytes.")

    # Answering

    def _pace(self) -> None:
        """Stops reading while the client owes us a read or has sent many requests ahead."""
        pause = (
            self.write_paused or bool(self.unread) or len(self.waiting) >= self.server.limits.max_pipelined
        )
        if self.transport is None or self.transport.is_closing() or pause == self.read_paused:
            return
        self.read_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _next(self) -> None:
        while self.waiting and not (self.busy or self.closing or self.write_paused):
            request = self.waiting.popleft()
            self._hold(-len(request.body))
            self._answer(request)
            if self.unread and len(self.waiting) < self.server.limits.max_pipelined:
                self._feed_unread()
        self._pace()

    def _answer(self, request: _Request) -> None:
        if request.refusal is not None:
            status, message = request.refusal
            if message is None:
                self._send_page(status, request)
            else:
                self._send(status, json_writer.encode_error(message), request)
            return
        server = self.server
        path = re.split(b"[?#]", request.target, maxsplit=1)[0]
        if server.metrics_path is not None and path == server.metrics_path:
            self._send_metrics(request, server.metrics_path)
        elif request.target[:4].lower() != b"/v1/":
            self._write(404, b"Content-Type: text/html\r\n", b"", request, keep_alive=False)
        elif request.method == b"OPTIONS":
            status = 200 if _ORIGIN.search(request.headers.get(b"origin", b"")) else 400
            self._send(status, b"", request, content_type=_DEFAULT_CONTENT_TYPE)
        else:
            compressed = b"gzip" in request.headers.get(b"content-encoding", b"")
            handler, inline = server.handler, server.allow_inline and not compressed
            if inline and handler.is_quick(request.method, request.target, request.body):
                status, body = handler.handle(request.method, request.target, request.body, True)
                self._send(status, body, request)
            elif server.waiting >= server.num_threads + server.limits.max_waiting:
                message = (
                    f"{server.limits.max_waiting} requests wait already (--max_waiting). Try again later."
                )
                self._send(503, json_writer.encode_error(message), request)
            else:
                self._hand_over(request, compressed)

    def _hand_over(self, request: _Request, compressed: bool) -> None:
        """Gives a request to a thread, with the time that reading it has left."""
        server = self.server
        seconds = server.handler.timeout_ms / 1e3 or math.inf
        deadline = self.deadline = Deadline(seconds - request.reading_seconds)
        self.busy = True
        server.waiting += 1
        size = len(request.body)
        server.held_bytes += size
        work = functools.partial(self._work, request, compressed, deadline)

        def finished(future: asyncio.Future[tuple[int, bytes]]) -> None:
            server.waiting -= 1
            server.held_bytes -= size
            if self.deadline is deadline:  # else it was answered in its place
                self._finished(request, future)

        self.pending = request
        self.loop.run_in_executor(server.pool, work).add_done_callback(finished)

    def _work(self, request: _Request, compressed: bool, deadline: Deadline) -> tuple[int, bytes]:
        body = request.body
        handler, limits = self.server.handler, self.server.limits
        if compressed:
            try:
                with deadline.current():
                    body = _gunzip(body, limits)
            except _TooLarge as error:
                return error.status, json_writer.encode_error(error.message)
            except StatusError as error:
                return error.http_status, handler.error(error.message)
        return handler.handle(request.method, request.target, body, deadline=deadline)

    def _finished(self, request: _Request, future: asyncio.Future[tuple[int, bytes]]) -> None:
        self.busy = False
        self.deadline = None
        if self.closing or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            logger.error("Answering %r failed.", request.target, exc_info=error)
            status, body = 500, self.server.handler.error(str(error))
        else:
            status, body = future.result()
        self._send(status, body, request)
        self._next()

    def _send(
        self, status: int, body: bytes, request: _Request, content_type: bytes = b"application/json"
    ) -> None:
        kind = b"Content-Type: %s\r\n" % content_type
        self._write(status, kind + self.server.cors, body, request, request.keep_alive)

    def _send_metrics(self, request: _Request, expected: bytes) -> None:
        if request.target == expected:
            status, text = 200, self.server.metrics.page()
        else:
            status, text = 400, f"Unexpected path: {request.target.decode()}. Should be {expected.decode()}"
        self._write(status, b"Content-Type: text/plain\r\n", text.encode(), request, request.keep_alive)

    def _send_page(self, status: int, request: _Request) -> None:
        """A small page of HTML; as libevent does, the connection is closed after it."""
        reason = _REASONS[status]
        body = (
            f"<HTML><HEAD>\n<TITLE>{status}"
            f" {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
        )
        self._write(status, b"Content-Type: text/html\r\n", body.encode(), request, keep_alive=False)

    def _write(self, status: int, headers: bytes, body: bytes, request: _Request, keep_alive: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        keep_alive = keep_alive and not (self.ended and not (self.waiting or self.unread))
        # HTTP/1.0 closes unless both sides say otherwise; later versions stay open unless one says `close`.
        kept = b"Connection: keep-alive\r\n" if request.is_http10 else b""
        head = b"HTTP/1.%d %d %s\r\n%s%sContent-Length: %d\r\n%s\r\n" % (
            not request.is_http10,
            status,
            _REASON_BYTES[status],
            headers,
            self.server.date,
            len(body),
            kept if keep_alive else b"Connection: close\r\n",
        )
        self.transport.write(head if request.method == b"HEAD" else head + body)
        if not keep_alive:
            self._forget()
            self.transport.close()

    def _refuse(self, status: int, message: str | None = None) -> None:
        """Answers what cannot be read as a request, and closes: where the next one begins is unknown."""
        self.receiving = False
        self.refused = True
        self._hold(-len(self.body))
        self.body = self.unread = b""
        self.waiting.append(_Request(b"", b"", b"", {}, False, refusal=(status, message)))

    def check_time(self, now: float) -> None:
        """Closes a connection whose client has kept us waiting for too long, and answers what is overdue."""
        limits = self.server.limits
        waited = now - self.since
        if self.busy:
            if self.deadline is not None and self.deadline.left() < -_LATE_SECONDS:
                self._give_up()
        elif self.write_paused:
            if waited > limits.write_seconds:
                self.abort()
        elif self.receiving:
            seconds = limits.read_seconds + self.body_bytes / limits.min_bytes_per_second
            if now - self.began > seconds:
                self.abort()
        elif waited > limits.idle_seconds:
            self.abort()

    def _give_up(self) -> None:
        """Answers in place of a thread that is late; what it works on ends at its next check."""
        assert self.deadline is not None
        assert self.pending is not None
        self.deadline.cancel()
        self.deadline = None
        self.busy = False
        message = "Timed out before the request was answered"
        self._send(504, json_writer.encode_error(message), self.pending)
        self._next()

    def abort(self) -> None:
        self._forget()
        if self.deadline is not None:
            self.deadline.cancel()
        if self.transport is not None:
            self.transport.abort()


@functools.lru_cache(maxsize=256)
def _path(target: bytes) -> bytes | None:
    """The path of a request's target with its query and fragment, or None where it is no URI."""
    match = _TARGET.fullmatch(target)
    return None if match is None else match[1]


_REASON_BYTES = {status: reason.encode() for status, reason in _REASONS.items()}


class _TooLarge(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


def _gunzip(body: bytes, limits: Limits) -> bytes:
    """The plain body; empty where it is not one gzip stream, as TF Serving has it.

    Raises:
        _TooLarge: it outgrows `max_body_bytes` or `max_expansion`.
        StatusError: the time is up.
    """
    longest = min(limits.max_body_bytes, max(_FREE_EXPANSION, limits.max_expansion * len(body)))
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    parts, size, rest = [], 0, body
    try:
        while not inflater.eof:
            check_deadline()
            part = inflater.decompress(rest, min(_FREE_EXPANSION, longest + 1 - size))
            rest = inflater.unconsumed_tail
            if not part:
                return b""
            parts.append(part)
            size += len(part)
            if size > longest:
                raise _TooLarge(413, _too_long(longest, limits))
    except zlib.error:
        return b""
    return b"" if inflater.unused_data else b"".join(parts)


def _too_long(longest: int, limits: Limits) -> str:
    if longest == limits.max_body_bytes:
        return f"The request's body is larger than the limit of {longest} bytes."
    return (
        f"The request's body unpacks to more than {limits.max_expansion} times its size (--max_expansion)."
        " Send it plain."
    )
