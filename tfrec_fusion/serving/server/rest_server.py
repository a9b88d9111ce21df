"""The HTTP/1.1 server under the REST API: keep-alive, pipelining, limits and time-outs over asyncio.

Parsing is httptools', the loop is uvloop's where it is installed. `http_reading` makes requests of bytes,
`http_connection` answers them.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.http_connection import Connection
from tfrec_fusion.serving.server.http_messages import CORS
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler


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
        self.cors = CORS if cors else b""
        self.limits = limits or Limits()
        self.held_bytes = 0
        self.waiting = 0
        self.num_threads = num_threads
        self.allow_inline = allow_inline
        self.connections: set[Connection] = set()
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
                lambda: Connection(self, loop),
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
