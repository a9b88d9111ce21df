"""The embedded model server: TF Serving's REST and gRPC interfaces over any SavedModel, in this process.

    python -m tfrec_fusion.serving.server --model_name=movies --model_base_path=/models/movies
    --rest_api_port=8501

takes TF Serving's own flags. `EmbeddedServer` is the same inside a program. It binds to loopback unless told.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence

import grpc
import tensorflow as tf

from tfrec_fusion.experiments.assignment import Experiment
from tfrec_fusion.experiments.exploring import Exploration
from tfrec_fusion.impressions.log import ImpressionLog, ImpressionLogConfig
from tfrec_fusion.serving.protocol import serving_protos
from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server.admission import Gate, LimitedRunner
from tfrec_fusion.serving.server.batching import BatchingOptions, BatchingRunner, BatchScheduler
from tfrec_fusion.serving.server.config_file import (
    ModelConfig,
    parse_text_proto,
    read_config_file,
    require_absolute,
)
from tfrec_fusion.serving.server.flags import Flags, parse_flags
from tfrec_fusion.serving.server.grpc_health import HealthService
from tfrec_fusion.serving.server.grpc_service import GrpcOptions, start_grpc_server
from tfrec_fusion.serving.server.impressions import Impressions
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.reload_rules import folders
from tfrec_fusion.serving.server.request_log import RequestLog, RequestLogConfig
from tfrec_fusion.serving.server.rest_handler import RestHandler
from tfrec_fusion.serving.server.rest_server import RestServer
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.trials import open_trials
from tfrec_fusion.serving.server.versions import ModelManager
from tfrec_fusion.serving.server.warmup import warm_up

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TlsConfig:
    """Certificates, as PEM text.

    Attributes:
        server_key: the private key.
        server_cert: the certificate (chain).
        custom_ca: certificates that clients must be signed by.
        client_verify: whether clients must show a certificate.
        rest: whether the REST port speaks TLS too; TF Serving's never does.
    """

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False
    rest: bool = False

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """The same for a gRPC server; raises StatusError where they do not fit together."""
        if self.client_verify and not self.custom_ca:
            raise invalid_argument(
                "client_verify needs custom_ca, the certificates that clients are signed by."
            )
        return grpc.ssl_server_credentials(
            [(self.server_key.encode(), self.server_cert.encode())],
            root_certificates=self.custom_ca.encode() or None,
            require_client_auth=self.client_verify,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """The same for the REST server; raises StatusError where they cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Python reads keys from files alone; this one is readable by its owner only and gone at once.
            with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:
                file.write(self.server_key + "\n" + self.server_cert)
                file.flush()
                context.load_cert_chain(file.name)
            if self.custom_ca:
                context.load_verify_locations(cadata=self.custom_ca)
        except ssl.SSLError as error:
            raise invalid_argument(f"The key and certificates for REST cannot be read: {error}") from None
        if self.client_verify:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class EmbeddedServer:
    """Serves models over REST (and gRPC) from threads of this process.

    ```python
    with EmbeddedServer({"movies": "/models/movies"}) as server:
        client = Client.connect(f"http://127.0.0.1:{server.rest_port}")
    ```

    Args:
        models: base path by model name, or full `ModelConfig`s.
        rest_port: port of the REST API; 0 lets the system choose, None serves no REST.
        grpc_port: port of gRPC; 0 lets the system choose, None serves no gRPC.
        host: address to bind to; `0.0.0.0` opens the server to the network.
        poll_seconds: how often base paths are looked at for new versions; 0 looks once.
        max_load_retries: how often a version that failed to load is tried again.
        load_retry_seconds: the pause between those tries.
        retry_at_startup: whether the very first load is retried too, before the failure is reported.
        allow_unavailable_labels: whether an unused label may name a version that is not loaded yet.
        force_unavailable_labels: whether any label may, whatever it named before.
        rest_timeout_ms: how long a model may take to answer a REST request.
        warmup_iterations: how often a model's warm-up requests are run before it serves; 0 for not at all.
        tags: which graph of a SavedModel to load.
        check_method_names: see `LoadedModel`.
        batching: see `BatchingOptions`; None for no batching.
        per_model_batching: with `batching`, whether only models are batched whose folder has a
            `batching_params.pbtxt`, with the parameters that it gives.
        cors: whether REST answers carry CORS headers.
        metrics_path: path of the Prometheus page, or None for no page.
        request_log: sampling of requests to disk, or None.
        impressions: logging of what is shown, and taking of feedback at `/v1/feedback`; None for neither.
        experiments: whose arms users have; see `trials.Trials`.
        exploration: of the answers to `recommend`; None for none.
        limits: what requests may cost; see `Limits`.
        rest_threads: threads for REST requests that are not quick.
        grpc: how gRPC is served.
        tls: certificates for gRPC, and for REST where it says so.

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
        retry_at_startup: bool = False,
        allow_unavailable_labels: bool = False,
        force_unavailable_labels: bool = False,
        rest_timeout_ms: int = 30_000,
        warmup_iterations: int = 1,
        tags: Sequence[str] = ("serve",),
        check_method_names: bool = False,
        batching: BatchingOptions | None = None,
        per_model_batching: bool = False,
        cors: bool = False,
        metrics_path: str | None = None,
        request_log: RequestLogConfig | None = None,
        impressions: ImpressionLogConfig | None = None,
        experiments: Sequence[Experiment] = (),
        exploration: Exploration | None = None,
        limits: Limits | None = None,
        rest_threads: int = 4 * (os.cpu_count() or 1),
        grpc: GrpcOptions | None = None,
        tls: TlsConfig | None = None,
    ):
        if isinstance(models, Mapping):
            models = [ModelConfig(name, os.fspath(path)) for name, path in models.items()]
        self.host = host
        self.rest_port: int | None = None
        self.grpc_port: int | None = None
        self.metrics = Metrics()
        self._ports = (rest_port, grpc_port)
        self.limits = limits = limits or Limits()
        self._gate = Gate(limits.max_running_rows, "rows")
        self._timeout_ms = rest_timeout_ms
        self._warmup_iterations = warmup_iterations
        self._tags = tuple(tags)
        self._check_method_names = check_method_names
        self._tls = tls
        self._grpc_options = grpc or GrpcOptions()
        self._scheduler = BatchScheduler(batching) if batching else None
        self._per_model_batching = per_model_batching
        self.manager = ModelManager(
            models,
            self._load,
            poll_seconds=poll_seconds,
            max_retries=max_load_retries,
            retry_seconds=load_retry_seconds,
            retry_at_startup=retry_at_startup,
            allow_unavailable_labels=allow_unavailable_labels,
            force_unavailable_labels=force_unavailable_labels,
        )
        self._log = _request_log(request_log)
        self._impressions = _impressions(impressions)
        self._trials = open_trials(experiments, exploration, self.manager)
        self._rest = RestServer(
            RestHandler(
                self.manager,
                self.metrics,
                self._log,
                limits,
                rest_timeout_ms,
                self._impressions,
                self._trials,
            ),
            self.metrics,
            metrics_path=metrics_path,
            cors=cors,
            limits=limits,
            num_threads=rest_threads,
            allow_inline=batching is None,
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
        """Waits until every model is available and the ports are open; starts what was not started.

        Raises:
            StatusError: a model failed to load, a port is taken, or the time is up.
        """
        self.start()
        if not self._ready.wait(timeout):
            raise StatusError("DEADLINE_EXCEEDED", f"The server is not ready after {timeout} seconds")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finishes requests in work, closes ports and lets the models go. May be called twice.

        What a model still computes after `drain_seconds` goes on in its thread, and nobody waits for it.
        """
        loop, finish, thread = self._loop, self._finish, self._thread
        self.manager.request_stop()
        if loop is not None and finish is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed between the two lines
                loop.call_soon_threadsafe(finish.set)
        if thread is not None:
            thread.join()
        self.manager.stop(self.limits.drain_seconds)
        if self._scheduler is not None:
            self._scheduler.stop(self.limits.drain_seconds)
        if self._log is not None:
            self._log.close()
        if self._impressions is not None:
            self._impressions.log.close()

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
        start = time.perf_counter()
        try:
            model = LoadedModel(
                path, name, version, self._timeout_ms, self._tags, check_method_names=self._check_method_names
            )
        except StatusError:
            self.metrics.load(path, None)
            raise
        self.metrics.load(path, (time.perf_counter() - start) * 1e6)
        if self._scheduler is not None:
            options = self._batching_of(path, self._scheduler.options)
            if options is not None:
                model.run = BatchingRunner(model.run, model.signatures.values(), self._scheduler, options)
        if self._warmup_iterations:
            warm_up(model, self._warmup_iterations)
        model.run = LimitedRunner(model.run, self.limits, self._gate)
        return model

    def _batching_of(self, path: str, common: BatchingOptions) -> BatchingOptions | None:
        if not self._per_model_batching:
            return common
        path = os.path.join(path, "batching_params.pbtxt")
        if not tf.io.gfile.exists(path):
            return None
        proto = serving_protos.BatchingParameters()
        parse_text_proto(path, proto)
        return BatchingOptions.from_proto(proto)

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
        rest_port, grpc_port = self._ports
        grpc_server: grpc.Server | None = None
        health = HealthService() if self._grpc_options.health else None
        if grpc_port is not None or self._grpc_options.socket_path:
            options = self._grpc_options
            if self._tls is not None:
                options = dataclasses.replace(options, credentials=self._tls.grpc_credentials())
            grpc_server, self.grpc_port = start_grpc_server(
                self.manager,
                self.metrics,
                self.host,
                grpc_port,
                options,
                health,
                self._log,
                self.limits,
                self._impressions,
                self._trials,
            )
        try:
            if rest_port is not None:
                tls = self._tls.ssl_context() if self._tls is not None and self._tls.rest else None
                self.rest_port = await self._rest.start(self.host, rest_port, tls)
            self._ready.set()
            await self._finish.wait()
        finally:
            if health is not None:
                health.shut_down()
            # Both finish what they have begun; gRPC on threads of its own meanwhile.
            grace = self.limits.drain_seconds
            stopped = grpc_server.stop(grace) if grpc_server is not None else None
            await self._rest.stop()
            if stopped is not None:
                stopped.wait(grace + 1.0)


