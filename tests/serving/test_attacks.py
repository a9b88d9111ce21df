"""Small requests that once bought gigabytes or minutes, sent over loopback to servers of this process."""

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.conftest import Caller
from tests.serving.server_processes import free_ports, wait_for
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.grpc_service import GrpcOptions
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.reload_rules import ReloadRules, is_loopback

SLOW_SECONDS = 4.0


def resident():
    return psutil.Process().memory_info().rss


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    """`y` is `x` after a chain of products that takes seconds; rows of texts `s` too."""
    base = tmp_path_factory.mktemp("slow") / "slow"

    class Slow(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def __call__(self, x):
            _, y = tf.while_loop(
                lambda i, _: i < 100_000,
                lambda i, y: (i + 1, tf.matmul(y, y) * 1e-3),
                [0, tf.fill([256, 256], tf.reduce_sum(x))],
            )
            return {"y": x + y[0, 0] * 0}

    model = Slow()
    tf.saved_model.save(model, str(base / "1"), signatures=model.__call__)
    return base


@pytest.fixture(scope="module")
def attacked(models, slow_model):
    limits = Limits(read_seconds=0.5, min_bytes_per_second=1_000_000, request_seconds=1.0)
    with EmbeddedServer(
        {
            "half": models / "half",
            "zoo": models / "zoo",
            "estimator": models / "estimator",
            "slow": slow_model,
        },
        grpc_port=0,
        limits=limits,
        rest_timeout_ms=1000,
        metrics_path="/metrics",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def channel(attacked):
    with grpc.insecure_channel(f"127.0.0.1:{attacked.grpc_port}") as channel:
        yield channel


@pytest.fixture
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def error_of(call, request, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=options.pop("timeout", 10), **options)
    return caught.value.code().name, caught.value.details()


def tensor(dtype, *shape):
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    proto.dtype = dtype.as_datatype_enum
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def claim(model, signature, **tensors):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, proto in tensors.items():
        request.inputs[name].CopyFrom(proto)
    return request


# gRPC: claims


@pytest.mark.parametrize("rows", [100_000, 1_000_000, 2**31 - 1])
def test_ninety_bytes_cannot_claim_a_hundred_thousand_rows(prediction, rows):
    for request in (
        claim("zoo", "same_string", x=tensor(tf.string, rows)),
        claim("zoo", "same_string", x=tensor(tf.string, rows, 0)),
        claim("zoo", "same_float", x=tensor(tf.float32, rows, 0)),
        claim("zoo", "same_int8", x=tensor(tf.int8, rows)),
    ):
        assert len(request.SerializeToString()) < 94
        before = resident()
        code, message = error_of(prediction.Predict, request)
        assert code == "INVALID_ARGUMENT"
        assert "(--max_" in message or message == "tensor parsing error: x"
        assert resident() - before < 50_000_000


def test_examples_are_counted_and_contexts_are_not_multiplied(prediction):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "estimator"
    request.input.example_list.examples.extend([tf.train.Example()] * 5000)
    assert "4096 rows" in error_of(prediction.Classify, request)[1]
    request.input.Clear()
    with_context = request.input.example_list_with_context
    with_context.context.features.feature["s"].bytes_list.value.append(b"x" * 100_000)
    with_context.examples.extend([tf.train.Example()] * 1000)
    code, message = error_of(prediction.Classify, request)
    assert code == "INVALID_ARGUMENT"
    assert "a context of 1000" in message


def test_compressed_messages_are_held_to_their_plain_size_and_count(prediction, models):
    bomb = classification_pb2.ClassificationRequest()
    bomb.model_spec.name = "estimator"
    bomb.input.example_list.examples.extend([tf.train.Example()] * 1_100_000)
    code, message = error_of(prediction.Classify, bomb, compression=grpc.Compression.Gzip)
    assert code == "INVALID_ARGUMENT"
    assert "messages in it (--max_messages)" in message
    large = claim("zoo", "same_string", x=tensor(tf.string))
    large.inputs["x"].string_val.append(b"\0" * 70_000_000)
    before = resident()
    code, message = error_of(prediction.Predict, large, compression=grpc.Compression.Gzip)
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in message
    assert resident() - before < 200_000_000


# Time


def test_work_ends_with_the_clients_deadline(prediction):
    request = claim("slow", "", x=tf.make_tensor_proto([1.0]))
    process = psutil.Process()
    start = time.monotonic()
    assert error_of(prediction.Predict, request, timeout=0.3)[0] == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < 1.5
    assert idle_within(process, 1.5)
    call = prediction.Predict.future(request, timeout=20)  # the server's own limit is a second
    start = time.monotonic()
    assert call.exception().code().name == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < 2.5


def idle_within(process, seconds):
    """Whether a process comes to rest: its processor time stands still for a tenth of a second."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        before = sum(process.cpu_times()[:2])
        time.sleep(0.1)
        if sum(process.cpu_times()[:2]) - before < 0.05:
            return True
    return False


def test_a_request_over_rest_is_answered_when_its_time_is_up(attacked):
    call = Caller(attacked.rest_port)
    start = time.monotonic()
    reply = call("/v1/models/slow:predict", {"instances": [1.0]})
    assert reply.status == 504
    assert time.monotonic() - start < 2.0
    start = time.monotonic()
    body = b'{"instances": [NaN' + b",1.0" * 900_000 + b"]}"
    assert call("/v1/models/half:predict", body).status == 504
    assert time.monotonic() - start < 2.5
    assert call("/v1/models/half:predict", {"instances": [2.0]}).json == {"predictions": [4.0]}


def test_a_body_that_trickles_is_cut_off(attacked):
    with socket.create_connection(("127.0.0.1", attacked.rest_port), timeout=10) as opened:
        opened.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        start = time.monotonic()
        with contextlib.suppress(OSError):  # reset or broken pipe, whichever comes first
            while time.monotonic() - start < 5:
                time.sleep(0.1)
                opened.sendall(b" ")
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("tail", [b"X: " + b"y" * 60_000 + b"\r\n", b"1;" + b"e" * 60_000 + b"\r\nx\r\n"])
def test_trailers_and_chunk_extensions_count_as_headers(attacked, tail):
    """Both were read for as long as they came, the trailers into memory."""
    with socket.create_connection(("127.0.0.1", attacked.rest_port), timeout=10) as opened:
        opened.sendall(
            b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:"
            b" chunked\r\n\r\n1\r\n{\r\n"
        )
        if tail.startswith(b"X"):
            opened.sendall(b"0\r\n")
        reply = b""
        try:
            for _ in range(5):
                opened.sendall(tail)
            while part := opened.recv(65536):
                reply += part
        except OSError:
            pass
    assert reply == b"" or b" 431 " in reply[:20] or b" 400 " in reply[:20]


def test_a_burst_of_tiny_requests_is_unpacked_as_it_is_answered(attacked):
    burst = b"GET /v1/models/nope HTTP/1.1\r\n\r\n" * 5000
    with socket.create_connection(("127.0.0.1", attacked.rest_port), timeout=20) as opened:
        opened.sendall(burst)
        opened.shutdown(socket.SHUT_WR)
        reply = b""
        while part := opened.recv(65536):
            reply += part
    assert reply.count(b"HTTP/1.1 404") == 5000


# Memory


def test_errors_and_gzip_over_rest(attacked):
    call = Caller(attacked.rest_port)
    nested = b'{"x": ' + b"[" * 190 + b"{}," * 100_000 + b"{}" + b"]" * 190 + b"}"
    before = resident()
    reply = call("/v1/models/half:predict", gzip.compress(nested), "POST", {"Content-Encoding": "gzip"})
    assert reply.status in (400, 504)
    assert len(reply.body) < 100_000
    bomb = gzip.compress(b"{}," * 30_000_000)
    assert len(bomb) < 100_000
    reply = call("/v1/models/half:predict", bomb, "POST", {"Content-Encoding": "gzip"})
    assert reply.status == 413
    assert resident() - before < 300_000_000


def test_names_that_nobody_serves_are_not_remembered(attacked):
    call = Caller(attacked.rest_port)
    before = resident()
    for number in range(1000):
        path = f"/v1/models/{'m' * 60_000}{number}:predict"
        assert call(path, {"instances": [1]}).status == 404
    assert resident() - before < 40_000_000
    assert len(call("/metrics").body) < 200_000


# The control plane


def reload_request(name, path):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return request


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("", False),
        ("no.such.host.invalid", False),
    ],
)
def test_what_is_loopback(host, local):
    assert is_loopback(host) == local


def test_a_server_on_the_network_takes_no_configuration(models):
    with (
        EmbeddedServer({"half": models / "half"}, None, 0, "0.0.0.0") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        code, message = error_of(service.HandleReloadConfigRequest, reload_request("zoo", models / "zoo"))
        assert code == "PERMISSION_DENIED"
        assert "--reload_base_paths" in message
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "half"
        assert service.GetModelStatus(status, timeout=10).model_version_status[0].version == 2


def test_models_are_loaded_from_the_named_folders_alone(models, tmp_path):
    import shutil

    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    shutil.copytree(models / "half", allowed / "half")
    shutil.copytree(models / "half", elsewhere / "half")
    (allowed / "link").symlink_to(elsewhere / "half")
    (allowed / "inside").mkdir()
    (allowed / "inside" / "1").symlink_to(elsewhere / "half" / "1")
    shutil.copytree(models / "half" / "1", allowed / "parts" / "1")
    shutil.rmtree(allowed / "parts" / "1" / "variables")
    (allowed / "parts" / "1" / "variables").symlink_to(elsewhere / "half" / "1" / "variables")
    options = GrpcOptions(reload_base_paths=(str(allowed),))
    with (
        EmbeddedServer({"half": models / "half"}, None, 0, grpc=options, poll_seconds=0.1) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        for path in (
            elsewhere / "half",
            allowed / "link",
            f"{allowed}/../elsewhere/half",
            "gs://bucket/half",
        ):
            code, message = error_of(reload, reload_request("m", path))
            assert (code, "(--reload_base_paths)" in message) == ("PERMISSION_DENIED", True)
        assert error_of(reload, reload_request("m", "relative"))[0] == "INVALID_ARGUMENT"
        for leads_out in ("inside", "parts"):
            assert (
                error_of(reload, reload_request(leads_out, allowed / leads_out), timeout=0.7)[0]
                == "DEADLINE_EXCEEDED"
            )
        assert reload(reload_request("good", allowed / "half"), timeout=20).status.error_code == 0


def test_rules_for_uris_and_many_models():
    from tfrec_fusion.serving.server.config_file import ModelConfig

    rules = ReloadRules(False, ("gs://bucket/models", "/srv"), max_models=2)
    assert rules.check([ModelConfig("a", "gs://bucket/models/a")])[0].within == "gs://bucket/models"
    for path in ("gs://bucket/models-b/a", "gs://bucket/models/../b", "s3://bucket/models/a", "/srv2/a"):
        with pytest.raises(StatusError, match="PERMISSION_DENIED"):
            rules.check([ModelConfig("a", path)])
    with pytest.raises(StatusError, match="at most 2 models"):
        rules.check([ModelConfig(str(number), "/srv/a") for number in range(3)])


def test_many_reloads_leave_little_behind(models):
    from tfrec_fusion.serving.server.config_file import ModelConfig
    from tfrec_fusion.serving.server.versions import _MAX_RETIRED, ModelManager

    manager = ModelManager([], lambda *_: None, poll_seconds=0)
    for number in range(_MAX_RETIRED + 50):
        manager._apply([ModelConfig(f"m{number}", "/nowhere")])
    assert len(manager._retired) == _MAX_RETIRED


def test_output_filters_do_not_push_out_what_everybody_needs(models):
    from tfrec_fusion.serving.server.session import _MAX_RUNS, LoadedModel

    model = LoadedModel(str(models / "zoo" / "1"), "zoo", 1, 5000)
    signature = model.signature("same_float")
    x = np.ones(1, np.float32)
    model.run(signature.feeds, [x], signature.fetches)
    for timeout_ms in range(1, 4000, 7):
        model.run(signature.feeds, [x], signature.fetches, False, 5000 + timeout_ms)
    assert len(model.run._chosen) <= _MAX_RUNS
    assert len(model.run._runs) == 1
    for expected in (1, 9, 100, 999, 4444, 60_000):
        assert (
            expected <= model.run._rounded(expected) <= 1.25 * expected
            or model.run._rounded(expected) == 5000
        )
    assert model.run._rounded(4900) == 5000


# The end


@pytest.mark.slow
def test_sigterm_is_obeyed_during_a_long_request(slow_model):
    (port,) = free_ports(1)
    command = [
        sys.executable,
        "-m",
        "tfrec_fusion.serving.server",
        "--model_name=slow",
        f"--model_base_path={slow_model}",
    ]
    command += [
        f"--rest_api_port={port}",
        "--port=0",
        "--rest_api_timeout_in_ms=60000",
        "--drain_seconds=0.5",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    try:
        wait_for(f"http://127.0.0.1:{port}", "slow", process)
        body = json.dumps({"instances": [1.0]}).encode()
        with socket.create_connection(("127.0.0.1", port)) as opened:
            opened.sendall(
                b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )
            time.sleep(0.5)
            process.terminate()
            start = time.monotonic()
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - start < 6
    finally:
        process.kill()
        process.wait()


def test_clients_still_work_after_all_of_this(attacked):
    assert Client.connect(f"http://127.0.0.1:{attacked.rest_port}", "half").predict([0.0]) == [3.0]
