"""The embedded model server: TF Serving's REST and gRPC interfaces over any SavedModel, in this process.

    python -m tfrec_fusion.serving.server --model_name=movies --model_base_path=/models/movies --rest_api_port=8501

takes TF Serving's own flags. `EmbeddedServer` is the same inside a program. It binds to loopback unless told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_fusion.serving.config_file import ModelConfig
from tfrec_fusion.serving.monitoring import Metrics
from tfrec_fusion.serving.request_log import RequestLog, RequestLogConfig
from tfrec_fusion.serving.rest_handler import RestHandler
from tfrec_fusion.serving.rest_server import RestLimits, RestServer
from tfrec_fusion.serving.session import LoadedModel
from tfrec_fusion.serving.status import StatusError
from tfrec_fusion.serving.versions import ModelManager

logger = logging.getLogger(__name__)


class EmbeddedServer:
    """Serves models over REST (and gRPC) from threads of this process.

    ```python
    with EmbeddedServer({"movies": "/models/movies"}) as server:
        client = RestClient(f"http://127.0.0.1:{server.rest_port}")
    ```

    Args:
        models: base path by model name, or full `ModelConfig`s.
        rest_port: port of the REST API; 0 lets the system choose, None serves no REST.
        grpc_port: port of gRPC; 0 lets the system choose, None serves no gRPC.
        host: address to bind to; `0.0.0.0` opens the server to the network.
        poll_seconds: how often base paths are looked at for new versions; 0 looks once.
        max_load_retries: how often a version that failed to load is tried again.
        load_retry_seconds: the pause between those tries.
        rest_timeout_ms: how long a model may take to answer.
        enable_warmup: whether the requests that a model carries for warm-up are run before it serves.
        batching: batching parameters, or None for no batching.
        cors: whether answers carry CORS headers.
        metrics_path: path of the Prometheus page, or None.
        request_log: sampling of requests to disk, or None.
        limits: limits of the REST server.
        tls: certificates for gRPC, and for REST where `rest_tls`.
        **manager_options: further arguments of `ModelManager`.

    Attributes:
        rest_port: the REST port that was bound; None before `wait_ready`.
        grpc_port: the same for gRPC.
    """

    def __init__(
        self,
        models: Mapping[str, str] | Sequence[ModelConfig],
        rest_port: int | None = 0,
        grpc_port: int | None = None,
        host: str = "127.0.0.1",
        *,
        poll_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_seconds: float = 60.0,
        rest_timeout_ms: int = 30_000,
        cors: bool = False,
        metrics_path: str | None = None,
        request_log: RequestLogConfig | None = None,
        limits: RestLimits | None = None,
        tls: ssl.SSLContext | None = None,
        **manager_options: Any,
    ):
        if isinstance(models, Mapping):
            models = [ModelConfig(name, str(path)) for name, path in models.items()]
        self.host = host
        self.rest_port: int | None = None
        self.grpc_port: int | None = None
        self.metrics = Metrics()
        self._ports = (rest_port, grpc_port)
        self._tls = tls
        self._timeout_ms = rest_timeout_ms
        self.manager = ModelManager(
            models,
            self._load,
            poll_seconds=poll_seconds,
            max_retries=max_load_retries,
            retry_seconds=load_retry_seconds,
            **manager_options,
        )
        self._log = RequestLog(request_log) if request_log else None
        self._rest = RestServer(
            RestHandler(self.manager, self.metrics, self._log),
            self.metrics,
            metrics_path=metrics_path,
            cors=cors,
            limits=limits,
        )
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finish: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> EmbeddedServer:
        """Begins to load models; ports open when all of them are available. Returns itself."""
        if self._thread is None:
            self.manager.start()
            self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
            self._thread.start()
        return self

    def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until every model is available and the ports are open.

        Raises:
            StatusError: a model failed to load, a port is taken, or the time is up.
        """
        if not self._ready.wait(timeout):
            raise StatusError("DEADLINE_EXCEEDED", f"The server is not ready after {timeout} seconds")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finishes requests in work, closes ports and lets the models go. May be called twice."""
        loop, finish, thread = self._loop, self._finish, self._thread
        self.manager.request_stop()
        if loop is not None and finish is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed between the two lines
                loop.call_soon_threadsafe(finish.set)
        if thread is not None:
            thread.join()
        self.manager.stop()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> EmbeddedServer:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _load(self, path: str, name: str, version: int) -> LoadedModel:
        return LoadedModel(path, name, version, timeout_ms=self._timeout_ms)

    def _run(self) -> None:
        try:
            self.manager.wait_available()
            loop = _new_loop()
            try:
                loop.run_until_complete(self._serve(loop))
            finally:
                loop.close()
        except Exception as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._finish = asyncio.Event()
        self._loop = loop
        rest_port, _ = self._ports
        if rest_port is not None:
            self.rest_port = await self._rest.start(self.host, rest_port, self._tls)
        self._ready.set()
        await self._finish.wait()
        await self._rest.stop()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
