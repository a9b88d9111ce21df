"""Paths, methods, status, metadata and lookup errors over REST, as tables."""

import json

import pytest
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import meta_graph_pb2

from tests.serving.conftest import Caller
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.embedded import EmbeddedServer

ROW = {"instances": [0]}

# Predict: (path, what half answers for 0): version 1 adds 2, version 2 adds 3
FOUND = [
    ("/v1/models/half:predict", 3.0),
    ("/V1/Models/half:predict", 3.0),
    ("/v1/models/h%61lf:predict", 3.0),
    ("/v1/models/half/versions/1:predict", 2.0),
    ("/v1/models/half/versions/2:predict", 3.0),
    ("/v1/models/half/versions/0002:predict", 3.0),
    ("/v1/models/half/VERSIONS/1:predict", 2.0),
    ("/v1/models/half/labels/stable:predict", 2.0),
    ("/v1/models/half/labels/canary:predict", 3.0),
    ("/v1/models/half/labels/c%61nary:predict", 3.0),
    ("/v1/models/a%20b%2F%C3%BC:predict", 3.0),
]


@pytest.mark.parametrize(("path", "answer"), FOUND)
def test_predict_paths(call, path, answer):
    reply = call(path, ROW)
    assert (reply.status, reply.json) == (200, {"predictions": [answer]})


# (method, path, status, message)
REFUSED = [
    ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
    ("POST", "/v1/models/HALF:predict", 404, "Servable not found for request: Latest(HALF)"),
    ("POST", "/v1/models/half/versions/99:predict", 404, "Servable not found for request: Specific(half, 99)"),
    ("POST", "/v1/models/nope/versions/1:predict", 404, "Servable not found for request: Specific(nope, 1)"),
    ("POST", "/v1/models/half/labels/x:predict", 400, "Unrecognized servable version label: x"),
    ("POST", "/v1/models/nope/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
    ("POST", "/v1/models/half:PREDICT", 400, "Malformed request: POST /v1/models/half:PREDICT"),
    ("POST", "/v1/models/half:predict?x=1", 400, "Malformed request: POST /v1/models/half:predict?x=1"),
    ("POST", "/v1/models/half:predict/", 400, "Malformed request: POST /v1/models/half:predict/"),
    ("POST", "/v1/models/half", 400, "Malformed request: POST /v1/models/half"),
    ("POST", "/v1/models/half:explain", 400, "Malformed request: POST /v1/models/half:explain"),
    ("POST", "/v1/models/half/metadata", 400, "Malformed request: POST /v1/models/half/metadata"),
    ("POST", "/v1/models/half/versions/x:predict", 400, "Malformed request: POST /v1/models/half/versions/x:predict"),
    ("POST", "/v1/models/half/versions/-1:predict", 400, "Malformed request: POST /v1/models/half/versions/-1:predict"),
    ("POST", "/v1/models/:predict", 400, "Malformed request: POST /v1/models/:predict"),
    ("POST", "/v1/models//half:predict", 400, "Malformed request: POST /v1/models//half:predict"),
    ("POST", "/v1/models/half/versions/1/labels/stable:predict", 400, "Malformed request: POST /v1/models/half/versions/1/labels/stable:predict"),
    ("POST", "/v1/models/half/versions/9223372036854775808:predict", 400, "Failed to convert version: 9223372036854775808 to numeric."),
    ("GET", "/v1/models/half/versions/99999999999999999999999", 400, "Failed to convert version: 99999999999999999999999 to numeric."),
    ("GET", "/v1/models/half:predict", 400, "Malformed request: GET /v1/models/half:predict"),
    ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
    ("GET", "/v1/model", 400, "Malformed request: GET /v1/model"),
    ("GET", "/v1/models", 400, "Missing model name in request."),
    ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
    ("GET", "/v1/models/foo", 404, "Could not find any versions of model foo"),
    ("GET", "/v1/models/foo/versions/9", 404, "Could not find version 9 of model foo"),
    ("GET", "/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
    ("GET", "/v1/models/half?x=1", 404, "Could not find any versions of model half?x=1"),
    ("GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    ("GET", "/v1/models/foo/metadata", 404, "Servable not found for request: Latest(foo)"),
    ("GET", "/v1/models/half/versions/9/metadata", 404, "Servable not found for request: Specific(half, 9)"),
    ("GET", "/v1/models/half/labels/x/metadata", 400, "Unrecognized servable version label: x"),
    ("GET", "/v1/models/half/metadata/x", 400, "Malformed request: GET /v1/models/half/metadata/x"),
    ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404, "Could not find any versions of model ../../etc/passwd"),
    ("GET", "/v1/models/../../etc/passwd", 400, "Malformed request: GET /v1/models/../../etc/passwd"),
    ("GET", "/v1/models/%00", 404, "Could not find any versions of model \0"),
    ("PUT", "/v1/models/half:predict", 400, "Malformed request: PUT /v1/models/half:predict"),
    ("DELETE", "/v1/models/half", 400, "Malformed request: DELETE /v1/models/half"),
    ("PATCH", "/v1/models/half", 400, "Malformed request: PATCH /v1/models/half"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "message"), REFUSED)
def test_refused_paths(call, method, path, status, message):
    reply = call(path, json.dumps(ROW) if method in ("POST", "PUT", "PATCH") else None, method=method)
    assert (reply.status, reply.error) == (status, message)
    assert reply.headers["content-type"] == "application/json"


def test_versions_without_a_name_are_versions_of_no_model(call):
    # The name is optional in TF Serving's pattern, so this path matches with an empty one.
    assert call("/v1/models/versions/1").error == "Missing model name in request."


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/models/half", "/index.html", "/v1models", "//v1/models/half"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_outside_the_api_is_a_small_page(call, method, path):
    reply = call(path, "" if method == "POST" else None, method=method)
    assert reply.status == 404
    assert reply.headers["content-type"] == "text/html"
    assert b"<H1>Not Found</H1>" in reply.body


def test_head_has_the_status_and_no_body(call):
    for path, status in (("/v1/models/half", 400), ("/nothing", 404), ("/v1/models/half", 400)):
        reply = call(path, method="HEAD")
        assert (reply.status, reply.body) == (status, b"")


def test_a_target_may_be_a_whole_url(call):
    assert call("http://some.host:8501/v1/models/half:predict", ROW).status == 200
    assert call("http://some.host/v1/models/half").status == 200
    assert call("http://some.host").status == 404


def test_content_type_of_a_request_is_ignored(call):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert call("/v1/models/half:predict", ROW, headers={"Content-Type": kind}).status == 200


def status_of(version, state="AVAILABLE"):
    return {"version": version, "state": state, "status": {"error_code": "OK", "error_message": ""}}


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("/v1/models/half", ["2", "1"]),
        ("/v1/models/half/versions/1", ["1"]),
        ("/v1/models/half/versions/02", ["2"]),
        ("/V1/MODELS/half", ["2", "1"]),
        ("/v1/models/estimator", ["7"]),
        ("/v1/models/half/labels/stable", ["2", "1"]),
    ],
)
def test_status(call, path, versions):
    reply = call(path)
    assert reply.status == 200
    assert reply.json == {"model_version_status": [status_of(version) for version in versions]}


