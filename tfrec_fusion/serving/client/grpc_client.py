"""The clients' methods over gRPC. Needs `grpcio` and `tensorflow-serving-api` (and so TensorFlow)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrec_fusion.serving.client.calls import (
    Ask,
    Call,
    ServingError,
    ServingMethods,
    SignatureSpec,
    read_metadata,
)
from tfrec_fusion.serving.client.http_transport import RetryPolicy
from tfrec_fusion.serving.protocol.tensor_protos import to_array

_MAX_MESSAGE = 2**31 - 1
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
]
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class _GrpcMethods(ServingMethods):
    """What both gRPC clients know of messages."""

    def __init__(
        self,
        target: str,
        model_name: str,
        version: int | None,
        label: str | None,
        timeout: float,
        retry: RetryPolicy | None,
        batch_size: int,
        signatures: Mapping[str, SignatureSpec] | None,
    ):
        super().__init__(batch_size, signatures)
        if version is not None and label is not None:
            raise ValueError(f"Give `version` or `label`, not both. Received: {version} and {label!r}.")
        self.target = target
        self.model_name = model_name
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self._spec = model_pb2.ModelSpec(name=model_name)
        if version is not None:
            self._spec.version.value = version
        if label is not None:
            self._spec.version_label = label

    def _connect(self, channel: Any) -> None:
        self._channel = channel
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._stubs = {
            "predict": prediction.Predict,
            "metadata": prediction.GetModelMetadata,
            "status": model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus,
        }

    def _predict_types(self) -> Call:
        # Types of inputs come from the metadata, so that [1, 2] reaches a float input as floats.
        if self._signatures is None:
            self._signatures = read_metadata((yield Ask("metadata")))

    def predict(self, inputs: Any = None, *, instances: Any = None, signature_name: str = "") -> Any:
        if (inputs is None) == (instances is None):
            raise ValueError(
                "Give either `inputs` (columns) or `instances` (rows), not both and not neither."
            )

        def call() -> Call:
            yield from self._predict_types()
            return (yield Ask("predict", signature_name, inputs, instances))

        return self._run(call())

    predict.__doc__ = ServingMethods.predict.__doc__

    def _message(self, ask: Ask) -> Any:
        if ask.kind == "status":
            return get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        if ask.kind == "metadata":
            return get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=self._spec, metadata_field=["signature_def"]
            )
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        request.model_spec.signature_name = ask.signature
        spec = (self._signatures or {}).get(ask.signature or "serving_default")
        columns = _columns(ask, spec)
        for name, value in columns.items():
            tensor = spec.inputs.get(name) if spec else None
            dtype = _dtype(tensor.dtype) if tensor else None
            try:
                proto = tf.make_tensor_proto(_clean(value), dtype=dtype)
            except (TypeError, ValueError) as error:
                # Over REST the server says so; to the caller it is the same refusal.
                raise ServingError(
                    "INVALID_ARGUMENT", f"The input {name!r} makes no tensor: {error}"
                ) from None
            request.inputs[name].CopyFrom(proto)
        return request

    def _read(self, ask: Ask, response: Any) -> Any:
        if ask.kind == "status":
            reply = json_format.MessageToDict(
                response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return {"model_version_status": reply["model_version_status"]}
        if ask.kind == "metadata":
            definitions = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(definitions)
            return {
                "model_spec": json_format.MessageToDict(
                    response.model_spec, preserving_proto_field_name=True
                ),
                "metadata": {
                    "signature_def": json_format.MessageToDict(
                        definitions,
                        preserving_proto_field_name=True,
                        always_print_fields_with_no_presence=True,
                    )
                },
            }
        outputs = {name: _plain(to_array(name, proto)) for name, proto in response.outputs.items()}
        if ask.instances is None:
            return outputs if len(outputs) > 1 else next(iter(outputs.values()))
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        names = sorted(outputs)
        return [
            dict(zip(names, row, strict=True)) for row in zip(*(outputs[name] for name in names), strict=True)
        ]


_DTYPES = {"DT_FLOAT": tf.float32, "DT_DOUBLE": tf.float64, "DT_HALF": tf.float16}


def _dtype(name: str) -> tf.DType:
    return _DTYPES.get(name) or tf.dtypes.as_dtype(name.removeprefix("DT_").lower())


def _columns(ask: Ask, spec: SignatureSpec | None) -> dict[str, Any]:
    if ask.instances is not None:
        rows = list(ask.instances)
        if rows and isinstance(rows[0], Mapping):
            return {name: [row[name] for row in rows] for name in rows[0]}
        value: Any = rows
    elif isinstance(ask.inputs, Mapping):
        return dict(ask.inputs)
    else:
        value = ask.inputs
    if spec is None:
        raise ServingError("NOT_FOUND", f"The model has no signature {ask.signature or 'serving_default'!r}.")
    if len(spec.inputs) != 1:
        raise ValueError("A bare value needs a signature with one input. Give a dict by input name.")
    return {next(iter(spec.inputs)): value}


def _clean(value: Any) -> Any:
    """Strings as bytes, so that NumPy neither pads them nor strips their trailing NULs."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (list, tuple)):
        return [_clean(element) for element in value]
    return value


