"""Tiny SavedModels that the serving tests ask questions of, each with answers that can be worked out by
hand."""

from __future__ import annotations

import os
import pathlib

import tensorflow as tf

tf1 = tf.compat.v1

PASS_THROUGH = {
    "float": tf.float32,
    "double": tf.float64,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "complex64": tf.complex64,
}


def _save(path: pathlib.Path, session: tf1.Session, signatures: dict) -> None:
    """Writes a model under a hidden name and renames it, so that no server sees half of it."""
    hidden = path.with_name(f".{path.name}")
    builder = tf1.saved_model.Builder(os.fspath(hidden))
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
    builder.save()
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden.rename(path)


def _predict(inputs: dict, outputs: dict, method: str = "tensorflow/serving/predict"):
    info = tf1.saved_model.utils.build_tensor_info
    return tf1.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        method,
    )


def write_half_plus(path: pathlib.Path, plus: float = 2.0) -> None:
    """`y = x / 2 + plus`, TF Serving's own example; the declared shape `[1]` is not held to. `plus` is a
    variable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [1], "x")
        bias = tf1.get_variable("bias", initializer=plus, use_resource=True)
        y = tf.add(x * 0.5, bias, name="y")
        session.run(tf1.global_variables_initializer())
        _save(path, session, {"serving_default": _predict({"x": x}, {"y": y})})


def write_zoo(path: pathlib.Path) -> None:
    """One signature a behaviour; see the names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        signatures = {}
        for name, dtype in PASS_THROUGH.items():
            x = tf1.placeholder(dtype, None)
            signatures[f"same_{name}"] = _predict({"x": x}, {"y": tf.identity(x)})
        a, b = tf1.placeholder(tf.float32, None), tf1.placeholder(tf.float32, None)
        signatures["add"] = _predict({"a": a, "b": b}, {"sum": a + b})
        signatures["add_default"] = _predict({"a": a, "b": b}, {"sum": a + b})
        signatures["add_default"].defaults["b"].CopyFrom(tf1.make_tensor_proto(10.0))
        # Its inputs' names are in another order than the graph's.
        signatures["add_crossed"] = _predict({"z": a, "b": b}, {"sum": a + b})
        signatures["both"] = _predict({"a": a, "b": b}, {"a_out": tf.identity(a), "b_out": tf.identity(b)})
        s = tf1.placeholder(tf.string, None)
        signatures["bytes"] = _predict({"s": s}, {"s_bytes": tf.identity(s)})
        signatures["text_and_bytes"] = _predict(
            {"s": s}, {"text": tf.identity(s), "raw_bytes": tf.identity(s)}
        )
        signatures["size"] = _predict({"x": a}, {"size": tf.size(a)})
        signatures["shape"] = _predict({"x": a}, {"shape": tf.shape(a)})
        signatures["no_inputs"] = _predict({}, {"y": tf.constant([1.0])})
        signatures["odd_method"] = _predict({"x": a}, {"y": tf.identity(a)}, "something/else")
        signatures["divide"] = _predict(
            {"a": a, "b": b}, {"y": tf.math.floordiv(tf.cast(a, tf.int32), tf.cast(b, tf.int32))}
        )
        signatures["matmul"] = _predict({"x": a}, {"y": tf.linalg.matmul(a, [[1.0], [2.0]])})
        _save(path, session, signatures)


