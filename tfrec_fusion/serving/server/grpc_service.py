"""TF Serving's gRPC services: PredictionService and ModelService."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tfrec_fusion.serving.protocol.status import CODES, StatusError, invalid_argument
from tfrec_fusion.serving.server import proto_inference
from tfrec_fusion.serving.server.config_file import from_proto
from tfrec_fusion.serving.server.deadline import Deadline
from tfrec_fusion.serving.server.grpc_health import HealthService
from tfrec_fusion.serving.server.impressions import Impressions, origin_of
from tfrec_fusion.serving.server.limits import Limits, too_much
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.reload_rules import ReloadRules, is_loopback
from tfrec_fusion.serving.server.request_log import RequestLog
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.trials import Trials
from tfrec_fusion.serving.server.versions import ModelManager
from tfrec_fusion.serving.server.wire import holds_more_messages

_MESSAGE_LIMIT = 1024
_NO_DEADLINE_SECONDS = 365 * 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class GrpcOptions:
    """How gRPC is served.

    Attributes:
        num_threads: requests worked on at a time.
        as_content: whether outputs come in `tensor_content`, not in typed fields.
        health: whether gRPC's health check is served.
        credentials: TLS, or None for plain text.
        socket_path: a UNIX socket to listen at too; none where empty.
        arguments: gRPC's own channel arguments.
        reload_base_paths: folders that a configuration by gRPC may name models in; see `ReloadRules`.
    """

    num_threads: int = 16
    as_content: bool = False
    health: bool = False
    credentials: grpc.ServerCredentials | None = None
    socket_path: str = ""
    arguments: tuple[tuple[str, int | str], ...] = ()
    reload_base_paths: tuple[str, ...] = ()


def start_grpc_server(
    manager: ModelManager,
    metrics: Metrics,
    host: str,
    port: int | None,
    options: GrpcOptions,
    health: HealthService | None = None,
    log: RequestLog | None = None,
    limits: Limits | None = None,
    impressions: Impressions | None = None,
    trials: Trials | None = None,
) -> tuple[grpc.Server, int | None]:
    """Starts a gRPC server, with the health service and the two logs where they are given.

    Returns:
        The server and its port, which the system chooses where 0 is given; None where none is, but for a UNIX
        socket.

    Raises:
        StatusError: UNAVAILABLE where the port cannot be bound.
    """
    limits = limits or Limits()
    server = grpc.server(
        ThreadPoolExecutor(options.num_threads, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", limits.max_answer_bytes),
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
            *options.arguments,
        ],
        maximum_concurrent_rpcs=options.num_threads + limits.max_waiting,
    )
    rules = ReloadRules(port is None or is_loopback(host), options.reload_base_paths, limits.max_models)
    prediction = _PredictionService(manager, metrics, options.as_content, log, limits, impressions, trials)
    server.add_generic_rpc_handlers(
        [
            _handlers("PredictionService", _PREDICTION_SERVICE, prediction, limits),
            _handlers("ModelService", _MODEL_SERVICE, _ModelService(manager, rules), limits),
        ]
    )
    if health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    bound = None
    if port is not None:
        bound = _listen(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", options.credentials)
    if options.socket_path:
        _listen(server, f"unix:{options.socket_path}", options.credentials)
    server.start()
    return server, bound


_PREDICTION_SERVICE = {
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
}
_MODEL_SERVICE = {
    "GetModelStatus": (
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
    "HandleReloadConfigRequest": (
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}


def _handlers(
    name: str, methods: Mapping[str, tuple[Any, Any]], servicer: Any, limits: Limits
) -> grpc.GenericRpcHandler:
    """A service's methods, whose requests are counted before they are parsed."""
    return grpc.method_handlers_generic_handler(
        f"tensorflow.serving.{name}",
        {
            method: grpc.unary_unary_rpc_method_handler(
                _method(getattr(servicer, method)),
                request_deserializer=_reader(request, limits),
                response_serializer=response.SerializeToString,
            )
            for method, (request, response) in methods.items()
        },
    )


def _reader(kind: Any, limits: Limits) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        if holds_more_messages(data, kind.DESCRIPTOR, limits.max_messages):
            return too_much(
                "max_messages", limits.max_messages, "more", "messages in it", "Send several smaller ones."
            )
        return kind.FromString(data)

    return read