def test_status_to_the_byte(call):
    assert call("/v1/models/estimator").body.decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "7",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/half/metadata", "2"),
        ("/v1/models/half/versions/1/metadata", "1"),
        ("/v1/models/half/labels/stable/metadata", "1"),
    ],
)
def test_metadata(call, path, version):
    reply = call(path)
    assert reply.status == 200
    assert reply.json["model_spec"] == {"name": "half", "signature_name": "", "version": version}
    signature = reply.json["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"] == {
        "x": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "1", "name": ""}], "unknown_rank": False},
            "name": "x:0",
        }
    }
    assert list(signature["outputs"]) == ["y"]


def test_metadata_of_unknown_rank_prints_its_defaults(call):
    signature = call("/v1/models/zoo/metadata").json["metadata"]["signature_def"]["signature_def"][
        "same_float"
    ]
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}


# Classify and regress: (method, body, results)
RESULTS = [
    ("classify", {"examples": [{"x": 0.25}]}, [[["low", 0.75], ["high", 0.25]]]),
    ("classify", {"examples": [{"x": [0.25]}, {}]}, [[["low", 0.75], ["high", 0.25]], [["low", 1.0], ["high", 0.0]]]),
    ("classify", {"context": {"x": 1.0}, "examples": [{}, {"x": 0.5}]},
     [[["low", 0.0], ["high", 1.0]], [["low", 0.5], ["high", 0.5]]]),
    ("classify", {"signature_name": "scores_only", "examples": [{}]}, [[["", 1.0], ["", 0.0]]]),
    ("classify", {"signature_name": "classes_only", "examples": [{}]}, [[["low", 0.0], ["high", 0.0]]]),
    ("classify", {"signature_name": "label", "examples": [{"s": "abc"}]}, [[["abc", 0.0]]]),
    ("classify", {"signature_name": "label", "examples": [{"s": {"b64": "YWJj"}}]}, [[["abc", 0.0]]]),
    ("regress", {"signature_name": "regress", "examples": [{"x": 1.5}, {"i": 4}]}, [3.0, 4.0]),
    ("regress", {"signature_name": "regress", "examples": [{"x": 1.5, "i": [True]}]}, [4.0]),
    ("regress", {"signature_name": "regress_flat", "examples": [{"x": 1e39}]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "body", "results"), RESULTS)
def test_classify_and_regress(call, method, body, results):
    reply = call(f"/v1/models/estimator:{method}", body)
    assert reply.status == 200
    if results is not None:
        assert reply.json == {"results": results}


def test_results_to_the_byte(call):
    body = {"examples": [{"x": 0.25}, {}]}
    assert call("/v1/models/estimator:classify", body).body.decode() == (
        '{\n    "results": [[["low", 0.75], ["high", 0.25]], [["low", 1.0], ["high", 0.0]]\n    ]\n}'
    )
    body["signature_name"] = "regress"
    assert call("/v1/models/estimator:regress", body).body.decode() == '{\n    "results": [0.5, 0.0]\n}'


EXAMPLE_ERRORS = [
    ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
    ('{"examples": 1}', 'JSON Value: {\n    "examples": 1\n} Expecting \'examples\' value to be an list/array'),
    ('{"examples": []}', 'JSON Value: {\n    "examples": []\n} \'examples\' value is an empty array'),
    ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
    ('{"examples": ["a"]}', "Example must be JSON object but got JSON String"),
    ('{"examples": [null]}', "Example must be JSON object but got JSON Null"),
    ('{"examples": [[]]}', "Example must be JSON object but got JSON Array"),
    ('{"context": 1, "examples": [{}]}', "Example must be JSON object but got JSON Number"),
    ('{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
    ('{"examples": [{"x": [[1]]}]}', "Feature: x has element with unexpected JSON type: Array"),
    ('{"examples": [{"x": {"a": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
    ('{"examples": [{"x": [1, 2.5]}]}', "Unexpected element type in feature: x expecting type: int64"),
    ('{"examples": [{"x": [2.5, 1]}]}', "Unexpected element type in feature: x expecting type: float"),
    ('{"examples": [{"x": ["a", 1]}]}', "Unexpected element type in feature: x expecting type: bytes"),
    ('{"examples": [{"x": [1, "a"]}]}', "Unexpected element type in feature: x expecting type: int64"),
    ('{"examples": [{"x": [true, {"b64": "YQ=="}]}]}', "Unexpected element type in feature: x expecting type: int64"),
    ('{"examples": [{"i": 9223372036854775808}]}', "Feature: i has uint64 element. Only int64 is supported."),
    ('{"examples": [{"s": {"b64": "!"}}]}', "Unable to base64 decode"),
    ('{"signature_name": 5, "examples": [{}]}',
     'JSON Value: {\n    "signature_name": 5,\n    "examples": [\n        {}\n    ]\n} not formatted correctly. '
     "'signature_name' key must be a string value."),
    ("", "JSON Parse error: The document is empty"),
    ('{"examples": [{}]', "JSON Parse error: Missing a comma or } after an object member. at offset: 17"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), EXAMPLE_ERRORS)
@pytest.mark.parametrize("path", ["estimator:classify", "estimator:regress", "nope:classify"])
def test_examples_are_checked_before_the_model_is_looked_up(call, path, body, message):
    reply = call(f"/v1/models/{path}", body)
    assert (reply.status, reply.error) == (400, message)


ONE_OF = 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '


@pytest.mark.parametrize(
    ("method", "signature", "message"),
    [
        ("classify", "nope", "No signature was found with the name: nope"),
        ("regress", "nope", "No signature was found with the name: nope"),
        ("classify", "regress", ONE_OF),
        ("regress", "", "Expected one output Tensor."),
        ("regress", "scores_only", "No regression outputs found in SignatureDef: "),
        ("classify", "predict", "No classification inputs found in SignatureDef: "),
        ("classify", "flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [4]"),
        ("classify", "int_scores", "Expected scores Tensor of DT_FLOAT. Got: DT_INT32"),
        ("regress", "regress_wide", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"),
        ("regress", "regress_short", "Input batch size did not match output batch size: 2 vs. 1"),
    ],
)  # fmt: skip
def test_classify_and_regress_signatures(call, method, signature, message):
    reply = call(f"/v1/models/estimator:{method}", {"signature_name": signature, "examples": [{}, {}]})
    assert reply.status == 400
    if message.endswith(": "):  # the signature's definition follows
        message += text_format.MessageToString(_definition(call, signature))
    assert reply.error == message


def _definition(call, signature):
    found = call("/v1/models/estimator/metadata").json["metadata"]["signature_def"]["signature_def"][
        signature
    ]
    return json_format.ParseDict(found, meta_graph_pb2.SignatureDef())


def test_a_signature_of_tf2_is_classified_and_regressed(call):
    """TF2 names the method of every signature predict; TF Serving does not look at it unless told."""
    body = {"signature_name": "classify_as_predict", "examples": [{"x": 0.25}]}
    assert call("/v1/models/estimator:classify", body).json == {"results": [[["low", 0.75], ["high", 0.25]]]}
    body = {"signature_name": "regress_as_predict", "examples": [{"x": 0.25}]}
    assert call("/v1/models/estimator:regress", body).json == {"results": [0.5]}


def test_method_names_count_where_asked_for(models):
    expected = "Expected {} signature method_name to be tensorflow/serving/{}. Was: tensorflow/serving/{}"
    with EmbeddedServer(
        {"estimator": models / "estimator", "zoo": models / "zoo"}, poll_seconds=0, check_method_names=True
    ) as server:
        strict = Caller(server.rest_port)
        for method, signature, message in [
            ("classify", "regress", expected.format("classification", "classify", "regress")),
            ("regress", "", expected.format("regression", "regress", "classify")),
            ("classify", "classify_as_predict", expected.format("classification", "classify", "predict")),
        ]:
            body = {"signature_name": signature, "examples": [{}]}
            reply = strict(f"/v1/models/estimator:{method}", body)
            assert (reply.status, reply.error) == (400, message)
        reply = strict("/v1/models/zoo:predict", {"signature_name": "odd_method", "instances": [1]})
        assert reply.status == 500
        assert reply.error == (
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            "tensorflow/serving/classify, tensorflow/serving/regress}. Was: something/else"
        )


def test_a_model_without_the_default_signature(call):
    reply = call("/v1/models/zoo:classify", {"examples": [{}]})
    assert reply.error == "No signature was found with the name: serving_default"
    reply = call("/v1/models/zoo:predict", {"instances": [1]})
    assert reply.error == 'Serving signature name: "serving_default" not found in signature def'


def test_a_wrong_feature_type_is_the_graphs_error(call):
    reply = call("/v1/models/estimator:classify", {"examples": [{"x": 1}]})
    assert reply.status == 400
    assert "Data types don't match" in reply.error


def test_metrics_page_before_the_first_request(models, tmp_path):
    path, broken = models / "half" / "00002", tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"rubbish")
    with EmbeddedServer({"half": models / "half"}, poll_seconds=0, metrics_path="/metrics") as server:
        with pytest.raises(StatusError, match="did not become available"):
            server.manager.reload(
                [ModelConfig("half", str(models / "half")), ModelConfig("broken", str(broken.parent))]
            )
        lines = Caller(server.rest_port)("/metrics").body.decode().splitlines()
    latency = lines.pop(4)
    assert lines == [
        "# TYPE :tensorflow:cc:saved_model:load_attempt_count counter",
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="success"}} 1',
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{broken}",status="fail"}} 1',
        "# TYPE :tensorflow:cc:saved_model:load_latency counter",
        "# TYPE :tensorflow:serving:request_count counter",
        "# TYPE :tensorflow:serving:request_latency histogram",
        "# TYPE :tensorflow:serving:runtime_latency histogram",
    ]
    name, value = latency.split(" ")
    assert name == f':tensorflow:cc:saved_model:load_latency{{model_path="{path}"}}'
    assert int(value) > 0


def test_metrics_page(call):
    call("/v1/models/half:predict", ROW)
    call("/v1/models/half:predict", "{")
    call("/v1/models/half")
    call("/v1/models/estimator:classify", {"examples": [{}]})
    call("/v1/models/estimator:regress", {"signature_name": "regress", "examples": [{}]})
    call("/v1/models/never-heard-of:predict", ROW)
    reply = call("/monitoring/prometheus/metrics")
    text = reply.body.decode()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain")
    assert "# TYPE :tensorflow:serving:request_count counter\n" in text
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} ' in text
    assert ':tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"} ' in text
    assert (
        ':tensorflow:serving:request_latency_bucket{model_name="half",API="predict",entrypoint="REST",le="10"}'
        in text
    )
    assert (
        ':tensorflow:serving:request_latency_count{model_name="half",API="predict",entrypoint="REST"} '
        in text
    )
    assert ':tensorflow:serving:runtime_latency_sum{model_name="half",API="Predict",runtime="TF1"} ' in text
    assert ':tensorflow:serving:request_latency_count{model_name="half",API="",entrypoint="REST"} ' in text
    for api in ("Classify", "Regress"):
        assert (
            f':tensorflow:serving:runtime_latency_count{{model_name="estimator",API="{api}",runtime="TF1"}} '
            in text
        )
    assert "never-heard-of" not in text  # a stranger's names must not fill the memory
    reply = call("/monitoring/prometheus/metrics?x=1")
    assert reply.status == 400
    assert reply.body == (
        b"Unexpected path: /monitoring/prometheus/metrics?x=1. Should be /monitoring/prometheus/metrics"
    )
