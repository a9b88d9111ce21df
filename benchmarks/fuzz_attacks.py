"""Small requests that ask for unbounded work: what `benchmarks.fuzz` throws beside damaged ones.

Each has a shape and sizes drawn at random. The server must answer within its time limit, with a status that
is meant for the client and in few bytes, whatever was asked.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE",
            "FAILED_PRECONDITION", "PERMISSION_DENIED", "CANCELLED", "UNIMPLEMENTED"}  # fmt: skip
UNITS = (
    b"{}",
    b"[]",
    b"1",
    b"NaN",
    b"Inf",
    b'""',
    b"1e5",
    b"null",
    b'{"a":1}',
    b'"\\n"',
    b"[[[1]]]",
    b"[],[1]",
    b"-0.5",
    b'"\\u00e9"',
)
MOST_BYTES = 4_000_000
"""Of a hostile body before compression, so that sending it takes no time."""


def hostile_body(rng: random.Random) -> bytes:
    """A JSON document of many small values, deep nesting, long texts or long numbers."""
    unit = rng.choice(UNITS)
    count = rng.choice([1, 100, 5_000, 100_000, MOST_BYTES // (len(unit) + 1)])
    depth = rng.choice([0, 1, 5, 60, 150, 199, 1000])
    values = b",".join([unit] * min(count, MOST_BYTES // (len(unit) + 1)))
    kind = rng.randrange(5)
    if kind == 0:
        values = (
            b'"'
            + rng.choice([b"\\n", b"x", b"\\u00e9", b",", b"\xff"]) * rng.choice([10, 100_000, 600_000])
            + b'"'
        )
    elif kind == 1:
        values = rng.choice([b"9", b"0.1", b"-1"]) + b"3" * rng.choice([20, 400, 100_000])
    key = rng.choice([b"instances", b"inputs", b"examples", b"x", b"signature_name"])
    body = b'{"%s":%s%s%s}' % (key, b"[" * depth, values, b"]" * depth)
    return body if rng.random() < 0.8 else body[: rng.randrange(len(body))]


def hostile_request(model: str, rng: random.Random) -> bytes:
    """A hostile document, a bomb or a long name as a request over REST."""
    verb = rng.choice(["predict", "classify", "regress"])
    path = f"/v1/models/{model}:{verb}"
    extra, body = b"", hostile_body(rng)
    kind = rng.randrange(4)
    if kind == 0:
        unit = rng.choice([b"{},", b" ", b"[", b'"",', b"1,"])
        body = gzip.compress(b'{"instances":[' + unit * (rng.choice([1, 20, 60]) * 1_000_000 // len(unit)), 1)
        extra = b"Content-Encoding: gzip\r\n"
    elif kind == 1:
        body, extra = gzip.compress(body, 1), b"Content-Encoding: gzip\r\n"
    elif kind == 2:
        name = rng.choice([model + "x", "m", model + "/labels/l", model + "/versions/1"])
        path = f"/v1/models/{name}{'y' * rng.choice([1, 1000, 60_000])}:{verb}"
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        extra,
        len(body),
        body,
    )


def _tensor(rng: random.Random) -> tf.compat.v1.TensorProto:
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    proto.dtype = rng.choice([tf.float32, tf.string, tf.int8, tf.complex64]).as_datatype_enum
    for _ in range(rng.choice([1, 1, 2, 3, 300])):
        proto.tensor_shape.dim.add(size=rng.choice([0, 1, 2, 1000, 100_000, 2**20, 2**31 - 1, 2**62, -1]))
    if rng.random() < 0.5:
        proto.float_val.extend([1.0] * rng.choice([1, 10, 10_000]))
        proto.string_val.extend([b""] * rng.choice([1, 10, 10_000]))
    if rng.random() < 0.1:
        proto.tensor_content = bytes(rng.choice([1, 100, 10_000]))
    return proto


def _examples(source: object, rng: random.Random) -> None:
    example = tf.train.Example()
    for number in range(rng.choice([0, 1, 30])):
        example.features.feature[str(number)].bytes_list.value.append(b"x" * rng.choice([0, 1, 100]))
    count = rng.choice([0, 1, 100, 5_000, 60_000]) // (1 + len(example.features.feature))
    if rng.random() < 0.3:
        source.example_list_with_context.context.features.feature["c"].bytes_list.value.append(
            b"x" * rng.choice([1, 10_000])
        )
        source.example_list_with_context.examples.extend([example] * count)
    else:
        source.example_list.examples.extend([example] * count)


def _grpc_request(model: str, rng: random.Random) -> tuple[str, object]:
    kind = rng.choice(
        ["Predict", "Predict", "Classify", "MultiInference", "GetModelMetadata", "HandleReloadConfigRequest"]
    )
    if kind == "Predict":
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model if rng.random() < 0.9 else "x" * rng.choice([1, 60_000])
        for number in range(rng.choice([1, 1, 1, 2, 1000])):
            request.inputs["x" if not number else str(number)].CopyFrom(_tensor(rng))
        request.output_filter.extend([rng.choice(["y", "z"])] * rng.choice([0, 0, 1, 10_000]))
    elif kind == "Classify":
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = model
        _examples(request.input, rng)
    elif kind == "MultiInference":
        request = inference_pb2.MultiInferenceRequest()
        for number in range(rng.choice([0, 1, 10_000])):
            request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = (
                model if number < 3 else "x"
            )
        _examples(request.input, rng)
    elif kind == "GetModelMetadata":
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = model
        request.metadata_field.extend(
            [rng.choice(["signature_def", "x" * 1000])] * rng.choice([0, 1, 10_000])
        )
    else:
        request = model_management_pb2.ReloadConfigRequest()
        for number in range(rng.choice([0, 1, 2000])):
            request.config.model_config_list.config.add(
                name=str(number), base_path="/", model_platform="tensorflow"
            )
    return kind, request


def rest_attack(model: str, rng: random.Random) -> bytes:
    """The bytes of a hostile request over REST."""
    return hostile_request(model, rng)


def grpc_attack(port: int, model: str, rng: random.Random, timeout: float) -> tuple[str, str]:
    """Sends a hostile request over gRPC.

    Returns:
        The name of the code that it was answered with, and what is wrong with the answer: nothing where all
        is well.
    """
    name, request = _grpc_request(model, rng)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        services = (
            model_service_pb2_grpc.ModelServiceStub(channel),
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
        )
        call: Callable = next(getattr(service, name) for service in services if hasattr(service, name))
        start, code, details = time.monotonic(), "OK", ""
        try:
            call(request, timeout=timeout, compression=rng.choice([None, grpc.Compression.Gzip]))
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
        took = time.monotonic() - start
    if code not in EXPECTED:
        return code, f"{name} was answered with {code}: {details[:300]}"
    if took > timeout + 1.0:
        return code, f"{name} took {took:.1f} s of {timeout} s"
    return code, "" if len(details) < 5000 else f"{name} got an error of {len(details)} characters"


def check_reply(reply: bytes, took: float, limit: float) -> str:
    """What is wrong with the answer to a hostile request over REST; nothing where all is well."""
    if took > limit:
        return f"answered after {took:.1f} s of {limit} s"
    head, _, body = reply.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20] and len(body) > 100_000:
        return f"an error of {len(body)} bytes"
    if body and b"application/json" in head:
        json.loads(body)
    return ""
