"""Asks and replies as TF Serving's messages, for gRPC and for a model in this process.

Needs `tensorflow-serving-api` (and so TensorFlow).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from tfrec_fusion.serving.client.calls import Ask
from tfrec_fusion.serving.client.errors import InvalidRequest, RequestError
from tfrec_fusion.serving.client.signatures import SignatureSpec
from tfrec_fusion.serving.protocol.tensor_protos import to_array

_DTYPES = {"DT_FLOAT": tf.float32, "DT_DOUBLE": tf.float64, "DT_HALF": tf.float16}


def to_message(ask: Ask, model: model_pb2.ModelSpec) -> Any:
    """The request message for an `Ask`.

    Args:
        ask: what is asked; predict makes tensors of the types that `Ask.spec` says.
        model: the model and its version.

    Raises:
        InvalidRequest: a value makes no tensor of its input's type. Over REST the server says so.
    """
    if ask.kind == "status":
        return get_model_status_pb2.GetModelStatusRequest(model_spec=model)
    if ask.kind == "metadata":
        return get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model, metadata_field=["signature_def"]
        )
    request = predict_pb2.PredictRequest(model_spec=model)
    request.model_spec.signature_name = ask.signature
    for name, value in _named_inputs(ask).items():
        tensor = ask.spec.inputs.get(name) if ask.spec else None
        try:
            proto = _tensor(value, _dtype(tensor.dtype) if tensor else None)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidRequest("INVALID_ARGUMENT", f"The input {name!r} makes no tensor: {error}") from None
        request.inputs[name].CopyFrom(proto)
    return request


def from_message(ask: Ask, response: Any) -> Any:
    """The reply that a response message holds, as `Transport.send` returns it."""
    if ask.kind == "status":
        return {"model_version_status": _json(response)["model_version_status"]}
    if ask.kind == "metadata":
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        spec = json_format.MessageToDict(response.model_spec, preserving_proto_field_name=True)
        return {"model_spec": spec, "metadata": {"signature_def": _json(definitions)}}
    outputs = {name: _plain(to_array(name, proto).tolist()) for name, proto in response.outputs.items()}
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    if ask.instances is None:
        return outputs
    names = sorted(outputs)
    rows = zip(*(outputs[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _json(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _tensor(value: Any, dtype: tf.DType | None) -> Any:
    if dtype is not None and dtype.is_integer:  # NumPy lets -1 wrap around to the largest uint64
        for number in _leaves(value):
            if isinstance(number, int) and not dtype.min <= number <= dtype.max:
                raise ValueError(f"{number} is outside the range of {dtype.name}")
    return tf.make_tensor_proto(_encoded(value), dtype=dtype)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    else:
        yield value


def _dtype(name: str) -> tf.DType:
    return _DTYPES.get(name) or tf.dtypes.as_dtype(name.removeprefix("DT_").lower())


def _named_inputs(ask: Ask) -> Mapping[str, Any]:
    """Columns by input name."""
    rows = ask.instances
    if rows and isinstance(rows[0], Mapping):
        return {name: [row[name] for row in rows] for name in rows[0]}
    if rows is None and isinstance(ask.inputs, Mapping):
        return ask.inputs
    return {_only_input(ask, ask.spec): ask.inputs if rows is None else rows}


def _only_input(ask: Ask, spec: SignatureSpec | None) -> str:
    if spec is None:
        raise InvalidRequest(
            "INVALID_ARGUMENT", f"The model has no signature {ask.signature or 'serving_default'!r}."
        )
    if len(spec.inputs) != 1:
        raise RequestError("A bare value needs a signature with one input. Give a dict by input name.")
    return next(iter(spec.inputs))


def _encoded(value: Any) -> Any:
    """Strings as bytes, so that NumPy neither pads them nor strips their trailing NULs."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (list, tuple)):
        return [_encoded(element) for element in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
