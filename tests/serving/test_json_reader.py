"""The exact JSON parser against RapidJSON 1.1.0's messages and offsets, and against the standard library's reader."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_reader, json_text

# (document, message, offset): offsets counted by hand
MISTAKES = [
    (b" ", "The document is empty.", 1),
    (b"\n\n", "The document is empty.", 2),
    (b"{} x", "The document root must not be followed by other values.", 3),
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
    (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member.", 8),
    (b'{"a": 1', "Missing a comma or } after an object member.", 7),
    (b"[1 2]", "Missing a comma or ] after an array element.", 3),
    (b"[01]", "Missing a comma or ] after an array element.", 2),
    (b"[1", "Missing a comma or ] after an array element.", 2),
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
    (b"[ -1e999]", "Number too big to be stored in double.", 2),
]


@pytest.mark.parametrize(("document", "message", "offset"), MISTAKES)
def test_mistakes(document, message, offset):
    with pytest.raises(StatusError) as caught:
        json_reader.parse_object(document)
    assert caught.value.message == f"JSON Parse error: {message} at offset: {offset}"
    assert caught.value.code == "INVALID_ARGUMENT"


def test_no_body_is_a_message_of_its_own():
    with pytest.raises(StatusError) as caught:
        json_reader.parse_object(b"")
    assert caught.value.message == "JSON Parse error: The document is empty"


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
def test_a_root_that_is_no_object_is_shown(document, shown):
    with pytest.raises(StatusError) as caught:
        json_reader.parse_object(document)
    assert caught.value.message == f"JSON Value: {shown} Is not object"


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b"0", 0), (b"-0", 0), (b"18446744073709551615", 2**64 - 1), (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551616", 2.0**64), (b"-9223372036854775809", -(2.0**63)), (b"1.0", 1.0), (b"1E2", 100.0),
        (b"1e-400", 0.0), (b"Infinity", math.inf), (b"-Inf", -math.inf), (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"), (b'"\\/"', "/"), (b'"\xff"', "\udcff"),
    ],
)  # fmt: skip
def test_values(token, value):
    for document in (token, b"\xef\xbb\xbf " + token + b" \x00"):
        parsed = json_reader.parse_exactly(document)
        assert parsed == value
        assert type(parsed) is type(value)


def test_a_lone_low_surrogate_becomes_its_three_bytes():
    assert json_reader.parse_exactly(b'"\\udc00"').encode("utf-8", "surrogateescape") == b"\xed\xb0\x80"


def test_deep_nesting_is_refused_not_fatal():
    for opening in (b"[", b'{"a":'):
        with pytest.raises(StatusError, match="Nesting is limited to 200 levels"):
            json_reader.parse_object(opening * 200_000)
    inside = json_reader.parse_object(b'{"a":' + b"[" * 198 + b"]" * 198 + b"}")
    assert isinstance(inside["a"], list)


def test_huge_integers_cost_no_quadratic_time():
    assert json_reader.parse_exactly(b"1" * 300) == pytest.approx(1.1111e299, rel=1e-3)
    with pytest.raises(StatusError, match="Number too big"):
        json_reader.parse_exactly(b"1" * 1_000_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.booleans())
def test_the_exact_parser_reads_what_the_standard_library_writes(value, ascii_only):
    try:
        document = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    parsed = json_reader.parse_exactly(document)
    assert json.dumps(parsed) == json.dumps(value)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-tfnaulrsNIiy\\u ', max_size=40).map(str.encode)
)
def test_rubbish_is_read_or_refused_never_worse(document):
    try:
        value = json_reader.parse_exactly(document)
    except StatusError as error:
        refusal = error
    else:
        json_text.value_to_string(value)
        return
    assert refusal.message.startswith("JSON Parse error: ")
    assert 0 <= int(refusal.message.rsplit(": ", 1)[1]) <= len(document)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32))
def test_float32_text_reads_back_as_the_same_number(value):
    text = json_text.format_decimal(value, 9)
    import numpy as np

    back = np.float32(float(text.replace("Infinity", "inf")))
    assert back == np.float32(value) or math.isnan(value)
    assert any(mark in text for mark in ".eNI")