def write_estimator(path: pathlib.Path) -> None:
    """Classify and regress over Examples with a float feature `x` (default 0), a bytes `s` and an int64 `i`.

    `classify`: classes `low`, `high`, scores `1 - x` and `x`; `regress`: `2 x + i`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        examples = tf1.placeholder(tf.string, [None], "examples")
        parsed = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
                "s": tf.io.FixedLenFeature([1], tf.string, [""]),
                "i": tf.io.FixedLenFeature([1], tf.int64, [0]),
            },
        )
        x = parsed["x"]
        scores = tf.concat([1.0 - x, x], axis=1)
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.size(examples), 1])
        value = 2.0 * x + tf.cast(parsed["i"], tf.float32)
        classify, regress = "tensorflow/serving/classify", "tensorflow/serving/regress"
        one = {"inputs": examples}
        _save(
            path,
            session,
            {
                "serving_default": _predict(one, {"classes": classes, "scores": scores}, classify),
                "scores_only": _predict(one, {"scores": scores}, classify),
                "classes_only": _predict(one, {"classes": classes}, classify),
                "label": _predict(one, {"classes": parsed["s"]}, classify),
                "flat_scores": _predict(one, {"scores": tf.reshape(scores, [-1])}, classify),
                "half_scores": _predict(one, {"scores": tf.cast(scores, tf.float16)}, classify),
                "int_scores": _predict(one, {"scores": tf.cast(scores, tf.int32)}, classify),
                "regress": _predict(one, {"outputs": value}, regress),
                "classify_as_predict": _predict(one, {"classes": classes, "scores": scores}),
                "regress_as_predict": _predict(one, {"outputs": value}),
                "regress_flat": _predict(one, {"outputs": tf.reshape(value, [-1])}, regress),
                "regress_wide": _predict(one, {"outputs": scores}, regress),
                "regress_short": _predict(one, {"outputs": value[:1]}, regress),
                "predict": _predict({"examples": examples}, {"x": x}),
            },
        )


def write_recommender(path: pathlib.Path, scored: tuple[float, ...] = (3.0, 2.0, 1.0)) -> None:
    """The signatures that our models are pushed with, over three films, whose scores are `scored`.

    `recommend` leaves out what `exclude` names; `rank` scores a candidate by the length of its id;
    `embed_text` gives a text's length and the number 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    class Model(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "user_id"),
                tf.TensorSpec([None, None], tf.string, "history"),
                tf.TensorSpec([None], tf.string, "text"),
                tf.TensorSpec([], tf.int32, "k"),
                tf.TensorSpec([None, None], tf.string, "exclude"),
            ]
        )
        def recommend(self, user_id, history, text, k, exclude):
            ids, titles = tf.constant(["a", "b", "c"]), tf.constant(["Alien", "Brazil", "Cube"])
            batch = tf.shape(user_id)[0]
            excluded = tf.reduce_any(exclude[:, :, None] == ids, axis=1)
            scores = tf.where(excluded, -float("inf"), tf.tile([list(scored)], [batch, 1]))
            scores, positions = tf.math.top_k(scores, k)
            results = tf.math.is_finite(scores)
            return {
                "item_ids": tf.where(results, tf.gather(ids, positions), ""),
                "scores": scores,
                "titles": tf.where(results, tf.gather(titles, positions), ""),
                "history_length": tf.reduce_sum(tf.cast(history != "", tf.int32), axis=1),
            }

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "user_id"),
                tf.TensorSpec([None], tf.string, "item_ids"),
                tf.TensorSpec([None, None], tf.string, "history"),
            ]
        )
        def rank(self, user_id, item_ids, history):
            length = tf.cast(tf.strings.length(item_ids), tf.float32)
            return {"rating": length, "click": length + tf.cast(tf.shape(history)[1], tf.float32)}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "user_id"),
                tf.TensorSpec([None, None], tf.string, "item_ids"),
            ]
        )
        def rank_rows(self, user_id, item_ids):
            return {"rating": tf.cast(tf.strings.length(item_ids), tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def embed_text(self, text):
            length = tf.cast(tf.strings.length(text), tf.float32)
            return {"vector": tf.stack([length, tf.ones_like(length)], axis=1)}

    model = Model()
    hidden = path.with_name(f".{path.name}")
    tf.saved_model.save(
        model,
        os.fspath(hidden),
        signatures={
            "recommend": model.recommend,
            "rank": model.rank,
            "rank_rows": model.rank_rows,
            "embed_text": model.embed_text,
        },
    )
    hidden.rename(path)
