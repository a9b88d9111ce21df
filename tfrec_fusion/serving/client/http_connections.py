"""HTTP/1.1 connections of the clients, kept and reused, with a limit on the whole of each exchange.

Written by hand for its speed: over httpx 0.28 one client asks 1,344 times a second where it asks 3,061 times
so, and one async client 708 times where it asks 4,533 times; the client's own work is 372 µs for 104, and 667
µs for 74 (`python -m benchmarks.clients`, 29 November 2026, 2 cores that had other work too; figures of one
run, in turns). It speaks to model servers and their balancers: no redirects, cookies, proxies or HTTP/2.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.client.errors import Unavailable, too_late

MAX_IDLE = 16
"""Connections that are kept while nobody uses them."""


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    """One HTTP request; `path` is absolute, `body` is None for GET."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Address:
    """Where a server is, and how requests are worded for it.

    Args:
        url: `http://host:port/prefix` or `https://…`; without a scheme, `http`.
        ssl_context: certificates, for https.

    Raises:
        RequestError: the URL is of another form.
    """

    def __init__(self, url: str, ssl_context: ssl.SSLContext | None = None):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:  # not a number
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise RequestError(f"`url` must be like http://host:port. Received: {url!r}.")
        tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if tls else 80)
        self.prefix = parts.path.rstrip("/")
        self.netloc = parts.netloc
        self.ssl_context = (ssl_context or ssl.create_default_context()) if tls else None

    def headers(self, request: HttpRequest) -> dict[str, str]:
        """All headers of a request."""
        headers = {"Host": self.netloc, "Accept": "application/json", **request.headers}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(request.body))
        return headers

    def unreachable(self, error: BaseException) -> Unavailable:
        return Unavailable("UNAVAILABLE", f"{self.netloc} cannot be reached: {error}")


class Connections:
    """Connections for blocking exchanges; any number of threads may share them."""

    def __init__(self, address: Address):
        self._address = address
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def exchange(self, request: HttpRequest, seconds: float) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ServingError: UNAVAILABLE where no server answers, DEADLINE_EXCEEDED where the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise too_late(seconds)
            connection, reused = self._take(left)
            begun = False
            try:
                path, headers = self._address.prefix + request.path, self._address.headers(request)
                connection.request(request.method, path, body=request.body, headers=headers)
                response = connection.getresponse()
                begun = True
                body = response.read()
            except TimeoutError:
                connection.close()
                raise too_late(seconds) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if reused and not begun:  # the server had closed it while it idled; that is no failure yet
                    continue
                raise self._address.unreachable(error) from error
            except BaseException:
                # Interrupted half way: the rest of the answer must not meet another request.
                connection.close()
                raise
            self._give(connection, keep=not response.will_close)
            return response.status, body

    def _take(self, seconds: float) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            return connection, True
        address = self._address
        if address.ssl_context is None:
            return http.client.HTTPConnection(address.host, address.port, timeout=seconds), False
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=seconds, context=address.ssl_context
        ), False

    def _give(self, connection: http.client.HTTPConnection, keep: bool) -> None:
        with self._lock:
            if keep and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class AsyncConnections:
    """The same for asyncio. Connections belong to the loop they were opened in; another loop begins anew."""

    def __init__(self, address: Address):
        self._address = address
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, request: HttpRequest, seconds: float) -> tuple[int, bytes]:
        """As `Connections.exchange`."""
        try:
            return await asyncio.wait_for(self._exchange(request), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise too_late(seconds) from None

    async def _exchange(self, request: HttpRequest) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._idle, self._loop = [], loop
        address = self._address
        head = f"{request.method} {address.prefix}{request.path} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in address.headers(request).items()
        )
        while True:
            reused = bool(self._idle)
            writer: asyncio.StreamWriter | None = None
            try:
                if reused:
                    reader, writer = self._idle.pop()
                else:
                    reader, writer = await asyncio.open_connection(
                        address.host, address.port, ssl=address.ssl_context
                    )
                writer.write(head.encode() + b"\r\n" + (request.body or b""))
                await writer.drain()
                status, body, keep = await _read_response(reader)
            except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
                if writer is not None:
                    writer.close()
                if isinstance(error, TimeoutError):
                    raise
                if reused:
                    continue
                raise address.unreachable(error) from error
            except BaseException:
                if writer is not None:
                    writer.close()  # cancelled half way: the rest of the answer must not meet another request
                raise
            if keep and len(self._idle) < MAX_IDLE:
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
    """Status, body, and whether the connection may be kept."""
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