def _request_log(config: RequestLogConfig | None) -> RequestLog | None:
    try:
        return RequestLog(config) if config else None
    except (ValueError, OSError) as error:
        raise invalid_argument(f"Requests cannot be logged: {error}") from None


def _impressions(config: ImpressionLogConfig | None) -> Impressions | None:
    try:
        return Impressions(ImpressionLog(config)) if config else None
    except (ValueError, OSError) as error:
        raise invalid_argument(f"Impressions cannot be logged: {error}") from None


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server with TF Serving's flags until it is told to stop; returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s"
    )
    tf.get_logger().setLevel(logging.ERROR)  # it warns of the v1 loader at each start
    try:
        flags = parse_flags(arguments)
        server = _server(flags)
    except StatusError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return 255
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.start()
        while not stop.is_set():
            try:
                server.wait_ready(timeout=0.2)
                break
            except StatusError as error:
                if error.code != "DEADLINE_EXCEEDED":
                    raise
        if not stop.is_set():
            # What is loaded by now stays; the collector need not look at it again while requests wait.
            gc.collect()
            gc.freeze()
            if server.grpc_port is not None:
                logger.info("Running gRPC ModelServer at %s:%d ...", server.host, server.grpc_port)
            if server.rest_port is not None:
                logger.info("Exporting HTTP/REST API at:%s:%d ...", server.host, server.rest_port)
            _follow_config_file(server, flags, stop)
    except StatusError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return 255
    finally:
        server.stop()
    return 0


