"""The codec's two ways to a tensor must agree, and no request, however odd, may be worse than refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_tensors, json_writer
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.json_tensors import COLUMNS, ROWS, decode_predict
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.versions import ModelManager

DTYPES = [
    "float",
    "double",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint32",
    "uint64",
    "bool",
    "string",
    "half",
]
LEAVES = (
    st.integers(-3, 300)
    | st.sampled_from([2**31, -(2**31) - 1, 2**63, 2**64 - 1])
    | st.floats(width=32)
    | st.booleans()
    | st.none()
    | st.text(max_size=3)
    | st.sampled_from([{"b64": "YQ"}, {"b64": 1}, {"x": 1}, {}])
)


def lists(depth):
    """Nested lists, mostly regular: one size a level, one kind of leaf."""
    leaf = st.sampled_from(["int", "float", "str", "bool", "any"]).flatmap(
        lambda kind: {
            "int": st.just(st.integers(-2, 9)),
            "float": st.just(st.floats(-5, 5, width=16)),
            "str": st.just(st.text("ab", max_size=2)),
            "bool": st.just(st.booleans()),
            "any": st.just(LEAVES),
        }[kind]
    )

    def grow(element, levels):
        for size in levels:
            element = st.lists(element, min_size=size[0], max_size=size[1])
        return element

    sizes = st.lists(st.sampled_from([(1, 1), (2, 2), (0, 2), (0, 0)]), min_size=depth, max_size=depth)
    return st.tuples(leaf, sizes).flatmap(lambda pair: grow(pair[0], pair[1]))


def outcome(document, dtypes):
    try:
        _, tensors, _ = decode_predict(document, lambda _: dtypes)
    except StatusError as error:
        return str(error)
    return {
        key: (array.dtype, array.shape, array.tobytes() if array.dtype != object else array.tolist())
        for key, array in tensors.items()
    }


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(DTYPES), st.sampled_from([ROWS, COLUMNS]), st.integers(1, 3).flatmap(lists), st.booleans()
)
def test_the_quick_way_and_the_walk_agree(dtype, form, value, named):
    if named and form == ROWS:
        value = [{"x": element} for element in value]
    document = {form: value}
    quick = outcome(document, {"x": dtype})
    patched = pytest.MonkeyPatch()
    patched.setattr(json_tensors, "_regular", lambda *arguments: None)
    walked = outcome(document, {"x": dtype})
    patched.undo()
    assert quick == walked


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(lists(1), lists(1)), max_size=3), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_they_agree_for_several_inputs(pairs, first, second):
    document = {ROWS: [{"a": a, "b": b} for a, b in pairs]}
    dtypes = {"a": first, "b": second}
    quick = outcome(document, dtypes)
    patched = pytest.MonkeyPatch()
    patched.setattr(json_tensors, "_regular", lambda *arguments: None)
    assert quick == outcome(document, dtypes)
    patched.undo()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_, object]),
    st.lists(st.integers(0, 3), max_size=3),
    st.randoms(use_true_random=False),
)
def test_what_is_written_reads_back(dtype, shape, random):
    count = int(np.prod(shape, dtype=int))
    if dtype is object:
        array = np.empty(count, object)
        array[:] = [random.choice([b"", b"a", b'"\\\n\x01', "é".encode()]) for _ in range(count)]
    elif issubclass(dtype, np.floating):
        array = np.array(
            [random.choice([0.1, 1e30, -2.5, 1 / 3, math.inf, 7e-40]) for _ in range(count)], dtype
        )
    else:
        array = np.array([random.randrange(2) for _ in range(count)], dtype)
    array = array.reshape(shape)
    for form, key in ((ROWS, "predictions"), (COLUMNS, "outputs")):
        if form == ROWS and not shape:
            continue
        value = json.loads(json_writer.encode_predict({"y": array}, form))[key]
        if dtype is object:
            flat = json.dumps(value)
            assert flat == json.dumps(
                np.vectorize(bytes.decode, otypes=[object])(array).tolist() if count else array.tolist()
            )
        else:
            np.testing.assert_array_equal(np.array(value, dtype).reshape(shape), array)


@pytest.fixture(scope="module")
def handler(models):
    manager = ModelManager([ModelConfig("zoo", str(models / "zoo"))], LoadedModel, poll_seconds=0)
    manager.start()
    manager.wait_available(timeout=30)
    yield RestHandler(manager, Metrics())
    manager.stop()


VALUES = st.recursive(
    LEAVES,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("xabs"), children, max_size=3)
    ),
    max_leaves=8,
)
SIGNATURES = [
    "same_float",
    "same_string",
    "same_int8",
    "add",
    "both",
    "bytes",
    "size",
    "matmul",
    "divide",
    "nope",
    "",
]


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["predict", "classify", "regress"]),
    signature=st.sampled_from(SIGNATURES),
    members=st.dictionaries(
        st.sampled_from(["instances", "inputs", "examples", "context"]), VALUES, max_size=2
    ),
    cut=st.integers(0, 3),
)
def test_odd_requests_are_answered_or_refused(handler, method, signature, members, cut):
    body = json.dumps({"signature_name": signature, **members}).encode()
    body = body[: len(body) - cut]
    status, answer = handler.handle(b"POST", f"/v1/models/zoo:{method}".encode(), body)
    assert status in (200, 400, 501), answer
    if status != 200:
        assert set(json.loads(answer)) == {"error"}
