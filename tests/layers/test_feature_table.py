"""Feature tables: rows by index, weights that travel with the model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.checks import check_layer
from tfrec_fusion.layers.feature_table import FeatureTable

TEXT = np.arange(12, dtype=np.float16).reshape(4, 3)
GENRES = np.array([[0, 0], [1, 2], [3, 0], [2, 0]], np.int32)


@pytest.mark.parametrize(
    ("inputs", "shape"), [(np.array([1, 3]), (2, 3)), (np.array([[1, 0], [9, 3]]), (2, 2, 3))]
)
def test_check_layer(inputs, shape):
    kwargs = {"shapes": {"text": [4, 3]}, "dtypes": {"text": "float16"}}
    check_layer(
        FeatureTable, kwargs, inputs, {"text": shape}, prepare=lambda table: table.assign({"text": TEXT})
    )


def test_check_layer_with_integers():
    kwargs = {"shapes": {"genres": [4, 2]}, "dtypes": {"genres": "int32"}}
    check_layer(
        FeatureTable,
        kwargs,
        np.array([1, 3]),
        {"genres": (2, 2)},
        expected_dtype="int32",
        prepare=lambda table: table.assign({"genres": GENRES}),
    )


def test_rows_by_index():
    rows = FeatureTable.from_arrays({"text": TEXT, "genres": GENRES})(tf.constant([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(rows["text"], TEXT[[[2, 0], [1, 1]]])
    np.testing.assert_array_equal(rows["genres"], GENRES[[[2, 0], [1, 1]]])


def test_an_index_outside_the_table_is_the_unknown_item():
    rows = FeatureTable.from_arrays({"text": TEXT})(np.array([4, -1, 2**40]))
    np.testing.assert_array_equal(rows["text"], TEXT[[0, 0, 0]])


def test_dtypes():
    arrays = {"text": TEXT, "genres": GENRES, "price": np.ones([4], np.float64)}
    rows = FeatureTable.from_arrays(arrays)(np.array([1]))
    assert {name: row.dtype.name for name, row in rows.items()} == {
        "text": "float32",
        "genres": "int32",
        "price": "float32",
    }
    assert rows["price"].shape == (1,)
    low = FeatureTable.from_arrays(arrays, dtype="mixed_bfloat16")
    assert {row.dtype.name for row in low(np.array([1])).values()} == {"bfloat16", "int32"}
    assert low.tables["text"].dtype == tf.float16


def test_nothing_is_trained():
    table = FeatureTable.from_arrays({"text": TEXT})
    assert not table.trainable_variables
    assert len(table.non_trainable_variables) == 1


def test_a_model_reloads_with_its_values(tmp_path):
    index = tf_keras.Input([], dtype="int32")
    model = tf_keras.Model(index, FeatureTable.from_arrays({"text": TEXT, "genres": GENRES})(index))
    model.save(tmp_path / "model.keras")
    rows = tf_keras.models.load_model(tmp_path / "model.keras")(tf.constant([3, 1]))
    np.testing.assert_array_equal(rows["text"], TEXT[[3, 1]])
    np.testing.assert_array_equal(rows["genres"], GENRES[[3, 1]])


def test_values_can_be_replaced_one_feature_at_a_time():
    table = FeatureTable.from_arrays({"text": TEXT, "genres": GENRES})
    table.assign({"text": TEXT + 1})
    rows = table(np.array([1]))
    np.testing.assert_array_equal(rows["text"], TEXT[[1]] + 1)
    np.testing.assert_array_equal(rows["genres"], GENRES[[1]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureTable({}, {}), "must name the same features"),
        (lambda: FeatureTable({"a": [3, 2]}, {"b": "float32"}), r"Received: \['a'\], \['b'\]"),
        (lambda: FeatureTable.from_arrays({"a": TEXT, "b": GENRES[:2]}), "same number of rows"),
        (lambda: FeatureTable.from_arrays({"a": np.float32(1)}), "one row an item"),
        (lambda: FeatureTable({"a": [3]}, {"a": "string"}), "floats or integers. Received: string for 'a'"),
        (lambda: FeatureTable.from_arrays({"a": TEXT}).assign({"a": TEXT[:2]}), "needs a new FeatureTable"),
        (lambda: FeatureTable.from_arrays({"a": TEXT}).assign({"b": TEXT}), r"has the features \['a'\]"),
        (
            lambda: FeatureTable.from_arrays({"a": TEXT})(tf.constant([1.0])),
            "integer indices. Received: float32",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
