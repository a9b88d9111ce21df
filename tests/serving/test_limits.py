"""What a request may cost: counts and claims are bounded before anything is made of them, and time ends
work."""

import gzip
import json
import pathlib
import re
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, predict_pb2

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import json_text, wire
from tfrec_fusion.serving.server.admission import Gate, LimitedRunner, check_answer
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.deadline import Deadline, check
from tfrec_fusion.serving.server.flags import parse_flags
from tfrec_fusion.serving.server.http_messages import TooLarge, unpack
from tfrec_fusion.serving.server.inline_costs import InlineCosts, signature_of, size_of
from tfrec_fusion.serving.server.json_reader import parse_exactly
from tfrec_fusion.serving.server.json_size import holds_more_values
from tfrec_fusion.serving.server.json_tensors import decode_predict
from tfrec_fusion.serving.server.json_text import value_to_string
from tfrec_fusion.serving.server.json_writer import encode_predict, estimated_bytes
from tfrec_fusion.serving.server.limits import Limits, cut
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.rest_handler import RestHandler
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.versions import ModelManager
from tfrec_fusion.serving.server.wire import holds_more_messages

PATH = b"/v1/models/half:predict"


def peak_bytes(function):
    """Bytes that Python allocates at most while a function runs, and what it returns or raises."""
    tracemalloc.start()
    try:
        result = function()
    except Exception as error:
        result = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, result


@pytest.fixture(scope="module")
def manager(models):
    manager = ModelManager([ModelConfig("half", str(models / "half"))], LoadedModel, poll_seconds=0)
    manager.start()
    manager.wait_available(timeout=30)
    yield manager
    manager.stop()


@pytest.fixture
def handler(manager):
    return RestHandler(manager, Metrics(), timeout_ms=5000)


# Flags and documentation


def test_every_limit_is_a_flag_and_is_documented():
    flags = [f"--{names[0]}=7" for names, *_ in Limits.flags()]
    limits = parse_flags(["--model_base_path=/m", *flags]).limits
    assert all(value == 7 for value in vars(limits).values())
    assert parse_flags(["--model_base_path=/m", "--rest_api_max_body_bytes=9"]).limits.max_body_bytes == 9
    page = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "serving_limits.md"
    assert Limits.table() in page.read_text()


def test_a_limit_that_lets_nothing_through_is_refused():
    with pytest.raises(StatusError, match="`max_rows` must be positive. Received: 0"):
        Limits(max_rows=0)


# The deadline


def test_a_deadline_ends_work_when_the_time_is_up_or_nobody_waits():
    check()  # outside of a request there is none
    with Deadline(10.0).current():
        check()
        with Deadline(-1.0).current(), pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
            check()
        check()
    deadline = Deadline()
    deadline.cancel()
    with deadline.current(), pytest.raises(StatusError, match="CANCELLED"):
        check()


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [NaN' + b",1.0" * 300_000 + b"]}",
        b'{"instances": ["' + b"\\n" * 600_000 + b"\\ud800" + b'"]}',
        b'{"instances": [Inf' + b",{}" * 300_000 + b"]}",
    ],
)
def test_the_exact_parser_ends_with_the_deadline(handler, body):
    start = time.monotonic()
    status, answer = handler.handle(b"POST", PATH, body, deadline=Deadline(0.05))
    assert (status, json.loads(answer)["error"]) == (504, "Timed out before the request was answered")
    assert time.monotonic() - start < 1.0


