"""The gRPC services: the same answers as REST's, and TF Serving's own messages."""

import re
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.saved_models import PASS_THROUGH
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer
from tfrec_fusion.serving.server.grpc_service import GrpcOptions


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as opened:
        yield opened


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def service(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request_for(model, signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(
            value if hasattr(value, "dtype") and hasattr(value, "float_val") else tf.make_tensor_proto(value)
        )
    return request  # fmt: skip


def error_of(function, request, timeout=10):
    with pytest.raises(grpc.RpcError) as caught:
        function(request, timeout=timeout)
    return caught.value.code().name, caught.value.details()


def test_predict_fills_typed_fields_and_the_model_spec(prediction):
    response = prediction.Predict(request_for("half", x=[1.0, 2.0]), timeout=10)
    assert list(response.outputs["y"].float_val) == [3.5, 4.0]
    assert not response.outputs["y"].tensor_content
    assert response.model_spec.name == "half"
    assert response.model_spec.version.value == 2
    assert response.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize("name", sorted(PASS_THROUGH))
def test_every_type_comes_back(prediction, name):
    dtype = PASS_THROUGH[name]
    if dtype == tf.string:
        value = np.array([[b"a\x00", b"\xff"], [b"", b"b"]], object)
    else:
        value = np.array([[0, 1], [1, 0]]).astype(dtype.as_numpy_dtype)
    response = prediction.Predict(
        request_for("zoo", f"same_{name}", x=tf.make_tensor_proto(value)), timeout=10
    )
    assert response.outputs["y"].dtype == dtype.as_datatype_enum
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), value)


@pytest.mark.parametrize("value", [3.0, [], [[1.0, 2.0]], np.zeros([0, 3], np.float32)])
def test_shapes_come_back(prediction, value):
    value = np.asarray(value, np.float32)
    response = prediction.Predict(request_for("zoo", "same_float", x=value), timeout=10)
    assert tf.make_ndarray(response.outputs["y"]).shape == value.shape


def test_versions_labels_and_filters(prediction):
    request = request_for("half", x=[0.0])
    request.model_spec.version.value = 1
    assert prediction.Predict(request).outputs["y"].float_val[0] == 2.0
    request.model_spec.version_label = "canary"
    assert prediction.Predict(request).outputs["y"].float_val[0] == 3.0
    request = request_for("zoo", "both", a=1.0, b=2.0)
    request.output_filter.append("b_out")
    assert list(prediction.Predict(request).outputs) == ["b_out"]


def with_spec(**fields):
    request = request_for("half", x=[0.0])
    for field, value in fields.items():
        if field == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, field, value)
    return request


def filtered(*names, a=1.0):
    request = request_for("zoo", "both", a=a, b=2.0)
    request.output_filter.extend(names)
    return request


def broken_tensor(**fields):
    request = request_for("half", x=[0.0])
    request.inputs["x"].CopyFrom(text_format.Parse(fields["text"], type(request.inputs["x"])()))
    return request


