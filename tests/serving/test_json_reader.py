"""The exact JSON parser: values, limits, and the standard library as a witness. `test_contract.py` has the
messages."""

import io
import json
import math

import pyarrow
import pyarrow.json
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_reader, json_text


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1.0", 1.0),
        (b"1E2", 100.0),
        (b"1e-400", 0.0),
        (b"Infinity", math.inf),
        (b"-Inf", -math.inf),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"),
        (b'"\\/"', "/"),
        (b'"\xff"', "\udcff"),
    ],
)
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


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b"2e308", math.inf),
        (b"NaN.5", 0.5),
        (b"-Infe1", 0.0),
        (b"NaInf", math.inf),
        (b"-NaInf", -math.inf),
        (b"1e308", 1e308),
    ],
)
def test_rapidjsons_odd_numbers(token, value):
    assert json_reader.parse_exactly(token) == value
    with pytest.raises(StatusError, match="Number too big to be stored in double. at offset: 0"):
        json_reader.parse_exactly(b"0e309")


WITNESSED = [
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"a"',
        '"c":1',
        "1",
        "-1",
        "1.5",
        "1e5",
        "1e400",
        "1.",
        "1e",
        "1e+",
        "-",
        "01",
        "+1",
        ".5",
    ),
    *(
        "true",
        "false",
        "null",
        "nul",
        '"',
        r'"\u0041"',
        r'"\ud800"',
        r'"\ud83d\ude00"',
        r'"\u12"',
        r'"\x"',
        " ",
        "// x",
        "'a'",
    ),
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WITNESSED), min_size=1, max_size=6))
def test_pyarrow_reads_with_rapidjson_too(tokens):
    """It has no flag for NaN, and a later release that words control characters in another way."""
    document = ('{"a": ' + "".join(tokens) + "}").encode()
    try:
        json_reader.parse_exactly(document)
        message = None
    except StatusError as error:
        message = error.message.removeprefix("JSON Parse error: ").rpartition(" at offset: ")[0]
    try:
        pyarrow.json.read_json(io.BytesIO(document))
        witness = None
    except pyarrow.ArrowInvalid as error:
        witness = str(error).removeprefix("JSON parse error: ").removesuffix(" in row 0")
        behind = message is None and (" in row " in witness or witness == "The document is empty.")
        if witness.startswith("Column(") or behind:
            return  # of a table's columns, or of what follows the document
    assert witness == message


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
