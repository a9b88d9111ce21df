"""TF Serving's REST contract for JSON: its mistakes, repeated keys and escapes.

`test_contract` says where the rules come from.
"""

import pytest

from tests.serving.conftest import error_body

ROW = {"instances": [0]}


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