# JSON


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text('",[]{}\\:x', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text('",[x\\', max_size=4), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
@settings(max_examples=200, deadline=None)
def test_values_are_counted_from_above_and_texts_are_not(document):
    def count(value):
        if isinstance(value, dict):
            return 1 + sum(map(count, value.values()))
        return 1 + sum(map(count, value)) if isinstance(value, list) else 1

    body, values = json.dumps(document).encode(), count(document)
    assert holds_more_values(body, values - 1) or values == 1
    # Each value but the first has a comma or an opening bracket to itself, which an empty list has too.
    assert not holds_more_values(body, 2 * values)


def test_a_text_full_of_commas_is_one_value_across_pieces(monkeypatch):
    monkeypatch.setattr("tfrec_fusion.serving.server.json_size._PIECE", 7)
    body = json.dumps({"a": ",[{" * 50, "b": ['x\\"' + "," * 50, 1, 2]}).encode()
    assert not holds_more_values(body, 8)
    assert holds_more_values(body, 4)


def test_a_document_of_many_values_is_refused_before_it_is_parsed(handler):
    body = b'{"instances": [' + b"{}," * 1_100_000 + b"{}]}"
    peak, (status, answer) = peak_bytes(lambda: handler.handle(b"POST", PATH, body))
    assert status == 400
    assert "at most 1000000 JSON values (--max_json_values)" in json.loads(answer)["error"]
    assert peak < 3 * len(body)


def test_error_texts_keep_small_documents_and_cut_large_ones(handler):
    small = b'{"instances": 1, "x": [[[{}]]]}'
    assert json.loads(handler.handle(b"POST", PATH, small)[1])["error"].startswith(
        'JSON Value: {\n    "instances": 1'
    )
    nested = b'{"x": ' + b"[" * 190 + b",".join([b"{}"] * 50_000) + b"]" * 190 + b"}"
    peak, (status, answer) = peak_bytes(lambda: handler.handle(b"POST", PATH, nested))
    assert status == 400
    assert len(answer) < 4 * Limits().max_error_bytes
    assert peak < 40_000_000
    for value in ({"k" * 10_000_000: 1}, ["v" * 10_000_000], [[1] * 3_000_000], "\x01" * 10_000_000):
        peak, text = peak_bytes(lambda value=value: value_to_string(value))
        assert len(text) <= 2 * json_text.MAX_CHARS
        assert peak < 5_000_000


@given(st.text(max_size=40), st.integers(1, 60))
def test_a_cut_text_is_the_beginning_and_fits(text, most):
    short = cut(text, most)
    if len(text.encode("utf-8", "surrogateescape")) <= most:
        assert short == text
    else:
        assert text.startswith(short.removesuffix("...TRUNCATED"))
        assert len(short.encode()) <= most + len("...TRUNCATED")


def test_an_answer_that_is_mostly_indentation_is_not_written(models):
    for shape in [(3,), (1,) * 30 + (50,), (4, 5, 2), (7, 0, 3), ()]:
        for form in ("inputs", "instances"):
            array = np.zeros(shape, np.float32)
            if form == "instances" and not shape:
                continue
            written = len(encode_predict({"y": array}, form))
            assert written <= 2 * estimated_bytes({"y": array}, form) + 4000


# gzip


@pytest.mark.parametrize("plain", [b"{}," * 30_000_000, b" " * 80_000_000], ids=["empty objects", "spaces"])
def test_gzip_may_not_unpack_to_a_thousand_times_its_size(plain):
    packed = gzip.compress(plain)
    peak, error = peak_bytes(lambda: unpack(packed, Limits()))
    assert isinstance(error, TooLarge)
    assert error.status == 413
    assert "100 times its size (--max_expansion)" in error.message
    assert peak < 30_000_000


def test_gzip_up_to_a_mebibyte_may_be_as_dense_as_it_likes():
    plain = b'{"instances": [' + b"1," * 500_000 + b"1]}"
    assert unpack(gzip.compress(plain), Limits()) == plain
    noise = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
    assert unpack(gzip.compress(noise), Limits()) == noise
    for damaged in (b"", b"rubbish", gzip.compress(b"x")[:-3], gzip.compress(b"x") + b"y"):
        assert unpack(damaged, Limits()) == b""


# Messages on the wire


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        (predict_pb2.PredictRequest, b"\x12\x00"),  # entries of `inputs`
        (classification_pb2.ClassificationRequest, b"\x12\x04\x0a\x02\x0a\x00"),  # an Example each time
        (
            predict_pb2.PredictRequest,
            b"\x12\x06\x12\x04\x12\x02\x12\x00",
        ),  # a tensor with a shape of one size
    ],
)
def test_empty_messages_are_counted_before_they_are_made(kind, unit):
    data = unit * 150_000
    assert holds_more_messages(data, kind.DESCRIPTOR, 100_000)
    assert not holds_more_messages(
        data[: wire.SMALL // 8 * 8], kind.DESCRIPTOR, 10
    )  # what is small is not counted
    assert not holds_more_messages(data, kind.DESCRIPTOR, 1_000_000)


def test_a_tensor_is_one_step_whatever_its_size():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].float_val.extend([0.0] * 1_000_000)
    request.inputs["y"].tensor_content = b"z" * 1_000_000
    request.inputs["z"].tensor_shape.dim.add(size=3)
    data = request.SerializeToString()
    assert not holds_more_messages(data, request.DESCRIPTOR, 20)
    for length in range(70_000, 71_000, 97):  # damage is for the parser to tell
        assert not holds_more_messages(data[:length] + b"\xff" * 20, request.DESCRIPTOR, 100)


