"""The REST API held against TF Serving's sources at the tag that `protocol/version.py` names, in one place.

Tables of (request, answer), put to the handler in this process. Errors are compared to the byte. The comment
above each group names where in tensorflow_serving/ (or RapidJSON 1.1.0) its wording stands. What differs on
purpose is listed in docs/explanation/serving.md and not here.
"""

import json
import math

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import meta_graph_pb2

from tests.serving.conftest import error_body
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_writer


def predict(ask, signature, **body):
    return ask("/v1/models/zoo:predict", {"signature_name": signature, **body})


# json_tensor.cc FillTensorMapFromInstancesList, MakeRowFormatJsonFromTensors: (signature, instances,
# predictions)
ROWS = [
    ("same_float", [1, 2.5, -3], [1.0, 2.5, -3.0]),
    ("same_float", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    ("same_float", [[[1]], [[2]]], [[[1.0]], [[2.0]]]),
    ("same_float", [{"x": 1}, {"x": 2}], [1.0, 2.0]),
    ("same_float", [{"x": [1, 2]}], [[1.0, 2.0]]),
    ("same_float", [[], []], [[], []]),
    ("same_float", [[[], []]], [[[], []]]),
    ("same_half", [[], []], [[], []]),
    ("same_float", [1e39], [math.inf]),
    ("same_float", [2**24 + 1], [16777216.0]),
    ("same_float", [2**64 - 1], [1.84467441e19]),
    ("same_float", [0.1], [0.1]),
    ("same_double", [0.1, 1, 2**53], [0.1, 1.0, 9007199254740992.0]),
    ("same_double", [1e300], [1e300]),
    ("same_int32", [1, -(2**31), 2**31 - 1], [1, -(2**31), 2**31 - 1]),
    ("same_int64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
    ("same_uint32", [0, 2**32 - 1], [0, 2**32 - 1]),
    ("same_uint64", [0, 2**64 - 1], [0, 2**64 - 1]),
    ("same_int8", [127, 128, -129, 300], [127, -128, 127, 44]),
    ("same_uint8", [255, 256, -1], [255, 0, 255]),
    ("same_int16", [32767, 32768], [32767, -32768]),
    ("same_bool", [True, False], [True, False]),
    ("same_string", ["a", "", "é", "\U0001f600"], ["a", "", "é", "\U0001f600"]),
    ("same_string", ['"\\/\b\f\n\r\t\u0001'], ['"\\/\b\f\n\r\t\u0001']),
    ("same_string", [{"b64": "YQ=="}, {"b64": "YmM="}], ["a", "bc"]),
    ("same_string", [{"b64": "YQ"}, {"b64": " Y m M = "}], ["a", "bc"]),
    ("same_string", ["plain", {"b64": "YQ=="}], ["plain", "a"]),
    ("same_string", [{"x": {"b64": "YQ=="}}], ["a"]),
    ("same_string", [["a", "b"], ["c", {"b64": "ZA=="}]], [["a", "b"], ["c", "d"]]),
    ("bytes", ["a"], [{"b64": "YQ=="}]),
    ("bytes", [{"b64": "/w=="}, {"b64": "+/8"}], [{"b64": "/w=="}, {"b64": "+/8="}]),
    ("add", [{"a": 1, "b": 2}, {"b": 10, "a": 20}], [3.0, 30.0]),
    ("add", [{"a": [1, 2], "b": [3, 4]}], [[4.0, 6.0]]),
    ("both", [{"a": 1, "b": [2, 3]}], [{"a_out": 1.0, "b_out": [2.0, 3.0]}]),
    ("text_and_bytes", ["hi"], [{"raw_bytes": {"b64": "aGk="}, "text": "hi"}]),
]


@pytest.mark.parametrize(("signature", "instances", "predictions"), ROWS)
def test_rows(ask, signature, instances, predictions):
    reply = predict(ask, signature, instances=instances)
    assert (reply.status, reply.json) == (200, {"predictions": predictions})


# json_tensor.cc FillTensorMapFromInputsMap, MakeColumnarFormatJsonFromTensors: (signature, inputs, outputs)
COLUMNS = [
    ("same_float", 1, 1.0),
    ("same_float", [1, 2], [1.0, 2.0]),
    ("same_float", [], []),
    ("same_float", [[], []], [[], []]),
    ("same_float", {"x": [1, 2]}, [1.0, 2.0]),
    ("same_float", {"x": 1, "extra": "ignored"}, 1.0),
    ("same_float", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    ("same_string", {"b64": "YQ=="}, "a"),
    ("same_string", "text", "text"),
    ("same_string", {"x": {"b64": "YQ=="}}, "a"),
    ("same_string", [{"b64": "YQ=="}], ["a"]),
    ("bytes", "a", {"b64": "YQ=="}),
    ("size", [[1, 2, 3]], 3),
    ("shape", [[1, 2, 3]], [1, 3]),
    ("add", {"a": 1, "b": [2, 3]}, [3.0, 4.0]),
    ("add", {"a": 1, "b": 2, "c": "ignored"}, 3.0),
    ("both", {"a": [1], "b": [1, 2, 3]}, {"a_out": [1.0], "b_out": [1.0, 2.0, 3.0]}),
    ("both", {"a": 1, "b": [[2]]}, {"a_out": 1.0, "b_out": [[2.0]]}),
    ("same_bool", True, True),
    ("same_int8", 200, -56),
    *[(f"same_{name}", [], []) for name in ("uint16", "half", "bfloat16", "complex64")],
]


@pytest.mark.parametrize(("signature", "inputs", "outputs"), COLUMNS)
def test_columns(ask, signature, inputs, outputs):
    reply = predict(ask, signature, inputs=inputs)
    assert (reply.status, reply.json) == (200, {"outputs": outputs})


# rapidjson prettywriter.h, kFormatSingleLineArray within rows: (signature, body's other members, answer)
BODIES = [
    ("same_float", {"instances": [1, 2]}, '{\n    "predictions": [1.0, 2.0\n    ]\n}'),
    (
        "same_float",
        {"instances": [[1, 2], [3, 4]]},
        '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}',
    ),
    ("same_float", {"inputs": 1}, '{\n    "outputs": 1.0\n}'),
    ("same_float", {"inputs": []}, '{\n    "outputs": []\n}'),
    ("same_float", {"inputs": [1]}, '{\n    "outputs": [\n        1.0\n    ]\n}'),
    (
        "same_float",
        {"inputs": [[1, 2]]},
        '{\n    "outputs": [\n        [\n            1.0,\n            2.0\n        ]\n    ]\n}',
    ),
    (
        "both",
        {"instances": [{"a": 1, "b": [2, 3]}, {"a": 4, "b": [5, 6]}]},
        (
            '{\n    "predictions": [\n'
            '        {\n            "a_out": 1.0,\n            "b_out": [2.0, 3.0]\n        },\n'
            '        {\n            "a_out": 4.0,\n            "b_out": [5.0, 6.0]\n        }\n'
            "    ]\n}"
        ),
    ),
    (
        "both",
        {"inputs": {"a": 1, "b": [2]}},
        (
            '{\n    "outputs": {\n        "a_out": 1.0,\n        "b_out": [\n            2.0\n        ]\n   '
            " }\n}"
        ),
    ),
    (
        "bytes",
        {"instances": ["a"]},
        '{\n    "predictions": [{\n            "b64": "YQ=="\n        }\n    ]\n}',
    ),
    ("bytes", {"inputs": "a"}, '{\n    "outputs": {\n        "b64": "YQ=="\n    }\n}'),
]


@pytest.mark.parametrize(("signature", "body", "answer"), BODIES)
def test_bodies_to_the_byte(ask, signature, body, answer):
    assert predict(ask, signature, **body).body.decode() == answer


# json_tensor.cc WriteDecimal, absl StrCat: (token sent, token answered) for float and double
NUMBERS = [
    ("1", "1.0", "1.0"),
    ("0.5", "0.5", "0.5"),
    ("100000", "100000.0", "100000.0"),
    ("1000000", "1e+06", "1e+06"),
    ("1234567", "1234567.0", "1234567.0"),
    ("0.00003", "3e-05", "3e-05"),
    ("0.0001", "0.0001", "0.0001"),
    ("3.14159265358979", "3.14159274", "3.1415926535897900"),
    ("-0.0", "-0.0", "-0.0"),
    ("1e-45", "1.4013e-45", "1e-45"),
    ("16777217", "16777216.0", "16777217.0"),
    ("NaN", "NaN", "NaN"),
    ("-NaN", "NaN", "NaN"),
    ("Infinity", "Infinity", "Infinity"),
    ("-Infinity", "-Infinity", "-Infinity"),
    ("Inf", "Infinity", "Infinity"),
]


@pytest.mark.parametrize(("sent", "as_float", "as_double"), NUMBERS)
def test_numbers(ask, sent, as_float, as_double):
    for name, expected in (("float", as_float), ("double", as_double)):
        reply = ask("/v1/models/zoo:predict", f'{{"signature_name": "same_{name}", "inputs": {sent}}}')
        text = reply.body.decode().removeprefix('{\n    "outputs": ').removesuffix("\n}")
        if name == "double" and sent == "3.14159265358979":
            assert float(text) == float(expected)
        else:
            assert text == expected


def test_many_numbers_are_written_like_few(ask):
    numbers = [index / 7 * 10.0 ** (index % 60 - 30) for index in range(1, 200)] + [1e6, 3.0, math.inf, -0.0]
    body = {"signature_name": "same_float", "inputs": numbers}
    many = json.loads(ask("/v1/models/zoo:predict", json.dumps(body)).body, parse_float=str)["outputs"]
    for number, text in zip(numbers, many, strict=True):
        single = ask("/v1/models/zoo:predict", json.dumps({**body, "inputs": number})).body
        assert json.loads(single, parse_float=str)["outputs"] == text


def test_invalid_utf8_passes_through_unchanged(ask):
    body = b'{"signature_name": "bytes", "instances": ["\xff\xfe a"]}'
    reply = ask("/v1/models/zoo:predict", body)
    assert reply.json == {"predictions": [{"b64": "//4gYQ=="}]}


def test_unknown_keys_and_an_empty_signature_name_are_fine(ask):
    reply = ask(
        "/v1/models/half:predict", {"signature_name": "", "instances": [1.0], "note": {"b64": 1}, "id": None}
    )
    assert reply.json == {"predictions": [3.5]}


def test_declared_shapes_are_not_enforced(ask):
    assert ask("/v1/models/half:predict", {"instances": [[1, 2], [3, 4]]}).status == 200
    assert ask("/v1/models/half:predict", {"inputs": 2}).json == {"outputs": 4.0}


# json_tensor.cc FillPredictRequestFromJson, AddInstanceItem, FillTensorProto, AddValueToTensor, TypeError,
# FormatError: (signature, rest of the body, message)
ELEMENT = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
KEYED = "Failed to process element: {} key: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
ERRORS = [
    ("same_float", '"instances": ["x"]', ELEMENT.format(0, 'JSON Value: "x" Type: String is not of expected type: float')),
    ("same_float", '"instances": [1, true]', ELEMENT.format(1, "JSON Value: true Type: True is not of expected type: float")),
    ("same_float", '"instances": [false]', ELEMENT.format(0, "JSON Value: false Type: False is not of expected type: float")),
    ("same_float", '"instances": [null]', ELEMENT.format(0, "JSON Value: null Type: Null is not of expected type: float")),
    ("same_double", '"instances": ["1"]', ELEMENT.format(0, 'JSON Value: "1" Type: String is not of expected type: double')),
    ("same_int32", '"instances": [1.0]', ELEMENT.format(0, "JSON Value: 1.0 Type: Number is not of expected type: int32")),
    ("same_int32", '"instances": [2147483648]', ELEMENT.format(0, "JSON Value: 2147483648 Type: Number is not of expected type: int32")),
    ("same_int64", '"instances": [1.5]', ELEMENT.format(0, "JSON Value: 1.5 Type: Number is not of expected type: int64")),
    ("same_int64", '"instances": [9223372036854775808]', ELEMENT.format(0, "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64")),
    ("same_int8", '"instances": [2147483648]', ELEMENT.format(0, "JSON Value: 2147483648 Type: Number is not of expected type: int8")),
    ("same_uint32", '"instances": [-1]', ELEMENT.format(0, "JSON Value: -1 Type: Number is not of expected type: uint32")),
    ("same_uint64", '"instances": [-1]', ELEMENT.format(0, "JSON Value: -1 Type: Number is not of expected type: uint64")),
    ("same_bool", '"instances": [1]', ELEMENT.format(0, "JSON Value: 1 Type: Number is not of expected type: bool")),
    ("same_string", '"instances": [1]', ELEMENT.format(0, "JSON Value: 1 Type: Number is not of expected type: string")),
    ("same_string", '"instances": [{"b64": "a"}]', ELEMENT.format(0, "Unable to base64 decode")),
    ("same_string", '"instances": [{"b64": "_-8="}]', ELEMENT.format(0, "Unable to base64 decode")),
    ("same_string", '"instances": [{"b64": "YQ="}]', ELEMENT.format(0, "Unable to base64 decode")),
    ("same_float", '"instances": [{"b64": "YQ=="}]', ELEMENT.format(0, 'JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: float')),
    ("same_string", '"instances": [{"x": {"b64": 1}}]', KEYED.format(0, "x", 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data')),
    ("same_string", '"instances": [["a"], ["b", {"c": 1}]]', ELEMENT.format(1, 'JSON Value: {\n    "c": 1\n} not formatted correctly for base64 data')),
    ("same_uint16", '"instances": [1]', "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: uint16"),
    ("same_half", '"instances": [1]', "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"),
    ("same_bfloat16", '"instances": [1.5]', "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1.5 to type: bfloat16"),
    ("same_complex64", '"instances": [1]', "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: complex64"),
    ("same_float", '"instances": [[1, 2], [1, 2, 3]]', ELEMENT.format(1, "Expecting tensor size: 2 but got: 3")),
    ("same_float", '"instances": [[1, 2], [[1, 2]]]', ELEMENT.format(1, "Expecting shape [2] but got: [1,2]")),
    ("same_float", '"instances": [1, [1]]', ELEMENT.format(1, "Expecting shape [] but got: [1]")),
    ("same_float", '"instances": [[1, [2]]]', ELEMENT.format(0, "Encountered list at unexpected level: 1 expected < 1")),
    ("same_float", '"instances": [[[1], 2]]', ELEMENT.format(0, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2")),
    ("same_float", '"instances": [[[1, 2], [3]]]', ELEMENT.format(0, "Encountered list at unexpected size: 1 at level: 1 expected size: 2")),
    ("same_float", '"instances": [[1, {"a": 1}]]', ELEMENT.format(0, 'JSON Value: {\n    "a": 1\n} Type: Object is not of expected type: float')),
    ("same_float", '"instances": [{"z": 1}]', KEYED.format(0, "z", "JSON object: does not have named input: z")),
    ("same_float", '"instances": [{"x": 1}, {"x": [1]}]', KEYED.format(1, "x", "Expecting shape [] but got: [1]")),
    ("same_float", '"instances": [{"x": 1}, 2]', "Expecting object but got list at item 1 of input list"),
    ("same_float", '"instances": [1, {"x": 2}]', "Expecting value/list but got object at item 1 of input list"),
    ("same_string", '"instances": [{"x": "a"}, {"b64": "YQ=="}]', "Expecting object but got list at item 1 of input list"),
    ("add", '"instances": [1]', "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    ("add", '"instances": [{"a": 1}]', "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b"),
    ("add", '"instances": [{}]', "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: a,b"),
    ("add", '"instances": [{"a": 1, "b": 2, "c": 3}]', KEYED.format(0, "c", "JSON object: does not have named input: c")),
    ("add", '"inputs": 1', "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ("add", '"inputs": {"b64": "YQ=="}', "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ("add", '"inputs": {"a": 1}', "Missing named input: b in 'inputs' object."),
    ("same_float", '"inputs": "x"', 'JSON Value: "x" Type: String is not of expected type: float'),
    ("same_float", '"inputs": null', "JSON Value: null Type: Null is not of expected type: float"),
    ("same_float", '"inputs": [[1, 2], [3]]', "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("same_float", '"inputs": [[], [1]]', "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
    ("same_float", '"inputs": {"y": 1}', "Missing named input: x in 'inputs' object."),
    ("same_string", '"inputs": {"x": {"c": 1}}', 'JSON Value: {\n    "c": 1\n} not formatted correctly for base64 data'),
    ("same_int32", '"inputs": 0.1', "JSON Value: 0.1 Type: Number is not of expected type: int32"),
    ("same_int32", '"inputs": NaN', "JSON Value: NaN Type: Number is not of expected type: int32"),
    ("same_int32", '"inputs": 1e400', "JSON Parse error: Number too big to be stored in double. at offset: 43"),
    ("same_float", '"instances": []', 'JSON Value: {\n    "signature_name": "same_float",\n    "instances": []\n} No values in \'instances\' array'),
    ("same_float", '"instances": null', 'JSON Value: {\n    "signature_name": "same_float",\n    "instances": null\n} Expecting \'instances\' to be an list/array'),
    ("same_float", '"instances": {"x": 1}', 'JSON Value: {\n    "signature_name": "same_float",\n    "instances": {\n        "x": 1\n    }\n} Expecting \'instances\' to be an list/array'),
    ("same_float", '"instances": 1', 'JSON Value: {\n    "signature_name": "same_float",\n    "instances": 1\n} Expecting \'instances\' to be an list/array'),
    ("same_float", '"instances": [1], "inputs": 1', "JSON Value: {\n    \"signature_name\": \"same_float\",\n    \"instances\": [\n        1\n    ],\n    \"inputs\": 1\n} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "),
    ("same_float", '"nothing": 1', "Missing 'inputs' or 'instances' key"),
    ("no_inputs", '"inputs": 1', "Failed to get input map for signature: no_inputs"),
    ("size", '"instances": [1, 2]', "Tensor name: size has no shape information "),
    ("nope", '"instances": []', 'Serving signature name: "nope" not found in signature def'),
]  # fmt: skip


@pytest.mark.parametrize(("signature", "rest", "message"), ERRORS)
def test_errors(ask, signature, rest, message):
    reply = ask("/v1/models/zoo:predict", f'{{"signature_name": "{signature}", {rest}}}')
    assert (reply.status, reply.body) == (400, error_body(message))


def test_rows_need_one_batch_size_in_all_outputs():
    outputs = {"a": np.ones(2), "b": np.ones((3, 1))}
    with pytest.raises(StatusError) as caught:
        json_writer.encode_predict(outputs, "instances")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message == "Tensor name: b has inconsistent batch size: 3 expecting: 2"
    assert json.loads(json_writer.encode_predict(outputs, "inputs"))["outputs"]["b"] == [[1.0], [1.0], [1.0]]


@pytest.mark.parametrize("name", ["uint16", "half", "bfloat16", "complex64"])
def test_types_without_json_are_501_in_columns(ask, name):
    reply = predict(ask, f"same_{name}", inputs=[1])
    assert (reply.status, reply.error) == (501, f"Conversion of JSON Value: 1 to type: {name}")


@pytest.mark.parametrize("name", ["uint16", "half"])
def test_types_without_json_cannot_be_written(name):
    dtype = {"half": np.float16}.get(name, name)
    with pytest.raises(StatusError, match=f"Failed to write JSON value for tensor type: {name}"):
        json_writer.encode_predict({"y": np.ones(2, dtype)}, "instances")
    assert json_writer.encode_predict({"y": np.ones(0, dtype)}, "inputs") == b'{\n    "outputs": []\n}'


@pytest.mark.parametrize(
    ("signature_name", "shown"),
    [("100", "100"), ("null", "null"), ('["a"]', '[\n        "a"\n    ]'), ("{}", "{}")],
)
def test_signature_name_must_be_a_string(ask, signature_name, shown):
    reply = ask("/v1/models/nope:predict", f'{{"signature_name": {signature_name}}}')
    assert reply.status == 400
    assert (
        reply.error == f'JSON Value: {{\n    "signature_name": {shown}\n}} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


def test_checks_come_in_tf_servings_order(ask):
    # JSON, then signature_name, then model, then signature, then payload.
    assert ask("/v1/models/nope:predict", "{").error.startswith("JSON Parse error")
    assert "signature_name" in ask("/v1/models/nope:predict", {"signature_name": 1}).error
    assert (
        ask("/v1/models/nope:predict", {"signature_name": "x"}).error
        == "Servable not found for request: Latest(nope)"
    )
    assert (
        ask("/v1/models/zoo:predict", {"signature_name": "x"}).error
        == 'Serving signature name: "x" not found in signature def'
    )
    assert ask("/v1/models/half:predict", {}).error == "Missing 'inputs' or 'instances' key"


def test_errors_of_the_graph_carry_its_message(ask):
    reply = predict(ask, "divide", instances=[{"a": 1, "b": 0}])
    assert reply.status == 400
    assert "Integer division by zero" in reply.error
    assert predict(ask, "matmul", instances=[[1, 2, 3]]).status == 400
    assert predict(ask, "matmul", instances=[[1, 2]]).json == {"predictions": [[5.0]]}


def test_an_odd_method_name_does_not_matter(ask):
    assert predict(ask, "odd_method", instances=[1]).json == {"predictions": [1.0]}


def test_a_classify_signature_can_be_predicted(ask):
    reply = ask("/v1/models/estimator:predict", {"instances": [{"b64": ""}]})
    assert reply.json == {"predictions": [{"classes": ["low", "high"], "scores": [1.0, 0.0]}]}


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


# json_tensor.cc MakeExampleFromJsonObject, MakeJsonFromClassificationResult, MakeJsonFromRegressionResult:
# (method, body, results)
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
def test_classify_and_regress(ask, method, body, results):
    reply = ask(f"/v1/models/estimator:{method}", body)
    assert reply.status == 200
    if results is not None:
        assert reply.json == {"results": results}


def test_results_to_the_byte(ask):
    body = {"examples": [{"x": 0.25}, {}]}
    assert (
        ask("/v1/models/estimator:classify", body).body.decode()
        == '{\n    "results": [[["low", 0.75], ["high", 0.25]], [["low", 1.0], ["high", 0.0]]\n    ]\n}'
    )
    body["signature_name"] = "regress"
    assert ask("/v1/models/estimator:regress", body).body.decode() == '{\n    "results": [0.5, 0.0]\n}'


# json_tensor.cc FillClassifyRegressRequestFromJson, AddValueToFeature, IncompatibleFeatureKindError: (body,
# message)
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
    ('{"examples": [{"i": 9223372036854775808}]}', "Feature: i has uint64_t element. Only int64_t is supported."),
    ('{"examples": [{"s": {"b64": "!"}}]}', "Unable to base64 decode"),
    ('{"signature_name": 5, "examples": [{}]}',
     'JSON Value: {\n    "signature_name": 5,\n    "examples": [\n        {}\n    ]\n} not formatted correctly. '
     "'signature_name' key must be a string value."),
    ("", "JSON Parse error: The document is empty"),
    ('{"examples": [{}]', "JSON Parse error: Missing a comma or '}' after an object member. at offset: 17"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), EXAMPLE_ERRORS)
@pytest.mark.parametrize("path", ["estimator:classify", "estimator:regress", "nope:classify"])
def test_examples_are_checked_before_the_model_is_looked_up(ask, path, body, message):
    reply = ask(f"/v1/models/{path}", body)
    assert (reply.status, reply.body) == (400, error_body(message))


# classifier.cc, regressor.cc: PreProcess…, PostProcess…Result
ONE_OF = (
    'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature'
    " was: "
)


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
def test_classify_and_regress_signatures(ask, method, signature, message):
    reply = ask(f"/v1/models/estimator:{method}", {"signature_name": signature, "examples": [{}, {}]})
    assert reply.status == 400
    if message.endswith(": "):  # the signature's definition follows
        message += text_format.MessageToString(_definition(ask, signature))
    assert reply.error == message


def _definition(ask, signature):
    found = ask("/v1/models/estimator/metadata").json["metadata"]["signature_def"]["signature_def"][signature]
    return json_format.ParseDict(found, meta_graph_pb2.SignatureDef())


def test_a_signature_of_tf2_is_classified_and_regressed(ask):
    """TF2 names the method of every signature predict; TF Serving does not look at it unless told."""
    body = {"signature_name": "classify_as_predict", "examples": [{"x": 0.25}]}
    assert ask("/v1/models/estimator:classify", body).json == {"results": [[["low", 0.75], ["high", 0.25]]]}
    body = {"signature_name": "regress_as_predict", "examples": [{"x": 0.25}]}
    assert ask("/v1/models/estimator:regress", body).json == {"results": [0.5]}


def test_a_model_without_the_default_signature(ask):
    reply = ask("/v1/models/zoo:classify", {"examples": [{}]})
    assert reply.error == "No signature was found with the name: serving_default"
    reply = ask("/v1/models/zoo:predict", {"instances": [1]})
    assert reply.error == 'Serving signature name: "serving_default" not found in signature def'


def test_a_wrong_feature_type_is_the_graphs_error(ask):
    reply = ask("/v1/models/estimator:classify", {"examples": [{"x": 1}]})
    assert reply.status == 400
    assert "Data types don't match" in reply.error


# rapidjson reader.h ParseNumber, ParseString, IterativeParse, error/en.h: (document, message, offset counted
# by hand)
MISTAKES = [
    (b" ", "The document is empty.", 1),
    (b"\n\n", "The document is empty.", 2),
    (b"\0", "The document is empty.", 0),
    (b",", "The document is empty.", 0),  # as the iterative parser has it of what begins no value
    (b"]", "The document is empty.", 0),
    (b" }", "The document is empty.", 1),
    (b":1", "The document is empty.", 0),
    (b"[1,]", "Invalid value.", 3),
    (b"[,]", "Invalid value.", 1),
    (b"nul", "Invalid value.", 3),
    (b"nulx", "Invalid value.", 3),
    (b"tru", "Invalid value.", 3),
    (b"falsy", "Invalid value.", 4),
    (b"x", "Invalid value.", 0),
    (b"'a'", "Invalid value.", 0),
    (b"-", "Invalid value.", 1),
    (b"-x", "Invalid value.", 1),
    (b"+1", "Invalid value.", 0),
    (b".5", "Invalid value.", 0),
    (b"Na", "Invalid value.", 2),
    (b"Infinite", "Invalid value.", 7),
    (b"{1: 2}", "Missing a name for object member.", 1),
    (b"{", "Missing a name for object member.", 1),
    (b'{"a": 1,}', "Missing a name for object member.", 8),
    (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
    (b'{"a"', "Missing a colon after a name of object member.", 4),
    (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member.", 8),
    (b'{"a": 1', "Missing a comma or '}' after an object member.", 7),
    (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
    (b"[01]", "Missing a comma or ']' after an array element.", 2),
    (b"[1", "Missing a comma or ']' after an array element.", 2),
    (b'"abc', "Missing a closing quotation mark in string.", 4),
    (b'"a\x00b"', "Missing a closing quotation mark in string.", 2),
    (b'"a\nb"', "Invalid escape character in string.", 2),
    (b'"a\\x"', "Invalid escape character in string.", 2),
    (b'"\\', "Invalid escape character in string.", 1),
    (b'"\\u12g4"', "Incorrect hex digit after \\u escape in string.", 1),
    (b'"\\u12', "Incorrect hex digit after \\u escape in string.", 1),
    (b'"\\ud800"', "The surrogate pair in string is invalid.", 1),
    (b'"\\ud800\\n"', "The surrogate pair in string is invalid.", 1),
    (b'"\\ud800\\u0041"', "The surrogate pair in string is invalid.", 1),
    (b"[1.]", "Miss fraction part in number.", 3),
    (b"[1.x]", "Miss fraction part in number.", 3),
    (b"[1e]", "Miss exponent in number.", 3),
    (b"[1e+]", "Miss exponent in number.", 4),
    (b"[1.5e-x]", "Miss exponent in number.", 6),
    (b"[1e999]", "Number too big to be stored in double.", 1),
    (b"[1.5e310]", "Number too big to be stored in double.", 1),
    (b"[" + b"9" * 310 + b"]", "Number too big to be stored in double.", 1),
    (b"[NaN.]", "Miss fraction part in number.", 5),
    (b"[Infinit]", "Invalid value.", 8),
    (b"[1 // 2\n]", "Missing a comma or ']' after an array element.", 3),
    (b"[1 /* 2 */]", "Missing a comma or ']' after an array element.", 3),
    (b"{'a': 1}", "Missing a name for object member.", 1),
    (b"{a: 1}", "Missing a name for object member.", 1),
    (b'{"a": }', "Invalid value.", 6),
    (b'{"a":', "Invalid value.", 5),
    (b'{"a", 1}', "Missing a colon after a name of object member.", 4),
    (b"{,}", "Missing a name for object member.", 1),
    (b"[}", "Invalid value.", 1),
    (b"[1}", "Missing a comma or ']' after an array element.", 2),
    (b'{"a": 1]', "Missing a comma or '}' after an object member.", 7),
    (b"\xef\xbb\xbf[", "Invalid value.", 4),  # the mark at the front counts
    (b"\xff\xfe{\0}\0", "Invalid value.", 0),
    (b"[\x0b1]", "Invalid value.", 1),
    (b"[True]", "Invalid value.", 1),
    (b"[0x10]", "Missing a comma or ']' after an array element.", 2),
    (b"[1_000]", "Missing a comma or ']' after an array element.", 2),
    (b"[ -1e999]", "Number too big to be stored in double.", 2),
]


@pytest.mark.parametrize(("document", "message", "offset"), MISTAKES)
@pytest.mark.parametrize("method", ["predict", "regress"])
def test_documents_that_are_no_json(ask, method, document, message, offset):
    reply = ask(f"/v1/models/nope:{method}", document)
    assert (reply.status, reply.body) == (400, error_body(f"JSON Parse error: {message} at offset: {offset}"))


def test_no_body_is_a_message_of_its_own(ask):
    assert ask("/v1/models/nope:predict", b"").body == error_body("JSON Parse error: The document is empty")


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (b"[1]", "[\n    1\n]"),
        (b"1", "1"),
        (b'"a"', '"a"'),
        (b"null", "null"),
        (b"1.5", "1.5"),
        (b"1e50", "1e+50"),
        (b"NaN", "NaN"),
        (b"[]", "[]"),
        (b"[1e21, 1e20, 1.5e-7, 0.00001, 123456789012345678901.0]",
         "[\n    1e21,\n    100000000000000000000.0,\n    1.5e-7,\n    0.00001,\n    123456789012345680000.0\n]"),
        (b'["\\u0001\\"/\xc3\xa9"]', '[\n    "\\u0001\\"/\u00e9"\n]'),
        (b"[true, NaN, 1]", "[\n    true,\n    "),
    ],
)  # fmt: skip
def test_a_root_that_is_no_object_is_shown(ask, document, shown):
    assert ask("/v1/models/nope:predict", document).body == error_body(f"JSON Value: {shown} Is not object")


# json_tensor.cc ParseJson: kParseIterativeFlag, kParseNanAndInfFlag, kParseStopWhenDoneFlag
AROUND = [
    "\ufeff%s",
    " \r\n\t%s \n",
    "%s\0 rubbish",
    "%s rubbish",
    "%s}",
    '%s{"instances": [8]}',
    "%s // note",
    "%s\x0b",
]


@pytest.mark.parametrize("around", AROUND)
def test_what_is_read_around_a_document(ask, around):
    reply = ask("/v1/models/half:predict", around % '{"instances": [1]}')
    assert reply.body == b'{\n    "predictions": [3.5\n    ]\n}'


# rapidjson document.h FindMember (the first), json_tensor.cc AddInstanceItem (each), map::operator[] (the
# last)
REPEATED = [
    ("half/versions/1:predict", '{"instances": [0], "instances": [8]}', {"predictions": [2.0]}),
    ("half/versions/1:predict", '{"inputs": [0], "note": "a:b", "inputs": [8]}', {"outputs": [2.0]}),
    ("half/versions/1:predict", '{"inputs": {"x": 0, "x": 8}}', {"outputs": 2.0}),
    ("half/versions/1:predict", '{"instances": [{"x": 0, "x": 8}]}', {"predictions": [2.0]}),
    ("half/versions/1:predict", '{"instances": [{"x": 0, "x": 8}, {"x": 10}]}', {"predictions": [2.0, 6.0]}),
    ("half/versions/1:predict", '{"instances": [{"x\\u0000y": 8}]}', {"predictions": [6.0]}),  # names are C strings
    ("estimator:classify", '{"examples": [{"x": 1.0, "x": 0.25}]}', {"results": [[["low", 0.75], ["high", 0.25]]]}),
    ("estimator:classify", '{"examples": [{"x\\u0000y": 0.25}]}', {"results": [[["low", 0.75], ["high", 0.25]]]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "answer"), REPEATED)
def test_a_key_that_comes_twice(ask, path, body, answer):
    assert ask(f"/v1/models/{path}", body).json == answer


def test_a_key_that_comes_twice_is_shown_twice(ask):
    shown = '{\n    "inputs": 1,\n    "inputs": 2\n}'
    message = f"JSON Value: {shown} When method is classify, key 'examples' is expected and was not found"
    assert ask("/v1/models/nope:classify", '{"inputs": 1, "inputs": 2}').body == error_body(message)
    reply = ask(
        "/v1/models/zoo:predict", '{"signature_name": "bytes", "inputs": {"s": {"b64": "", "b64": ""}}}'
    )
    shown = '{\n    "b64": "",\n    "b64": ""\n}'
    assert reply.body == error_body(f"JSON Value: {shown} not formatted correctly for base64 data")


# json_tensor.cc MakeJsonFromStatus: rapidjson writer.h WriteString
ESCAPES = [
    ('a"b', '\\"'), ("a\\b", "\\\\"), ("a\tb", "\\t"), ("a\nb", "\\n"), ("a\rb", "\\r"), ("a\bb", "\\b"), ("a\fb", "\\f"),
    ("a\x01b", "\\u0001"), ("a\x1fb", "\\u001F"), ("a\0b", "\\u0000"), ("a/b", "/"), ("a\x7fb", "\x7f"), ("aéb", "é"),
    ("a\U0001f600b", "\U0001f600"), ("a\u2028b", "\u2028"), ("a<b", "<"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "escaped"), ESCAPES)
def test_errors_are_escaped_as_rapidjson_does(ask, name, escaped):
    reply = ask("/v1/models/half:predict", {"signature_name": name})
    expected = f'Serving signature name: \\"a{escaped}b\\" not found in signature def'
    assert reply.body.decode() == f'{{\n    "error": "{expected}"\n}}'


# http_rest_api_util.cc ParseModelInfo: its errors leave ProcessRequest before MakeJsonFromStatus writes a
# body
@pytest.mark.parametrize("version", [str(2**63), "9" * 23, "9" * 5000])
def test_a_version_that_is_no_int64_is_400_without_a_body(ask, version):
    for path, body in (("", None), ("/metadata", None), (":predict", ROW)):
        reply = ask(f"/v1/models/half/versions/{version}{path}", body)
        assert (reply.status, reply.body) == (400, b"")
