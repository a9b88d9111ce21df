"""What REST answers by HTTP's means: routes, methods, headers, the metrics page. `test_contract.py` has the
wording."""

import pytest

from tests.serving.conftest import Caller
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.embedded import EmbeddedServer

ROW = {"instances": [0]}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/models/half", "/index.html", "/v1models", "//v1/models/half"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_outside_the_api_is_nothing(call, method, path):
    reply = call(path, "" if method == "POST" else None, method=method)
    assert reply.status == 404
    assert reply.headers["content-type"] == "text/html"
    assert reply.body == b""


def test_head_has_the_status_and_no_body(call):
    for path, status in (("/v1/models/half", 400), ("/nothing", 404), ("/v1/models/half", 400)):
        reply = call(path, method="HEAD")
        assert (reply.status, reply.body) == (status, b"")


def test_content_type_of_a_request_is_ignored(call):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert call("/v1/models/half:predict", ROW, headers={"Content-Type": kind}).status == 200


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
        "# TYPE :tensorflow:serving:request_example_count_total counter",
        "# TYPE :tensorflow:serving:request_example_counts histogram",
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
    call("/v1/models/never-%22heard%22-of:predict", ROW)
    call("/v1/models/%s:predict" % ("x" * 200), ROW)
    call("/v1/nothing")
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
    # Of names that are not served, a few are counted; they must not fill the memory.
    assert ':request_count{model_name="never-\\"heard\\"-of",status="NOT_FOUND"} 1' in text
    assert ':request_count{model_name="",status="INVALID_ARGUMENT"} ' in text
    assert "xxx" not in text
    reply = call("/monitoring/prometheus/metrics?x=1")
    assert reply.status == 400
    assert reply.body == (
        b"Unexpected path: /monitoring/prometheus/metrics?x=1. Should be /monitoring/prometheus/metrics"
    )
