"""Functions of a SavedModel after they were made smaller: the same answers, fewer nodes."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfrec_fusion.export.compacting import compact


class Module(tf.Module):
    """What graphs of models hold: branches, loops, gradients, tables, variables, chance, refusals."""

    def __init__(self):
        self.weights = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
        self.calls = tf.Variable(0)
        keys = tf.constant(["a", "b"])
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, tf.constant([5, 6])), -1
        )

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], name="x"), tf.TensorSpec([None], tf.string, name="key")]
    )
    def all(self, x, key):
        x = tf.identity(x, name="key")  # named like an argument
        tf.debugging.assert_non_negative(x[:, 0], "x must not be negative")
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.nn.gelu(x @ self.weights)) + tf.reduce_sum(tf.nn.gelu(x @ self.weights))
        count = self.calls.assign_add(1)
        first = tf.random.uniform([4])
        second = tf.random.uniform([4])
        return {
            "gradient": tape.gradient(y, x),
            "found": self.table.lookup(key),
            "looped": tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 2.0), (0, x))[1],
            "branched": tf.cond(tf.size(key) > 1, lambda: x + 1.0, lambda: x - 1.0),
            "mapped": tf.map_fn(lambda row: tf.reduce_sum(row) + tf.reduce_sum(row), x),
            "count": count,
            "differs": tf.reduce_any(first != second),
        }


ONLY = ("gradient", "found", "looped", "branched", "mapped", "count", "differs")


@pytest.fixture
def folder(tmp_path):
    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"all": module.all})
    return tmp_path / "m"


def by_session(folder, x, key):
    """As TF Serving and the embedded server load it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        signature = loaded.signature_def["all"]
        feeds = {signature.inputs["x"].name: x, signature.inputs["key"].name: key}
        return session.run({name: signature.outputs[name].name for name in ONLY}, feeds)


def by_loading(folder, x, key):
    answer = tf.saved_model.load(str(folder)).signatures["all"](x=tf.constant(x), key=tf.constant(key))
    return {name: answer[name].numpy() for name in ONLY}


@pytest.mark.parametrize("ask", [by_session, by_loading])
@pytest.mark.parametrize("key", [["a"], ["b", "?"]])
def test_answers_stay(folder, ask, key):
    x = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)[: len(key)]
    expected = ask(folder, x, key)
    before, after = compact(folder)
    assert after < 0.9 * before
    found = ask(folder, x, key)
    for name in ONLY:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    assert found["differs"]  # two draws stay two
    with pytest.raises(tf.errors.InvalidArgumentError, match="x must not be negative"):
        ask(folder, -x, key)


def test_twice_is_as_once(folder):
    compact(folder)
    once = (folder / "saved_model.pb").read_bytes()
    before, after = compact(folder)
    assert before == after
    assert (folder / "saved_model.pb").read_bytes() == once


def test_the_fingerprint_is_of_what_was_written(folder):
    old = tf.saved_model.experimental.read_fingerprint(str(folder))
    compact(folder)
    new = tf.saved_model.experimental.read_fingerprint(str(folder))
    assert new.saved_model_checksum != old.saved_model_checksum
    assert new.signature_def_hash == old.signature_def_hash


def test_names_are_short_and_tell_the_operation(folder):
    compact(folder)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    names = [node.name for function in functions for node in function.node_def]
    assert max(len(name) for name in names) < 16
    assert any(name.startswith("MatMul.") for name in names)
