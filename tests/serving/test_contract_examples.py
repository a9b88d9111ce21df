"""TF Serving's REST contract for classify and regress.

`test_contract` says where the rules come from.
"""

import pytest
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import meta_graph_pb2

from tests.serving.conftest import error_body

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
