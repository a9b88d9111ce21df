"""Running a SavedModel: the prepared callables against the public route, errors, and life and death."""

import gc
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import saved_models
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server import session as session_module
from tfrec_fusion.serving.server.session import GraphRunner, LoadedModel, type_string


@pytest.fixture(scope="module")
def zoo(models):
    return LoadedModel(str(models / "zoo" / "1"), "zoo", 1)


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


CASES = [
    ("same_float", {"x": np.array([[1, 2]], np.float32)}),
    ("same_float", {"x": np.float32(3).reshape(())}),
    ("same_string", {"x": strings(b"a\x00", b"\xff", b"")}),
    ("same_bool", {"x": np.array([True, False])}),
    ("same_half", {"x": np.array([1.5], np.float16)}),
    ("both", {"a": np.ones(2, np.float32), "b": np.zeros((0, 2), np.float32)}),
]


@pytest.mark.parametrize(("name", "inputs"), CASES)
@pytest.mark.parametrize("inline", [False, True])
def test_prepared_callables_do_what_session_run_does(zoo, name, inputs, inline, monkeypatch):
    signature = zoo.signature(name)
    fast = zoo.predict(signature, inputs, inline=inline)
    monkeypatch.setattr(session_module, "config_pb2", None)
    public = GraphRunner(zoo.run.session, 1000)
    slow = public(signature.feeds, [inputs[key] for key in signature.inputs], signature.fetches, inline)
    assert list(fast) == list(signature.outputs)
    for left, right in zip(fast.values(), slow, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_tensorflow_still_has_the_private_calls(zoo):
    # Where this fails, the server still answers, through the public route and some 30 µs later.
    assert session_module.config_pb2 is not None
    assert hasattr(zoo.run.session, "_make_callable_from_options")


def test_a_scalar_string_keeps_its_trailing_nul(zoo):
    value = np.empty((), object)
    value[()] = b"a\x00"
    output = zoo.predict(zoo.signature("same_string"), {"x": value})["y"]
    assert output.shape == ()
    assert output.item() == b"a\x00"


def test_errors_have_tensorflows_own_code(zoo):
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: Integer division by zero"):
        zoo.predict(zoo.signature("divide"), {"a": one, "b": zero})
    with pytest.raises(StatusError) as caught:
        zoo.predict(zoo.signature("same_float"), {"x": strings(b"a")})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_time_limit_is_kept_and_callables_stay_few(zoo):
    signature = zoo.signature("same_float")
    x = np.ones(1, np.float32)
    before = len(zoo.run._runs)
    for timeout_ms in range(1000, 1400, 50):
        zoo.run(signature.feeds, [x], signature.fetches, False, timeout_ms)
    assert len(zoo.run._runs) - before <= 2  # limits are rounded up to powers of two


def test_type_names_are_those_of_tensorflows_messages():
    names = {tf.float32: "float", tf.float64: "double", tf.float16: "half", tf.bfloat16: "bfloat16",
             tf.int64: "int64", tf.string: "string", tf.bool: "bool", tf.complex64: "complex64"}  # fmt: skip
    for dtype, name in names.items():
        assert type_string(dtype.as_datatype_enum) == name


def test_what_is_no_model(tmp_path):
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find SavedModel"):
        LoadedModel(str(tmp_path), "m", 1)
    (tmp_path / "saved_model.pb").write_bytes(b"\x00garbage")
    with pytest.raises(StatusError, match="DATA_LOSS: Can't parse .*/saved_model.pb as binary proto"):
        LoadedModel(str(tmp_path), "m", 1)
    (tmp_path / "saved_model.pb").rename(tmp_path / "saved_model.pbtxt")
    with pytest.raises(StatusError, match="DATA_LOSS: Can't parse .*/saved_model.pbtxt as text proto"):
        LoadedModel(str(tmp_path), "m", 1)


def test_missing_variables_are_an_error_not_a_wrong_answer(tmp_path):
    saved_models.write_half_plus(tmp_path / "1")
    for file in (tmp_path / "1" / "variables").glob("*.data*"):
        file.write_bytes(b"")
    with pytest.raises(StatusError):
        LoadedModel(str(tmp_path / "1"), "m", 1)


def test_other_tags_are_looked_up(models):
    with pytest.raises(
        StatusError, match="NOT_FOUND: Could not find meta graph def matching supplied tags: { train }"
    ):
        LoadedModel(str(models / "half" / "1"), "half", 1, tags=("train",))


def test_the_session_closes_with_the_last_reference(models):
    model = LoadedModel(str(models / "half" / "1"), "half", 1)
    session = model.run.session
    again = model
    del model
    gc.collect()
    assert not session._closed
    assert again.predict(again.signature(""), {"x": np.zeros(1, np.float32)})["y"] == 2.0
    del again
    deadline = time.monotonic() + 5
    while not session._closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session._closed


@pytest.mark.slow
def test_tf_texts_operations_are_loaded_when_a_model_has_them(tmp_path):
    import subprocess
    import sys

    code = f"""
import tfrec_fusion, tensorflow as tf, tensorflow_text as text
class M(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "s")])
    def f(self, s):  # inside a branch, where loading alone does not look the operation up
        return {{"y": tf.cond(tf.size(s) > 0, lambda: text.normalize_utf8(s, "NFC"), lambda: s)}}
m = M(); tf.saved_model.save(m, {str(tmp_path / "1")!r}, signatures=m.f)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    code = f"""
import sys, numpy as np
from tfrec_fusion.serving.server.session import LoadedModel
assert "tensorflow_text" not in sys.modules
model = LoadedModel({str(tmp_path / "1")!r}, "m", 1)
value = np.empty(1, object); value[0] = "e\\u0301".encode()
assert model.predict(model.signature(""), {{"s": value}})["y"][0] == "\\u00e9".encode()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


def test_requests_cannot_fill_the_memory_with_prepared_callables(models, monkeypatch):
    from tfrec_fusion.serving.server import session

    monkeypatch.setattr(session, "_MAX_RUNS", 3)
    model = LoadedModel(str(models / "zoo" / "1"), "zoo", 1)
    signature, one = model.signatures["both"], np.float32(1)
    for names in (["a_out", "b_out"], ["b_out", "a_out"], []):  # one and the same
        assert model.predict(signature, {"a": one, "b": one}, names) == {"a_out": 1, "b_out": 1}
    assert len(model.run._runs) == 1
    for timeout_ms in (1000, 2000, 4000, 8000, 16000):
        model.predict(signature, {"a": one, "b": one}, timeout_ms=timeout_ms)
        assert len(model.run._runs) <= 3


def test_what_is_slow_to_prepare_is_prepared_once_for_all_other_limits(models, monkeypatch):
    prepared, prepare = [], session_module._prepare
    monkeypatch.setattr(session_module, "SLOW_TO_PREPARE", -1.0)
    monkeypatch.setattr(session_module, "_prepare", lambda *given: prepared.append(given) or prepare(*given))
    model = LoadedModel(str(models / "zoo" / "1"), "zoo", 1)
    signature, one = model.signatures["both"], np.float32(1)
    for timeout_ms in (None, 1000, 4000, 16000):
        for inline in (False, True):
            answer = model.predict(signature, {"a": one, "b": one}, inline=inline, timeout_ms=timeout_ms)
            assert answer == {"a_out": 1, "b_out": 1}
    assert len(prepared) == 1
