"""HTTP/1.1 for clients: kept connections, deadlines, and retries of what is safe to send again.

Predictions change nothing on the server, so a request whose connection failed, or that was turned away with 503
or 429, is sent again after a random pause (full jitter). A request that ran out of time is not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tfrec_fusion.serving.client.calls import ServingError
from tfrec_fusion.serving.protocol.status import HTTP_STATUS

_CODES = {
    400: "INVALID_ARGUMENT",
    409: "ABORTED",
    **{status: code for code, status in HTTP_STATUS.items() if status not in (400, 409)},
}
_RETRIED_STATUS = (429, 503)


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Attributes:
        retries: tries after the first.
        base_seconds: the longest pause before the first retry; it doubles with each.
        max_seconds: the longest pause.
    """

    retries: int = 2
    base_seconds: float = 0.05
    max_seconds: float = 2.0

    def pause(self, attempt: int) -> float:
        """A random pause before retry number `attempt` (0 for the first)."""
        return random.uniform(0, min(self.max_seconds, self.base_seconds * 2**attempt))


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request; `path` is absolute, `body` is None for GET."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def all_headers(self, host: str) -> dict[str, str]:
        headers = {"Host": host, "Accept": "application/json", **self.headers}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(self.body))
        return headers


class _Unreachable(Exception):
    """The connection failed before an answer began."""


class _Endpoint:
    def __init__(self, url: str, ssl_context: ssl.SSLContext | None, max_idle: int):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`url` must be like http://host:port. Received: {url!r}.")
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.prefix = parts.path.rstrip("/")
        self.netloc = parts.netloc
        self.ssl_context = (ssl_context or ssl.create_default_context()) if self.tls else None
        self.max_idle = max_idle

    def unreachable(self, error: BaseException) -> ServingError:
        return ServingError("UNAVAILABLE", f"{self.netloc} cannot be reached: {error}")


def read_json(status: int, body: bytes) -> Any:
    """The answer's JSON, NaN and Infinity included.

    Raises:
        ServingError: the status is an error's; carries the server's message.
    """
    if status != 200:
        raise ServingError(_CODES.get(status, "INTERNAL"), _message(body, status), status)
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ServingError("INTERNAL", f"The server's answer is not JSON: {error}", status) from None


def _message(body: bytes, status: int) -> str:
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip() or f"HTTP status {status}"
    # Vertex AI wraps errors in an object of its own.
    return message["message"] if isinstance(message, dict) and "message" in message else str(message)


class SyncTransport:
    """Sends requests and waits for answers; any number of threads may share one."""

    def __init__(
        self,
        url: str,
        timeout: float,
        retry: RetryPolicy,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 16,
    ):
        self._endpoint = _Endpoint(url, ssl_context, max_idle)
        self.timeout = timeout
        self.retry = retry
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def send(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ServingError: UNAVAILABLE where no server answers, DEADLINE_EXCEEDED where the time is up.
        """
        deadline = time.monotonic() + self.timeout
        for attempt in range(self.retry.retries + 1):
            last = attempt == self.retry.retries
            try:
                status, body = self._once(request, deadline)
                if last or status not in _RETRIED_STATUS:
                    return status, body
            except _Unreachable as error:
                if last:
                    raise self._endpoint.unreachable(error.__cause__ or error) from error
            pause = self.retry.pause(attempt)
            if time.monotonic() + pause >= deadline:
                raise _too_late(self.timeout)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _once(self, request: Request, deadline: float) -> tuple[int, bytes]:
        while True:
            connection, reused = self._take(deadline)
            try:
                headers = request.all_headers(self._endpoint.netloc)
                connection.request(
                    request.method, self._endpoint.prefix + request.path, body=request.body, headers=headers
                )
                response = connection.getresponse()
            except TimeoutError:
                connection.close()
                raise _too_late(self.timeout) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if reused:  # the server had closed it while it idled; that is no failure yet
                    continue
                raise _Unreachable from error
            try:
                body = response.read()
            except TimeoutError:
                connection.close()
                raise _too_late(self.timeout) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise _Unreachable from error
            self._give(connection, keep=not response.will_close)
            return response.status, body

    def _take(self, deadline: float) -> tuple[http.client.HTTPConnection, bool]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _too_late(self.timeout)
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if connection.sock is not None:
                connection.sock.settimeout(left)
            return connection, True
        endpoint = self._endpoint
        if endpoint.tls:
            return http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=left, context=endpoint.ssl_context
            ), False
        return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=left), False

    def _give(self, connection: http.client.HTTPConnection, keep: bool) -> None:
        with self._lock:
            if keep and len(self._idle) < self._endpoint.max_idle:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _too_late(timeout: float) -> ServingError:
    return ServingError("DEADLINE_EXCEEDED", f"No answer within {timeout} seconds")


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AsyncTransport:
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        timeout: float,
        retry: RetryPolicy,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 16,
    ):
        self._endpoint = _Endpoint(url, ssl_context, max_idle)
        self.timeout = timeout
        self.retry = retry
        self._idle: list[_Streams] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request) -> tuple[int, bytes]:
        """As `SyncTransport.send`."""
        try:
            return await asyncio.wait_for(self._with_retries(request), self.timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise _too_late(self.timeout) from None

    async def _with_retries(self, request: Request) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections belong to the loop that they were opened in
            self._idle, self._loop = [], loop
        for attempt in range(self.retry.retries + 1):
            last = attempt == self.retry.retries
            try:
                status, body = await self._once(request)
                if last or status not in _RETRIED_STATUS:
                    return status, body
            except _Unreachable as error:
                if last:
                    raise self._endpoint.unreachable(error.__cause__ or error) from error
            await asyncio.sleep(self.retry.pause(attempt))
        raise AssertionError("unreachable")

    async def _once(self, request: Request) -> tuple[int, bytes]:
        while True:
            reused = bool(self._idle)
            endpoint = self._endpoint
            writer: asyncio.StreamWriter | None = None
            try:
                if reused:
                    reader, writer = self._idle.pop()
                else:
                    reader, writer = await asyncio.open_connection(
                        endpoint.host, endpoint.port, ssl=endpoint.ssl_context
                    )
                head = f"{request.method} {endpoint.prefix}{request.path} HTTP/1.1\r\n" + "".join(
                    f"{name}: {value}\r\n" for name, value in request.all_headers(endpoint.netloc).items()
                )
                writer.write(head.encode() + b"\r\n" + (request.body or b""))
                await writer.drain()
                status, body, keep = await _read_response(reader)
            except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
                if writer is not None:
                    writer.close()
                if reused:
                    continue
                raise _Unreachable from error
            except BaseException:
                if writer is not None:
                    writer.close()  # cancelled half way: the rest of the answer must not meet another request
                raise
            if keep and len(self._idle) < endpoint.max_idle:
                self._idle.append((reader, writer))
            else:
                writer.close()
            return status, body

    async def close(self) -> None:
        """Closes idle connections."""
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()


async def _read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    version, status = head[0].split(b" ", 2)[:2]
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    keep = version != b"HTTP/1.0" and headers.get(b"connection") != b"close"
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        chunks = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            pass
        return int(status), b"".join(chunks), keep
    if b"content-length" in headers:
        return int(status), await reader.readexactly(int(headers[b"content-length"])), keep
    return int(status), await reader.read(), False
