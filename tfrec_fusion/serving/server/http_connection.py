"""One client's connection: its requests are answered in their order, on the loop or by a thread.

Requests that are known to be quick are answered on the loop; others go to the server's pool of threads. Who
keeps the server waiting is let go of.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_writer
from tfrec_fusion.serving.server.deadline import Deadline
from tfrec_fusion.serving.server.http_messages import REASON_BYTES, REASONS, Request, TooLarge, unpack
from tfrec_fusion.serving.server.http_reading import RequestReader, Server
from tfrec_fusion.serving.server.impressions import origin_of
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler

logger = logging.getLogger(__name__)

_ORIGIN = re.compile(rb"https?://")

_DEFAULT_CONTENT_TYPE = b"text/html; charset=ISO-8859-1"
_LATE_SECONDS = 0.25
"""What a request's own answer may come after its deadline before the server answers in its place."""


class AnsweringServer(Server, Protocol):
    """What a connection knows of its server, which `RestServer` describes."""

    handler: RestHandler
    metrics: Metrics
    metrics_path: bytes | None
    cors: bytes
    date: bytes
    allow_inline: bool
    num_threads: int
    waiting: int
    pool: ThreadPoolExecutor


class Connection(RequestReader):
    """One client. Requests wait in `waiting` and are answered one after the other.

    Args:
        server: whose handler answers.
        loop: the event loop.
    """

    server: AnsweringServer

    def __init__(self, server: AnsweringServer, loop: asyncio.AbstractEventLoop):
        super().__init__(server, loop)

    def _next(self) -> None:
        while self.waiting and not (self.busy or self.closing or self.write_paused):
            request = self.waiting.popleft()
            self._hold(-len(request.body))
            self._answer(request)
            if self.unread and len(self.waiting) < self.server.limits.max_pipelined:
                self._feed_unread()
        self._pace()

    def _answer(self, request: Request) -> None:
        if request.refusal is not None:
            status, message = request.refusal
            if message is None:
                self._send_page(status, request)
            else:
                self._send(status, json_writer.encode_error(message), request)
            return
        server = self.server
        if server.handler.impressions is not None or server.handler.trials is not None:
            request.origin = origin_of(request.headers.get)
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
                status, body = handler.handle(
                    request.method, request.target, request.body, True, origin=request.origin
                )
                self._send(status, body, request)
            elif server.waiting >= server.num_threads + server.limits.max_waiting:
                message = (
                    f"{server.limits.max_waiting} requests wait already (--max_waiting). Try again later."
                )
                self._send(503, json_writer.encode_error(message), request)
            else:
                self._hand_over(request, compressed)

    def _hand_over(self, request: Request, compressed: bool) -> None:
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

    def _work(self, request: Request, compressed: bool, deadline: Deadline) -> tuple[int, bytes]:
        body = request.body
        handler, limits = self.server.handler, self.server.limits
        if compressed:
            try:
                with deadline.current():
                    body = unpack(body, limits)
            except TooLarge as error:
                return error.status, json_writer.encode_error(error.message)
            except StatusError as error:
                return error.http_status, handler.error(error.message)
        return handler.handle(request.method, request.target, body, deadline=deadline, origin=request.origin)

    def _finished(self, request: Request, future: asyncio.Future[tuple[int, bytes]]) -> None:
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
        self, status: int, body: bytes, request: Request, content_type: bytes = b"application/json"
    ) -> None:
        kind = b"Content-Type: %s\r\n" % content_type
        if request.origin is not None:
            kind += request.origin.header()
        self._write(status, kind + self.server.cors, body, request, request.keep_alive)

    def _send_metrics(self, request: Request, expected: bytes) -> None:
        if request.target == expected:
            status, text = 200, self.server.metrics.page()
        else:
            status, text = 400, f"Unexpected path: {request.target.decode()}. Should be {expected.decode()}"
        self._write(status, b"Content-Type: text/plain\r\n", text.encode(), request, request.keep_alive)

    def _send_page(self, status: int, request: Request) -> None:
        """A small page of HTML; as libevent does, the connection is closed after it."""
        reason = REASONS[status]
        body = (
            f"<HTML><HEAD>\n<TITLE>{status}"
            f" {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
        )
        self._write(status, b"Content-Type: text/html\r\n", body.encode(), request, keep_alive=False)

    def _write(self, status: int, headers: bytes, body: bytes, request: Request, keep_alive: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        keep_alive = keep_alive and not (self.ended and not (self.waiting or self.unread))
        # HTTP/1.0 closes unless both sides say otherwise; later versions stay open unless one says `close`.
        kept = b"Connection: keep-alive\r\n" if request.is_http10 else b""
        head = b"HTTP/1.%d %d %s\r\n%s%sContent-Length: %d\r\n%s\r\n" % (
            not request.is_http10,
            status,
            REASON_BYTES[status],
            headers,
            self.server.date,
            len(body),
            kept if keep_alive else b"Connection: close\r\n",
        )
        self.transport.write(head if request.method == b"HEAD" else head + body)
        if not keep_alive:
            self._forget()
            self.transport.close()

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
