"""What every index must do, whatever its kind: `check_index` runs it all."""

import collections
import functools
import pathlib

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2

CONDITIONS = ("If", "StatelessIf", "Case", "StatelessCase")
"""Operations whose first input is not passed to the functions that they call."""


def oracle(candidates, queries, k, keep=None):
    """Rows of the exact top-k by NumPy, equal scores in the order of rows; -1 where none is left."""
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    if keep is not None:
        scores = np.where(keep, scores, -np.inf)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, rows, 1) == -np.inf, -1, rows)


def graph_ops(folder):
    """Every op of a SavedModel: main graph and library functions."""
    saved = saved_model_pb2.SavedModel.FromString((pathlib.Path(folder) / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    functions = {function.signature.name for function in graph.library.function}
    return {node.op for node in nodes} - functions


def copied_variables(folder):
    """Names of the variables that signatures of a SavedModel both gather from and read whole.

    TensorFlow gives such a variable a copy of its own at each whole read, from the first gather on.
    """
    saved = saved_model_pb2.SavedModel.FromString((pathlib.Path(folder) / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = {function.signature.name: function for function in graph.library.function}

    @functools.cache
    def reads_of_arguments(name):
        arguments = {argument.name: at for at, argument in enumerate(functions[name].signature.input_arg)}
        return reads(functions[name].node_def, arguments)

    def reads(nodes, known):
        """How each known tensor is read: name of its producer → `known`'s value → set of operations."""
        known, result = dict(known), collections.defaultdict(set)
        inputs = {node.name: [name.split(":")[0] for name in node.input if name[0] != "^"] for node in nodes}
        passed = {node.name: inputs[node.name][0] for node in nodes if node.op == "Identity"}
        for _ in range(len(passed)):
            known |= {name: known[source] for name, source in passed.items() if source in known}
        for node in nodes:
            called = [value.func.name for value in node.attr.values() if value.func.name in functions]
            for at, name in enumerate(inputs[node.name]):
                if name not in known:
                    continue
                if node.op in ("ReadVariableOp", "ResourceGather"):
                    result[known[name]].add(node.op)
                for function in called:
                    result[known[name]] |= reads_of_arguments(function).get(
                        at - (node.op in CONDITIONS), set()
                    )
        return result

    variables = {
        node.name: node.attr["shared_name"].s.decode() for node in graph.node if node.op == "VarHandleOp"
    }
    signatures = [
        node
        for node in graph.node
        if any(value.func.name and "traced_" not in value.func.name for value in node.attr.values())
    ]
    result = reads(signatures, variables)
    assert result, "no signature reads a variable"
    return sorted(name for name, ways in result.items() if len(ways) > 1)


class Served(tf.Module):
    """An index behind a signature as an export writes it: all of the request is tensors."""

    def __init__(self, index, identifier_dtype):
        super().__init__()
        self.index = index
        self.recommend = tf.function(
            self._recommend,
            input_signature=[
                tf.TensorSpec([None, index.dim], tf.float32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([None, None], identifier_dtype),
            ],
        )

    def _recommend(self, queries, k, exclude):
        scores, identifiers = self.index(queries, k=k, exclude=exclude)
        vectors = self.index.vectors(self.index.lookup(identifiers))
        return {"scores": scores, "identifiers": identifiers, "vectors": vectors}


def check_index(make, tmp_path, num_candidates=60, dim=6, seed=0, **exhaustive):
    """Checks an index against NumPy and through every way of saving it.

    Args:
        make: returns a new, empty index.
        tmp_path: an empty folder.
        num_candidates: of the random catalogue.
        dim: of the random catalogue.
        seed: of the random catalogue.
        **exhaustive: arguments of `search` that make it exact.
    """
    random = np.random.default_rng(seed)
    candidates = random.normal(size=(num_candidates, dim)).astype("float32")
    queries = random.normal(size=(5, dim)).astype("float32")
    names = np.array([f"item-{n}" for n in random.permutation(num_candidates)])
    index = make().index(candidates, names)

    expected = oracle(candidates, queries, 7)
    scores, rows = index.search(queries, k=7, **exhaustive)
    np.testing.assert_array_equal(rows, expected)
    exact_scores = np.einsum("qkd,qd->qk", candidates[expected], queries)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(index(queries, k=7, **exhaustive)[1], names[expected].astype("S"))
    np.testing.assert_array_equal(index.lookup([names[3], "unknown", names[0]]), [3, -1, 0])

    check_exclusions(index, candidates, queries, names, exhaustive)
    check_reload(index, make, queries, names, tmp_path)


def check_exclusions(index, candidates, queries, names, exhaustive):
    """The best three, a repeat, padding and an unknown name are left out of each query."""
    best = oracle(candidates, queries, 3)
    exclude = np.concatenate([names[best], names[best[:, :1]], np.full([5, 1], ""), np.full([5, 1], "?")], 1)
    keep = np.ones([5, len(candidates)], bool)
    np.put_along_axis(keep, best, False, 1)
    _, rows = index.search(queries, k=len(candidates), exclude=exclude, **exhaustive)
    np.testing.assert_array_equal(rows, oracle(candidates, queries, len(candidates), keep))
    _, by_row = index.search(queries, k=len(candidates), exclude=best, **exhaustive)
    np.testing.assert_array_equal(by_row, rows)
    _, listed = index.search(queries, k=4, exclude=exclude, allowed=names[oracle(candidates, queries, 5)])
    np.testing.assert_array_equal(
        listed, np.concatenate([oracle(candidates, queries, 5)[:, 3:], np.full([5, 2], -1)], 1)
    )


def check_reload(index, make, queries, names, tmp_path):
    """Keras' two formats, a SavedModel and an exported signature give the same answers as the index."""
    config = index.get_config()
    assert (
        type(index).from_config(config).get_config()
        == config
        == make().get_config() | {"name": config["name"]}
    )
    exclude = tf.constant(np.tile(names[:2], [5, 1]))
    expected = [value.numpy() for value in index(queries, k=tf.constant(4), exclude=exclude)]
    first = index(queries)[1].numpy()

    index.save(tmp_path / "index.keras")
    index.save(tmp_path / "keras_saved_model", save_format="tf")
    for path in ("index.keras", "keras_saved_model"):
        loaded = tf_keras.models.load_model(tmp_path / path, compile=False)
        assert type(loaded) is type(index)
        for value, want in zip(loaded(queries, k=tf.constant(4), exclude=exclude), expected, strict=True):
            np.testing.assert_array_equal(value, want)
    plain = tf.saved_model.load(str(tmp_path / "keras_saved_model"))
    np.testing.assert_array_equal(plain(queries)[1], first)

    served = Served(index, tf.string)
    folder = str(tmp_path / "served")
    tf.saved_model.save(served, folder, signatures={"recommend": served.recommend})
    assert not copied_variables(folder)
    recommend = tf.saved_model.load(folder).signatures["recommend"]
    answer = recommend(queries=tf.constant(queries), k=tf.constant(4), exclude=exclude)
    np.testing.assert_array_equal(answer["scores"], expected[0])
    np.testing.assert_array_equal(answer["identifiers"], expected[1])
    none = recommend(queries=tf.constant(queries[:0]), k=tf.constant(4), exclude=exclude[:0])
    assert none["scores"].shape == none["identifiers"].shape == [0, 4]
    # More than there are is a smaller answer; less than one is the client's error.
    more = recommend(queries=tf.constant(queries), k=tf.constant(10_000), exclude=exclude)
    assert more["scores"].shape == (5, len(names))
    try:
        recommend(queries=tf.constant(queries), k=tf.constant(0), exclude=exclude)
    except tf.errors.InvalidArgumentError as error:
        assert "`k` must be at least 1" in error.message  # noqa: PT017
    else:
        raise AssertionError("k=0 was answered")