def _plain(array: np.ndarray) -> Any:
    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(element) for element in value]
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value

    return text(array.tolist())


def _error(error: grpc.RpcError) -> ServingError:
    return ServingError(error.code().name, error.details() or "")


class GrpcClient(_GrpcMethods):
    """Asks a model server over gRPC. Threads may share one.

    Args:
        target: `host:port`.
        model_name: the model's name on the server.
        version: a version's number; the latest where None.
        label: a version's label, in place of the number.
        timeout: seconds that a request may take, retries included.
        retry: how often to try again; see `RetryPolicy`.
        batch_size: the most rows in one request.
        credentials: TLS, or None for plain text.
        signatures: the model's signatures where they are known beforehand.
    """

    def __init__(
        self,
        target: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 1000,
        credentials: grpc.ChannelCredentials | None = None,
        signatures: Mapping[str, SignatureSpec] | None = None,
    ):
        super().__init__(target, model_name, version, label, timeout, retry, batch_size, signatures)
        if credentials is None:
            self._connect(grpc.insecure_channel(target, _OPTIONS))
        else:
            self._connect(grpc.secure_channel(target, credentials, _OPTIONS))

    def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(self._read(ask, self._send(ask)))
        except StopIteration as end:
            return end.value

    def _send(self, ask: Ask) -> Any:
        deadline = time.monotonic() + self.timeout
        message, send = self._message(ask), self._stubs[ask.kind]
        for attempt in range(self.retry.retries + 1):
            try:
                return send(message, timeout=max(0.001, deadline - time.monotonic()))
            except grpc.RpcError as error:
                pause = self.retry.pause(attempt)
                late = time.monotonic() + pause >= deadline
                if error.code() not in _RETRIED or attempt == self.retry.retries or late:
                    raise _error(error) from None
                time.sleep(pause)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncGrpcClient(_GrpcMethods):
    """`GrpcClient` for asyncio: the same arguments and methods, each method awaited."""

    def __init__(
        self,
        target: str,
        model_name: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int = 1000,
        credentials: grpc.ChannelCredentials | None = None,
        signatures: Mapping[str, SignatureSpec] | None = None,
    ):
        super().__init__(target, model_name, version, label, timeout, retry, batch_size, signatures)
        self._credentials = credentials
        self._loop: asyncio.AbstractEventLoop | None = None

    def _connect_here(self) -> None:
        """Opens a channel in the running loop, where there is none yet: a channel belongs to one loop."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        self._loop = loop
        if self._credentials is None:
            self._connect(grpc.aio.insecure_channel(self.target, _OPTIONS))
        else:
            self._connect(grpc.aio.secure_channel(self.target, self._credentials, _OPTIONS))

    async def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(self._read(ask, await self._send(ask)))
        except StopIteration as end:
            return end.value

    async def _send(self, ask: Ask) -> Any:
        self._connect_here()
        deadline = time.monotonic() + self.timeout
        message, send = self._message(ask), self._stubs[ask.kind]
        for attempt in range(self.retry.retries + 1):
            try:
                return await send(message, timeout=max(0.001, deadline - time.monotonic()))
            except grpc.RpcError as error:
                pause = self.retry.pause(attempt)
                late = time.monotonic() + pause >= deadline
                if error.code() not in _RETRIED or attempt == self.retry.retries or late:
                    raise _error(error) from None
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Closes the channel."""
        if self._loop is asyncio.get_running_loop():
            await self._channel.close()
        self._loop = None

    async def __aenter__(self) -> AsyncGrpcClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
