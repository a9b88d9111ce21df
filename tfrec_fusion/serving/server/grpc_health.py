"""gRPC's health service (`grpc.health.v1.Health`): Check and Watch for the server as a whole.

TF Serving switches on gRPC's own with `--enable_grpc_healthcheck_service`: the empty service name and those of its two
services are SERVING from the moment the port is open until the server shuts down, and any other name is unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from tfrec_fusion.serving.protocol.serving_protos import HealthCheckRequest, HealthCheckResponse

SERVICE = "grpc.health.v1.Health"
_MAX_WATCHERS = 100
"""Watches take none of the threads, but do count among the calls that gRPC takes at a time."""
_KNOWN = ("", "ModelService", "PredictionService")


class HealthService:
    """Answers Check, and tells every Watch of each change; a Watch holds no thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status = HealthCheckResponse.SERVING
        self._watchers: dict[Callable[[Any], None], bool] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """What a `grpc.Server` is given."""

        def watch(request: Any, context: grpc.ServicerContext, send_response_callback: Any) -> None:
            self._watch(request, context, send_response_callback)

        # As gRPC's own Python health service does it: the call is answered from callbacks and blocks no thread.
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        types = {
            "request_deserializer": HealthCheckRequest.FromString,
            "response_serializer": HealthCheckResponse.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, **types),
                "Watch": grpc.unary_stream_rpc_method_handler(watch, **types),
            },
        )

    def shut_down(self) -> None:
        """Reports NOT_SERVING from now on, and ends the watches."""
        with self._lock:
            self._status = HealthCheckResponse.NOT_SERVING
            watchers, self._watchers = self._watchers, {}
        for send, known in watchers.items():
            if known:
                send(HealthCheckResponse(status=self._status))
            send(None)

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in _KNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return HealthCheckResponse(status=self._status)

    def _watch(self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        known = request.service in _KNOWN

        def forget() -> None:
            with self._lock:
                self._watchers.pop(send, None)

        with self._lock:
            full = len(self._watchers) >= _MAX_WATCHERS
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} clients watch already")
        with self._lock:
            stopped = self._status == HealthCheckResponse.NOT_SERVING
            status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
            if not stopped:
                self._watchers[send] = known
        send(HealthCheckResponse(status=status))
        if stopped:
            send(None)
        elif not context.add_callback(forget):
            forget()
