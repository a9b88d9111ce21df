"""gRPC's health service (`grpc.health.v1.Health`): Check and Watch for the server as a whole.

TF Serving switches on gRPC's own with `--enable_grpc_healthcheck_service`: the empty service name and those
of its two services are SERVING from the moment the port is open until the server shuts down, and any other
name is unknown. `grpcio-health-checking` does this, but leaves watches open when the server shuts down, which
would use up its grace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_MAX_WATCHES = 100
"""Watches take none of the threads, but do count among the calls that gRPC takes at a time."""
_KNOWN = ("", "ModelService", "PredictionService")
_UNKNOWN = HealthCheckRequest(service="unknown")


class HealthService(health.HealthServicer):
    """The health service of one server, which ends every Watch at `shut_down`; a Watch holds no thread."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[Callable[[Any], None]] = set()
        self._watches_lock = threading.Lock()
        self._stopped = False
        for name in _KNOWN:
            self.set(name, HealthCheckResponse.SERVING)

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: Any = None) -> None:
        if request.service not in _KNOWN:
            request = _UNKNOWN  # the library keeps an entry for each name that a client makes up
        ended = threading.Event()

        def send(response: Any) -> None:
            if ended.is_set():
                return
            if response is None:
                ended.set()
                with self._watches_lock:
                    self._watches.discard(send)
            send_response_callback(response)

        with self._watches_lock:
            full = len(self._watches) >= _MAX_WATCHES
            if not full:
                self._watches.add(send)
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHES} clients watch already")
        super().Watch(request, context, send)
        if self._stopped:
            send(None)

    def shut_down(self) -> None:
        """Reports NOT_SERVING from now on, and ends the watches."""
        self.enter_graceful_shutdown()
        self._stopped = True
        with self._watches_lock:
            watches = list(self._watches)
        for send in watches:
            send(None)
