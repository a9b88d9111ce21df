"""Vocabularies and z-scores of columns in memory, and as operations of a saved graph."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_fusion.features.columns import RawFeature
from tfrec_fusion.features.statistics import Fitted, learn, sparse, vocabulary_of

COLOUR = RawFeature("item", "categorical", "colour")
TAGS = RawFeature("item", "categories", "tags")
PRICE = RawFeature("item", "number", "price")


def test_a_vocabulary_is_by_frequency_and_ties_by_bytes_from_behind():
    assert vocabulary_of(["b", "a", "c", "c", "é"]) == [b"c", "é".encode(), b"b", b"a"]
    assert vocabulary_of(["b", "a", "c", "c"], 2) == [b"c", b"b"]
    # Transform sees a line break as a backslash and an n.
    assert vocabulary_of(["a\nb", "a]b", "a[b"]) == [b"a]b", b"a\nb", b"a[b"]


def test_values_are_learned_and_looked_up_by_the_same_rules():
    rows = {
        "colour": ["red", None, "red", "blue"],
        "tags": [["x", "y"], None, [], ["y"]],
        "price": [1.0, None, 3.0, 5.0],
    }
    features = {"colour": COLOUR, "tags": TAGS, "price": PRICE}
    statistics = learn(
        list(features.values()), {feature.name: rows[name] for name, feature in features.items()}, 10
    )
    assert statistics.vocabularies[COLOUR.vocabulary] == [b"red", b"blue"]
    assert statistics.vocabularies[TAGS.vocabulary] == [b"y", b"x"]
    mean, deviation = statistics.moments[PRICE.name]
    assert (mean, deviation) == pytest.approx((3.0, np.std([1, 3, 5])))
    fitted = Fitted(statistics)
    tags = fitted.index(sparse([["y", "z", "x"], None], TAGS), TAGS.vocabulary, None)
    np.testing.assert_array_equal(tf.sparse.to_dense(tags), [[1, 0, 2], [0, 0, 0]])
    price = fitted.standardise(sparse([5.0, None], PRICE), PRICE.name)
    np.testing.assert_allclose(tf.sparse.to_dense(price), [[2 / np.std([1, 3, 5])], [0]], rtol=1e-6)


def test_a_column_of_one_value_is_zero_and_an_empty_one_knows_nothing():
    statistics = learn([PRICE, COLOUR], {PRICE.name: [7.0, 7.0], COLOUR.name: [None, None]}, 10)
    assert statistics.moments[PRICE.name] == (7.0, 1.0)
    assert statistics.size(COLOUR.vocabulary) == 1
    fitted = Fitted(statistics)
    assert fitted.index(tf.constant(["red", ""]), COLOUR.vocabulary, None).numpy().tolist() == [0, 0]


def test_a_saved_graph_answers_alike(tmp_path):
    module = tf.Module()
    module.fitted = Fitted(learn([COLOUR, PRICE], {COLOUR.name: ["red"], PRICE.name: [1.0, 3.0]}, 10))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look(colours):
        return module.fitted.index(colours, COLOUR.vocabulary, None)

    module.look = look
    tf.saved_model.save(module, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert loaded.look(tf.constant(["red", "green"])).numpy().tolist() == [1, 0]