# Running


def runner(limits=None, gate=None, work=lambda: None):
    def run(feeds, arrays, fetches, inline, timeout_ms):
        work()
        return [timeout_ms]

    limits = limits or Limits()
    return LimitedRunner(run, limits, gate or Gate(limits.max_running_rows, "rows"))


def texts(*shape):
    return np.full(shape, b"", object)


@pytest.mark.parametrize(
    ("array", "limit"),
    [
        (texts(5000), "4096 rows (--max_rows)"),
        (np.zeros((100_000, 0), np.float32), "4096 rows (--max_rows)"),
        (texts(100_000, 0), "4096 rows (--max_rows)"),
        (texts(1, 300_000), "200000 texts (--max_texts)"),
        (np.zeros((1, 1 << 30, 0), np.int8), "16777216 elements in its tensors (--max_elements)"),
    ],
)
def test_what_is_too_large_does_not_run(array, limit):
    with pytest.raises(StatusError, match=re.escape(limit)):
        runner()(("x",), [array], ("y",))


def test_numbers_are_bounded_by_their_elements_alone():
    assert runner()(("x",), [np.zeros(3_000_000, np.float32)], ("y",)) == [None]


def test_a_run_gets_the_time_that_is_left():
    with Deadline(2.0).current():
        (timeout_ms,) = runner()(("x",), [texts(1)], ("y",), False, 60_000)
    assert 1500 < timeout_ms <= 2000
    ran = []
    with Deadline(-1.0).current(), pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        runner(work=lambda: ran.append(1))(("x",), [texts(1)], ("y",))
    assert not ran


def test_a_request_that_is_known_to_be_late_is_not_begun():
    slow = runner(work=lambda: time.sleep(0.15))
    with Deadline(0.05).current():
        slow(("x",), [texts(100)], ("y",))
    start = time.monotonic()
    with Deadline(0.05).current(), pytest.raises(StatusError, match="took 0.1 s|took 0.2 s"):
        slow(("x",), [texts(200)], ("y",))
    assert time.monotonic() - start < 0.05
    with Deadline(5.0).current():
        slow(("x",), [texts(200)], ("y",))  # there is time
        slow(("x",), [texts(10)], ("y",))


def test_rows_wait_for_room_and_give_up_with_the_deadline():
    gate, order = Gate(100, "rows"), []
    entered = threading.Event()

    def large():
        with gate.hold(1000):  # all of it
            entered.set()
            time.sleep(0.2)
            order.append("large")

    thread = threading.Thread(target=large)
    thread.start()
    entered.wait(5)
    with Deadline(0.05).current(), pytest.raises(StatusError, match="DEADLINE_EXCEEDED"), gate.hold(1):
        pass
    with gate.hold(60), gate.hold(40):
        order.append("small")
    thread.join()
    assert order == ["large", "small"]
    assert gate.used == 0