def _method(work: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        return _abort(context, request) if isinstance(request, StatusError) else work(request, context)

    return call


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        certificates = "" if credentials is None else ", or the key and certificates cannot be read"
        raise StatusError(
            "UNAVAILABLE",
            f"Failed to bind gRPC to {address}: the address is in use or not ours{certificates}",
        )
    return bound


def _abort(context: grpc.ServicerContext, error: StatusError) -> None:
    message = error.message.encode("utf-8", "surrogateescape")
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + b"...TRUNCATED"
    context.abort(
        grpc.StatusCode[error.code], message.decode("utf-8", "replace")
    )  # Python's gRPC takes UTF-8 alone


def _deadline(context: grpc.ServicerContext, limits: Limits) -> Deadline:
    """The client's deadline or the server's, whichever is earlier; it ends with the call."""
    left = context.time_remaining()
    deadline = Deadline(limits.request_seconds if left is None else min(left, limits.request_seconds))
    if not context.add_callback(deadline.cancel):
        deadline.cancel()
    return deadline


class _PredictionService:
    def __init__(
        self,
        manager: ModelManager,
        metrics: Metrics,
        as_content: bool,
        log: RequestLog | None,
        limits: Limits,
        impressions: Impressions | None,
        trials: Trials | None,
    ):
        self._impressions = impressions
        self._trials = trials
        self._limits = limits
        self._manager = manager
        self._metrics = metrics
        self._as_content = as_content
        self._log = log

    def _find(self, spec: model_pb2.ModelSpec) -> LoadedModel:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        return self._manager.get(
            spec.name,
            spec.version.value if choice == "version" else None,
            spec.version_label if choice == "version_label" else None,
        )

    def _answer(
        self,
        api: str,
        spec: model_pb2.ModelSpec,
        context: grpc.ServicerContext,
        work: Callable[[LoadedModel], Any],
        check: Callable[[], None] = lambda: None,
    ) -> Any:
        start, code = time.perf_counter(), "OK"
        try:
            check()
            deadline = _deadline(context, self._limits)
            deadline.check()
            with deadline.current():
                return work(self._find(spec))
        except StatusError as error:
            code = error.code
            _abort(context, error)
        except Exception as error:
            code = "INTERNAL"
            _abort(context, StatusError(code, f"{type(error).__name__}: {error}"))
        finally:
            seconds, known = time.perf_counter() - start, self._manager.knows(spec.name)
            self._metrics.request(spec.name, api, "GRPC", code, seconds * 1e6, known)

    def _ran(self, model: LoadedModel, api: str) -> Callable[[float], None]:
        return lambda seconds: self._metrics.runtime(model.name, api, seconds * 1e6)

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        impressions, trials, shown, trial = self._impressions, self._trials, None, None
        origin = None
        if impressions is not None or trials is not None:
            sent = {name.lower(): value for name, value in context.invocation_metadata()}
            origin = origin_of(lambda name: _bytes(sent.get(name.decode(), "")))
            context.send_initial_metadata(origin.metadata())
            if impressions is not None:
                shown = functools.partial(impressions.shown, origin)
            if trials is not None:
                pinned = request.model_spec.WhichOneof("version_choice") is not None
                trial = functools.partial(trials.answer, origin, pinned)

        def work(model: LoadedModel) -> Any:
            ran = self._ran(model, "Predict")
            answer = proto_inference.predict(
                model, request, self._as_content, None, ran, self._log, self._limits, shown, trial
            )
            if origin is not None:
                context.set_trailing_metadata(origin.trailing_metadata())
            return answer

        return self._answer("Predict", request.model_spec, context, work, lambda: _require_spec(request))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        def work(model: LoadedModel) -> Any:
            return proto_inference.classify(model, request, None, self._ran(model, "Classify"), self._limits)

        return self._answer("Classify", request.model_spec, context, work, lambda: _require_spec(request))

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        def work(model: LoadedModel) -> Any:
            return proto_inference.regress(model, request, None, self._ran(model, "Regress"), self._limits)

        return self._answer("Regress", request.model_spec, context, work, lambda: _require_spec(request))

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        def work(model: LoadedModel) -> Any:
            count = functools.partial(self._metrics.examples, model.name)
            return proto_inference.multi_inference(model, request, None, count, self._limits)

        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        return self._answer("MultiInference", spec, context, work)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            proto_inference.check_metadata_request(request)
            return proto_inference.metadata(self._find(request.model_spec))
        except StatusError as error:
            return _abort(context, error)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


class _ModelService:
    def __init__(self, manager: ModelManager, rules: ReloadRules):
        self._manager = manager
        self._rules = rules

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        try:
            _require_spec(request)
            spec = request.model_spec
            version = spec.version.value if spec.HasField("version") else None
            statuses = self._manager.status(spec.name, version)
        except StatusError as error:
            return _abort(context, error)
        for status in statuses:
            entry = response.model_version_status.add(version=status.version)
            entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
            entry.status.error_code = CODES.index(status.code)
            entry.status.error_message = status.message
        return response

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = model_management_pb2.ReloadConfigResponse()
        try:
            config = request.config
            if config.WhichOneof("config") != "model_config_list":
                raise invalid_argument(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList"
                    " is currently supported"
                )
            left = context.time_remaining()
            timeout = None if left is None or left > _NO_DEADLINE_SECONDS else left
            configs = self._rules.check(from_proto(config, self._manager.names()))
            self._manager.reload(configs, timeout, context.is_active)
        except StatusError as error:
            response.status.error_code = CODES.index(error.code)
            response.status.error_message = error.message
            return _abort(context, error)
        response.status.SetInParent()
        return response
