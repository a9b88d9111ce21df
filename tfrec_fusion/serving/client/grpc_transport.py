"""TF Serving's gRPC services as a transport.

Needs `grpcio` and `tensorflow-serving-api` (and so TensorFlow).
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
from tensorflow_serving.apis import model_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from tfrec_fusion.impressions.contract import ARM_HEADER, REQUEST_HEADER
from tfrec_fusion.serving.client.calls import Ask, no_feedback
from tfrec_fusion.serving.client.errors import error_of_code
from tfrec_fusion.serving.client.predict_messages import from_message, to_message
from tfrec_fusion.serving.client.transport import Transport, check_version

_MAX_MESSAGE = 2**31 - 1
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
]


class GrpcTransport(Transport):
    """A model server's gRPC services, TF Serving's or the embedded server's.

    Args:
        target: `host:port`, or another address that gRPC knows, such as `unix:/path`.
        model_name: the model's name on the server.
        version: a version's number; the latest where None.
        label: a version's label, instead of the number.
        tls: whether the server speaks TLS, with a certificate of the usual authorities.
        credentials: TLS with other certificates.
    """

    typed = True

    def __init__(
        self,
        target: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        tls: bool = False,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        check_version(version, label)
        self._target = target
        self._model = model_pb2.ModelSpec(name=model_name)
        if version is not None:
            self._model.version.value = version
        if label is not None:
            self._model.version_label = label
        self._credentials = credentials or (grpc.ssl_channel_credentials() if tls else None)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._async_channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def send(self, ask: Ask, seconds: float) -> Any:
        no_feedback(ask, "gRPC")
        with self._lock:
            if self._channel is None:
                self._channel = self._open(grpc)
                self._methods = _methods(self._channel)
            method = self._methods[ask.kind]
        message = to_message(ask, self._model)
        try:
            response = method(message, timeout=seconds, metadata=_metadata(ask))
        except grpc.RpcError as error:
            raise error_of_code(error.code().name, error.details() or "") from None
        return from_message(ask, response)

    async def send_async(self, ask: Ask, seconds: float) -> Any:
        no_feedback(ask, "gRPC")
        loop = asyncio.get_running_loop()
        if self._async_channel is None or loop is not self._loop:  # a channel belongs to one loop
            self._loop, self._async_channel = loop, self._open(grpc.aio)
            self._async_methods = _methods(self._async_channel)
        message = to_message(ask, self._model)
        try:
            response = await self._async_methods[ask.kind](message, timeout=seconds, metadata=_metadata(ask))
        except grpc.RpcError as error:
            raise error_of_code(error.code().name, error.details() or "") from None
        return from_message(ask, response)

    def close(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    async def close_async(self) -> None:
        channel, self._async_channel = self._async_channel, None
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()

    def _open(self, library: Any) -> Any:
        if self._credentials is None:
            return library.insecure_channel(self._target, _OPTIONS)
        return library.secure_channel(self._target, self._credentials, _OPTIONS)


def _metadata(ask: Ask) -> tuple[tuple[str, str], ...]:
    sent = ((REQUEST_HEADER, ask.request_id), (ARM_HEADER, ask.arm))
    return tuple((name.lower(), value) for name, value in sent if value)


def _methods(channel: Any) -> dict[str, Any]:
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return {
        "predict": prediction.Predict,
        "metadata": prediction.GetModelMetadata,
        "status": model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus,
    }
