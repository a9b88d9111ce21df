"""One client's bytes become requests: pipelining, limits and refusals, over httptools."""

from __future__ import annotations

import asyncio
import collections
import re
import time
from typing import Any, Protocol, cast

import httptools

from tfrec_fusion.serving.server.deadline import Deadline
from tfrec_fusion.serving.server.http_messages import KNOWN_METHODS, Request, TooLarge, path_of
from tfrec_fusion.serving.server.limits import Limits

_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/1")
_SLICE = 16 * 1024
"""Bytes that are parsed at a time, so that a burst of tiny requests is not unpacked before its turn."""
_LONG_PATH = 512


class Server(Protocol):
    """What the reader of a connection knows of its server.

    Attributes:
        limits: hold for each connection, and for all together.
        held_bytes: of all bodies that are not answered yet.
        connections: those that are open.
    """

    limits: Limits
    held_bytes: int
    connections: set[Any]


class RequestReader(asyncio.Protocol):
    """Reads one client's requests into `waiting`; a subclass answers them.

    Args:
        server: whose limits hold, and whose counts of held bytes and connections it keeps.
        loop: the event loop.
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop):
        self.server = server
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: collections.deque[Request] = collections.deque()
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
        self.pending: Request | None = None
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
        except TooLarge as error:
            self._refuse(error.status, error.message)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, TooLarge):
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
            raise TooLarge(
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
        target = path_of(self.target) if len(self.target) <= _LONG_PATH else path_of.__wrapped__(self.target)
        request = Request(
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
        if self.parser.get_method() not in KNOWN_METHODS:
            return 501, None
        return (400, None) if target is None else None

    def _too_large(self) -> TooLarge:
        limit = self.server.limits.max_body_bytes
        return TooLarge(413, f"The request's body is larger than the limit of {limit} bytes.")

    # What a subclass and the server use

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

    def _refuse(self, status: int, message: str | None = None) -> None:
        """Answers what cannot be read as a request, and closes: where the next one begins is unknown."""
        self.receiving = False
        self.refused = True
        self._hold(-len(self.body))
        self.body = self.unread = b""
        self.waiting.append(Request(b"", b"", b"", {}, False, refusal=(status, message)))

    def abort(self) -> None:
        self._forget()
        if self.deadline is not None:
            self.deadline.cancel()
        if self.transport is not None:
            self.transport.abort()

    def _next(self) -> None:
        """Answers what waits, as far as it may be answered now."""
        raise NotImplementedError