# The event loop


def proven(costs, body, seconds=0.0002):
    costs.measured("m", body, seconds, inline=False)
    return costs


SMALL = b'{"instances": [1.0, 2.0]}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [1.0, 2.0, 3.0]}',  # a row more
        b'{"instances": ["a", "b"]}',  # texts
        b'{"inputs": {"k": 123456}}',  # as many results
        b'{"inputs": [1e9, 2.0]}',
        b'{"instances": [[[1.0, 2]]}',
        b'{"signature_name":"s", "x": 1}',  # a signature of which nothing is known
        b'{"signature\\u005fname":"s"}',
        b'{"instances": ["' + b"x" * 9000 + b'"]}',
    ],
)
def test_only_what_is_no_larger_than_something_quick_is_answered_on_the_loop(body):
    costs = proven(InlineCosts(Limits()), SMALL)
    assert costs.allow("m", SMALL)
    assert costs.allow("m", b'{"instances": [7.5, 8.5]}')
    assert not costs.allow("m", body)
    assert not costs.allow("other", SMALL)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b'{"instances": [1]}', b""),
        (b'{"signature_name": "a", "instances": [1]}', b"a"),
        (b'{"instances": [1], "signature_name" : "a" }', b"a"),
        (b'{"x": {"signature_name": "a"}, "instances": [1]}', None),
        (b'{"instances": [1], "x": {"y": 1, "signature_name": "a"}}', None),
        (b'{"x": {"signature_name": "a"}, "signature_name": "b"}', None),
        (b'{"signature_name": 5}', None),
    ],
)
def test_the_signature_of_a_document_is_not_one_further_inside(body, signature):
    assert signature_of(body) == signature


def test_a_quick_model_stays_on_the_loop_until_one_answer_is_slow():
    costs = proven(InlineCosts(Limits()), SMALL)
    costs.measured("m", SMALL, 0.0004, inline=True)
    assert costs.allow("m", SMALL)
    costs.measured("m", SMALL, 0.03, inline=True)
    for _ in range(100):
        costs.measured("m", SMALL, 0.0001, inline=False)
    assert not costs.allow("m", SMALL)  # a thousand requests go to a thread now


def test_sizes_beyond_the_limits_are_never_inline():
    body = b"[" + b"1," * 300 + b"1]"
    assert not proven(InlineCosts(Limits()), body).allow("m", body)
    assert proven(InlineCosts(Limits(inline_values=1000)), body).allow("m", body)
    assert size_of(b"[0.12345678901, 42]")[3] == 2


def test_numbers_of_a_million_digits_are_read_in_linear_time():
    start = time.monotonic()
    assert parse_exactly(b"[NaN, 0." + b"1" * 1_000_000 + b"]")[1] == pytest.approx(1 / 9)
    with pytest.raises(StatusError, match="Number too big"):
        parse_exactly(b"1" * 1_000_000)
    assert time.monotonic() - start < 5.0


def test_time_that_is_up_is_not_told_as_a_mistake_of_a_row(handler):
    with Deadline(-1.0).current(), pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        decode_predict({"instances": [[1.0], "x"]}, lambda _: {"x": "float"})


def test_writing_ends_with_the_deadline():
    with Deadline(-1.0).current(), pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        encode_predict({"y": np.zeros((1,) * 30 + (100,), np.float32)}, "inputs")


def test_indentation_counts_as_part_of_an_answer():
    deep = {"y": np.zeros((1,) * 60 + (900_000,), np.float32)}  # two bytes a value when it was sent
    with pytest.raises(StatusError, match="RESOURCE_EXHAUSTED: An answer may have at most 67108864 bytes"):
        check_answer(estimated_bytes(deep, "inputs"), Limits())
    check_answer(estimated_bytes({"y": np.zeros(3_000_000, np.float32)}, "instances"), Limits())
