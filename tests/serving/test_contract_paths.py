"""TF Serving's REST contract for paths, versions, status and metadata.

`test_contract` says where the rules come from.
"""

import json

import pytest

from tests.serving.conftest import error_body

ROW = {"instances": [0]}

# http_rest_api_util.cc kPredictionApiGegex, DecodeArg: (path, what half answers for 0); version 1 adds 2,
# version 2 adds 3
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
def test_predict_paths(ask, path, answer):
    reply = ask(path, ROW)
    assert (reply.status, reply.json) == (200, {"predictions": [answer]})


# http_rest_api_handler.cc ProcessRequest, server_core.cc GetServableHandle, get_model_status_impl.cc:
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
def test_refused_paths(ask, method, path, status, message):
    reply = ask(path, json.dumps(ROW) if method in ("POST", "PUT", "PATCH") else None, method=method)
    assert (reply.status, reply.body) == (status, error_body(message))


def test_versions_without_a_name_are_versions_of_no_model(ask):
    # The name is optional in TF Serving's pattern, so this path matches with an empty one.
    assert ask("/v1/models/versions/1").error == "Missing model name in request."


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
def test_status(ask, path, versions):
    reply = ask(path)
    assert reply.status == 200
    assert reply.json == {"model_version_status": [status_of(version) for version in versions]}


def test_status_to_the_byte(ask):
    assert (
        ask("/v1/models/estimator").body.decode()
        == '{\n "model_version_status": [\n  {\n   "version": "7",\n   "state": "AVAILABLE",\n  '
        ' "status": {\n'
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
def test_metadata(ask, path, version):
    reply = ask(path)
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


def test_metadata_of_unknown_rank_prints_its_defaults(ask):
    signature = ask("/v1/models/zoo/metadata").json["metadata"]["signature_def"]["signature_def"][
        "same_float"
    ]
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
