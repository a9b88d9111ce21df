"""The REST API held against TF Serving's sources at the tag that `protocol/version.py` names, in one place.

Tables of (request, answer), put to the handler in this process. Errors are compared to the byte. The comment
above each group names where in tensorflow_serving/ (or RapidJSON 1.1.0) its wording stands. What differs on
purpose is listed in docs/explanation/serving.md and not here.
"""

import json
import math

import numpy as np
import pytest

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