ERRORS = [
    (lambda: predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (lambda: with_spec(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (lambda: with_spec(name="nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    (lambda: with_spec(version=99), "NOT_FOUND", "Servable not found for request: Specific(half, 99)"),
    (lambda: with_spec(version_label="x"), "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
    (lambda: with_spec(signature_name="x"), "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
    (lambda: request_for("half"), "INVALID_ARGUMENT",
     "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
    (lambda: request_for("zoo", "add", a=1.0, z=2.0, b=3.0), "INVALID_ARGUMENT",
     "input size does not match signature: 3!=2 len({a,b,z}) != len({a,b}). Sent extra: {z}. Missing but required: {}."),
    (lambda: request_for("half", x=[1]), "INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided"),
    (lambda: request_for("zoo", "add", a=1.0, z=2.0), "INVALID_ARGUMENT",
     "Signature input alias: b(feed name: Placeholder_16:0) not found in request and no default value provided. Inputs "
     "expected to be in the request {a,z}, or default input alias set: "),
    (lambda: request_for("zoo", "add_default", b=1.0), "INVALID_ARGUMENT",
     "Signature input alias: a(feed name: Placeholder_15:0) not found in request and no default value provided. Inputs "
     "expected to be in the request {b}, or default input alias set: b"),
    (lambda: request_for("zoo", "add_default", a=1.0, z=1.0), "INVALID_ARGUMENT",
     "Inputs contains invalid name. Used request inputs: a, request input: a,z"),
    (lambda: request_for("zoo", "add", a=1.0, b="x"), "INVALID_ARGUMENT", "Expects arg[1] to be float but string is provided"),
    (lambda: request_for("zoo", "add_crossed", z="x", b=1.0), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
    (lambda: request_for("zoo", "add_crossed", z="x", b=1), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
    (lambda: filtered("nope"), "INVALID_ARGUMENT",
     "output tensor alias not found in signature: nope Outputs expected to be in the set {a_out,b_out}."),
    (lambda: filtered("a_out", "a_out"), "INVALID_ARGUMENT", "duplicate output tensor alias: a_out"),
    (lambda: filtered("nope", a="x"), "INVALID_ARGUMENT",
     "output tensor alias not found in signature: nope Outputs expected to be in the set {a_out,b_out}."),
    (lambda: broken_tensor(text="float_val: 1"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (lambda: broken_tensor(text="dtype: DT_FLOAT tensor_shape { unknown_rank: true }"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (lambda: broken_tensor(text="dtype: DT_FLOAT tensor_shape { dim { size: -1 } }"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (lambda: broken_tensor(text="dtype: DT_FLOAT tensor_shape { dim { size: 9999999999 } } float_val: 1"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    (lambda: broken_tensor(text="dtype: DT_FLOAT tensor_shape { dim { size: 3 } } tensor_content: 'abc'"), "INVALID_ARGUMENT", "tensor parsing error: x"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "code", "message"), ERRORS)
def test_predict_errors(prediction, make, code, message):
    assert error_of(prediction.Predict, make()) == (code, message)


def test_an_input_with_a_default_may_be_left_out(prediction):
    request = request_for("zoo", "add_default", a=1.0)
    assert prediction.Predict(request).outputs["sum"].float_val[0] == 11.0
    request = request_for("zoo", "add_default", a=1.0, b=2.0)
    assert prediction.Predict(request).outputs["sum"].float_val[0] == 3.0


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("float", "dim { size: 3 } } float_val: 1 float_val: 2", [1, 2, 2]),
        ("float", "dim { size: 2 } }", [0, 0]),
        ("float", "} float_val: 1 float_val: 2", 1),
        ("float", "dim { size: 1 } } float_val: 7 tensor_content: '\\000\\000\\200?'", [1]),
        ("float", "dim { size: 0 } } float_val: 7", []),
        ("string", "dim { size: 3 } } string_val: 'a'", [b"a", b"a", b"a"]),
        ("string", "dim { size: 2 } }", [b"", b""]),
        ("string", "dim { size: 1 } } string_val: 'a' string_val: 'b'", [b"a"]),
        ("string", "dim { size: 2 } } tensor_content: '\\001\\002abb'", [b"a", b"bb"]),
        ("int8", "dim { size: 2 } } int_val: 300 int_val: -1", [44, -1]),
        ("half", "dim { size: 2 } } half_val: 15360", [1, 1]),
        ("bool", "dim { size: 2 } } bool_val: true", [True, True]),
        ("complex64", "dim { size: 2 } } scomplex_val: 1 scomplex_val: 2 scomplex_val: 3", [1 + 2j, 1 + 2j]),
    ],
)  # fmt: skip
def test_tensors_are_read_as_tensorflow_reads_them(prediction, name, text, value):
    proto = text_format.Parse(
        f"dtype: DT_{name.upper()} tensor_shape {{ {text}", type(tf.make_tensor_proto(0))()
    )
    dtype = PASS_THROUGH[name]
    expected = tf.io.parse_tensor(proto.SerializeToString(), dtype)  # TensorFlow's own reading
    assert expected.numpy().tolist() == value
    response = prediction.Predict(request_for("zoo", f"same_{name}", x=proto))
    assert tf.make_ndarray(response.outputs["y"]).tolist() == value


def test_a_small_message_cannot_ask_for_much_memory(prediction):
    text = "dtype: DT_DOUBLE tensor_shape { dim { size: 2000000000 } } double_val: 1"
    assert error_of(prediction.Predict, broken_tensor(text=text)) == (
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    )


def example(**features):
    result = tf.train.Example()
    for name, value in features.items():
        if isinstance(value, float):
            result.features.feature[name].float_list.value.append(value)
        elif isinstance(value, int):
            result.features.feature[name].int64_list.value.append(value)
    return result


def test_classify_and_regress(prediction):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "estimator"
    request.input.example_list.examples.extend([example(x=0.25), example()])
    response = prediction.Classify(request, timeout=10)
    rows = [[(entry.label, entry.score) for entry in row.classes] for row in response.result.classifications]
    assert rows == [[("low", 0.75), ("high", 0.25)], [("low", 1.0), ("high", 0.0)]]
    assert response.model_spec.version.value == 7
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "estimator"
    request.model_spec.signature_name = "regress"
    request.input.example_list_with_context.context.CopyFrom(example(i=3))
    request.input.example_list_with_context.examples.extend([example(x=0.5), example()])
    response = prediction.Regress(request, timeout=10)
    assert [entry.value for entry in response.result.regressions] == [4.0, 3.0]
    request.input.Clear()
    assert error_of(prediction.Regress, request) == ("INVALID_ARGUMENT", "Input is empty.")
    request.model_spec.signature_name = "scores_only"  # which is looked at before the input
    assert error_of(prediction.Regress, request)[1].startswith("No regression outputs found in SignatureDef")


@pytest.mark.parametrize(("signature", "dtype"), [("half_scores", "DT_HALF"), ("int_scores", "DT_INT32")])
def test_scores_of_another_type(prediction, signature, dtype):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "estimator"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend([example(x=0.25)])
    assert error_of(prediction.Classify, request) == (
        "INVALID_ARGUMENT",
        f"Expected scores Tensor of DT_FLOAT. Got: {dtype}",
    )


def test_runtimes_are_measured(server, prediction):
    def counts():
        pattern = (
            r':tensorflow:serving:runtime_latency_count{model_name="estimator",API="(\w+)",runtime="TF1"}'
            r" (\d+)"
        )
        return {api: int(count) for api, count in re.findall(pattern, server.metrics.page())}

    before = counts()
    request = request_for("estimator", "predict", examples=[example(x=0.25).SerializeToString()])
    prediction.Predict(request)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "estimator"
    request.input.example_list.examples.extend([example(x=0.25)])
    prediction.Classify(request)
    request = regression_pb2.RegressionRequest(input=request.input)
    request.model_spec.name = "estimator"
    request.model_spec.signature_name = "regress"
    prediction.Regress(request)
    after = counts()
    assert {api: after[api] - before.get(api, 0) for api in after} == {
        "Predict": 1,
        "Classify": 1,
        "Regress": 1,
    }


def multi(*tasks, examples=1):
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = model
        task.model_spec.signature_name = signature
    request.input.example_list.examples.extend([example(x=0.25)] * examples)
    return request


def test_multi_inference(prediction, server):
    response = prediction.MultiInference(
        multi(("estimator", "", "classify"), ("estimator", "regress", "regress")), timeout=10
    )
    first, second = response.results
    assert [entry.score for entry in first.classification_result.classifications[0].classes] == [0.75, 0.25]
    assert first.model_spec.signature_name == "serving_default"
    assert second.regression_result.regressions[0].value == 0.5
    # multi_inference.cc Infer is what records it
    assert ':tensorflow:serving:request_example_counts_count{model="estimator"} ' in server.metrics.page()


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (multi(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (multi(("", "", "classify")), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (multi(("estimator", "", "classify"), ("", "", "classify")), "INVALID_ARGUMENT",
         "Found ModelSpec with an empty model name."),
        (multi(("estimator", "x", "classify"), ("half", "", "classify")), "INVALID_ARGUMENT",
         "Requested signature not found in model graph: x"),
        (multi(("estimator", "", "classify"), ("half", "", "classify")), "INVALID_ARGUMENT",
         "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
        (multi(("estimator", "", "classify"), ("estimator", "", "classify")), "INVALID_ARGUMENT",
         "Duplicate evaluation of signature: serving_default"),
        (multi(("estimator", "x", "classify")), "INVALID_ARGUMENT", "Requested signature not found in model graph: x"),
        (multi(("estimator", "", "predict")), "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
        (multi(("estimator", "", "regress")), "INVALID_ARGUMENT", "Expected one output Tensor."),
        (multi(("estimator", "", "classify"), examples=0), "INVALID_ARGUMENT", "Input is empty."),
        (multi(("nope", "", "classify")), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ],
)  # fmt: skip
def test_multi_inference_errors(prediction, request_, code, message):
    assert error_of(prediction.MultiInference, request_) == (code, message)


def test_metadata(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    response = prediction.GetModelMetadata(request, timeout=10)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    assert definitions.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 2)
    request.metadata_field[0] = "other"
    assert error_of(prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "Metadata field other is not supported",
    )
    del request.metadata_field[:]
    assert error_of(prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    )


def test_status(service):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert error_of(service.GetModelStatus, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "half"
    response = service.GetModelStatus(request, timeout=10)
    assert [(entry.version, entry.state) for entry in response.model_version_status] == [(2, 30), (1, 30)]
    request.model_spec.version.value = 9
    assert error_of(service.GetModelStatus, request) == (
        "NOT_FOUND",
        "Could not find version 9 of model half",
    )


def test_health(channel):
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    for name in ("", "PredictionService", "ModelService"):
        assert check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == 1
    assert error_of(check, health_pb2.HealthCheckRequest(service="x"))[0] == "NOT_FOUND"


def test_no_client_takes_all_watches_and_names_are_not_kept(server, channel):
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service=f"x{index}")) for index in range(100)]
    assert {next(watch).status for watch in watches} == {3}  # SERVICE_UNKNOWN
    code, message = error_of(
        lambda request, **options: next(stub.Watch(request, **options)), health_pb2.HealthCheckRequest()
    )
    assert (code, message) == ("RESOURCE_EXHAUSTED", "100 clients watch already")
    for watch in watches:
        watch.cancel()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            again = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
            assert next(again).status == 1
            break
        except grpc.RpcError:
            time.sleep(0.05)
    else:
        raise AssertionError("The watches that ended still count")
    again.cancel()


def test_health_watches_hold_no_thread_and_end_with_the_server(models):
    server = EmbeddedServer(
        {"half": str(models / "half")}, None, 0, poll_seconds=0, grpc=GrpcOptions(num_threads=2, health=True)
    )
    with server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        types = {
            "request_serializer": health_pb2.HealthCheckRequest.SerializeToString,
            "response_deserializer": health_pb2.HealthCheckResponse.FromString,
        }
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", **types)
        check = channel.unary_unary("/grpc.health.v1.Health/Check", **types)
        watches = [watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(5)]
        assert [next(one).status for one in watches] == [1] * 5  # SERVING
        unknown = watch(health_pb2.HealthCheckRequest(service="x"), timeout=30)
        assert next(unknown).status == 3  # SERVICE_UNKNOWN
        watches.pop().cancel()
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 4  # the watches did not use up the grace
        assert [[reply.status for reply in one] for one in watches] == [[2]] * 4  # NOT_SERVING, then the end
        assert list(unknown) == []


def test_long_messages_are_cut(prediction):
    code, message = error_of(prediction.Predict, with_spec(name="x" * 3000))
    assert code == "NOT_FOUND"
    assert len(message) < 1100
    assert message.endswith("...TRUNCATED")


def test_messages_may_be_large(server):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        value = np.arange(3_000_000, dtype=np.float32)
        response = stub.Predict(request_for("zoo", "same_float", x=value), timeout=30)
        assert len(response.outputs["y"].float_val) == len(value)


def test_reload_over_grpc_and_tensor_content(models):
    options = GrpcOptions(as_content=True)
    with (
        EmbeddedServer({"half": models / "half"}, None, grpc_port=0, grpc=options) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        service = model_service_pb2_grpc.ModelServiceStub(channel)
        output = prediction.Predict(request_for("half", x=[1.0, 2.0])).outputs["y"]
        assert output.tensor_content == np.array([3.5, 4.0], np.float32).tobytes()
        assert not output.float_val
        request = model_management_pb2.ReloadConfigRequest()
        assert error_of(service.HandleReloadConfigRequest, request)[0] == "INVALID_ARGUMENT"
        config = request.config.model_config_list.config
        config.add(name="zoo", base_path=str(models / "zoo"), model_platform="tensorflow")
        response = service.HandleReloadConfigRequest(request, timeout=20)
        assert response.status.error_code == 0
        assert prediction.Predict(request_for("zoo", "same_float", x=1.0)).model_spec.name == "zoo"
        # Strings too, as TensorFlow encodes them: their lengths, then their bytes.
        output = prediction.Predict(request_for("zoo", "same_string", x=[b"a", b"bb" * 100])).outputs["y"]
        assert output.tensor_content == b"\x01\xc8\x01a" + b"bb" * 100
        assert tf.io.parse_tensor(output.SerializeToString(), tf.string).numpy().tolist() == [
            b"a",
            b"bb" * 100,
        ]
        with Client.connect(f"grpc://127.0.0.1:{server.grpc_port}", "zoo") as client:
            assert client.predict({"x": ["a", "bb"]}, signature_name="same_string") == ["a", "bb"]
        assert error_of(prediction.Predict, request_for("half", x=[1.0]))[0] == "NOT_FOUND"
        config[0].version_labels["later"] = 5
        code, message = error_of(service.HandleReloadConfigRequest, request)
        assert code == "FAILED_PRECONDITION"
        assert (
            message
            == "Request to assign label to version 5 of model zoo, which is not currently available for"
            " inference"
        )
        config[0].model_platform = "other"
        assert error_of(service.HandleReloadConfigRequest, request) == (
            "INVALID_ARGUMENT",
            (
                "Illegal to change a model's platform. For model zoo platform was tensorflow and new platform"
                " requested is other"
            ),
        )
        config[0].model_platform = "tensorflow"
        config.add(name="other", base_path="/nowhere", model_platform="tensorflow")
        del config[0].version_labels["later"]
        assert error_of(service.HandleReloadConfigRequest, request, timeout=0.5)[0] == "DEADLINE_EXCEEDED"


def test_a_port_that_is_taken_is_an_error(models, server):
    from tfrec_fusion.serving.protocol.status import StatusError

    for ports in ({"rest_port": server.rest_port}, {"rest_port": None, "grpc_port": server.grpc_port}):
        other = EmbeddedServer({"half": models / "half"}, **ports).start()
        with pytest.raises(StatusError, match="UNAVAILABLE: Failed to bind"):
            other.wait_ready(timeout=20)
        other.stop()