def _server(flags: Flags) -> EmbeddedServer:
    if flags.model_config_file:
        configs = read_config_file(flags.model_config_file)
    else:
        require_absolute(flags.model_name, flags.model_base_path)
        configs = [ModelConfig(flags.model_name, flags.model_base_path)]
    return EmbeddedServer(
        configs,
        flags.rest_api_port or None,
        flags.port or None,
        flags.host,
        poll_seconds=flags.file_system_poll_wait_seconds,
        max_load_retries=flags.max_num_load_retries,
        load_retry_seconds=flags.load_retry_interval_micros / 1e6,
        retry_at_startup=flags.retries_given,
        allow_unavailable_labels=flags.allow_version_labels_for_unavailable_models,
        force_unavailable_labels=flags.force_allow_any_version_labels_for_unavailable_models,
        rest_timeout_ms=flags.rest_api_timeout_in_ms,
        warmup_iterations=max(1, flags.num_request_iterations_for_warmup) if flags.enable_model_warmup else 0,
        tags=flags.saved_model_tags.split(","),
        check_method_names=flags.enable_signature_method_name_check,
        batching=flags.batching(),
        per_model_batching=flags.enable_per_model_batching_parameters,
        cors=flags.rest_api_enable_cors_support,
        metrics_path=flags.metrics_path(),
        request_log=flags.request_log(),
        impressions=flags.impressions(),
        experiments=flags.experiments(),
        exploration=flags.exploration(),
        limits=flags.limits,
        rest_threads=flags.rest_api_num_threads or 4 * (os.cpu_count() or 1),
        grpc=GrpcOptions(
            num_threads=flags.grpc_max_threads or 4 * (os.cpu_count() or 1),
            as_content=flags.enable_serialization_as_tensor_content,
            health=flags.enable_grpc_healthcheck_service,
            socket_path=flags.grpc_socket_path,
            arguments=flags.channel_arguments(),
            reload_base_paths=folders(flags.reload_base_paths),
        ),
        tls=_tls(flags),
    )


def _tls(flags: Flags) -> TlsConfig | None:
    config = flags.ssl_config()
    if config is None:
        return None
    return TlsConfig(
        config.server_key,
        config.server_cert,
        config.custom_ca,
        config.client_verify,
        flags.rest_api_enable_ssl,
    )


def _follow_config_file(server: EmbeddedServer, flags: Flags, stop: threading.Event) -> None:
    """Waits for the end; rereads the config file meanwhile, where the flags ask for it."""
    path, seconds = flags.model_config_file, flags.model_config_file_poll_wait_seconds
    if not path or seconds <= 0:
        stop.wait()
        return
    while not stop.wait(seconds):
        try:
            server.manager.reload(read_config_file(path), timeout=max(seconds, 1.0))
        except StatusError as error:
            logger.error("Could not reload %s; the models stay as they are: %s", path, error)
