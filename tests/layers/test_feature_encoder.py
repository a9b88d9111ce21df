"""Feature encoders: hand-worked values, and a learned vector for everything unknown."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import tensorflow as tf

from tests.checks import check_layer
from tfrec_fusion.layers.feature_encoder import (
    BucketEncoder,
    CategoricalEncoder,
    HashEncoder,
    MultiValueEncoder,
    NumericEncoder,
    TimeEncoder,
    VectorEncoder,
    VocabularyEncoder,
)

VECTORS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
LAYERS = [
    (CategoricalEncoder, {"size": 4, "dim": 3}, np.array([0, 1, 2, 3]), (4, 3), True),
    (CategoricalEncoder, {"size": 3, "dim": 3}, np.array([[0, 1], [2, 7]], np.int32), (2, 2, 3), True),
    (VocabularyEncoder, {"vocabulary": ["a", "b"], "dim": 3}, np.array(["a", "b", "z", ""]), (4, 3), False),
    (HashEncoder, {"bins": 2, "dim": 3}, np.array(["a", "b", "c", "d", "e", ""]), (6, 3), False),
    (HashEncoder, {"bins": 2, "dim": 3, "salt": 7}, np.arange(6).reshape(3, 2), (3, 2, 3), False),
    (BucketEncoder, {"boundaries": [0.0, 1.0], "dim": 3}, np.float32([-1, 0.5, 1, np.nan]), (4, 3), True),
    (MultiValueEncoder, {"size": 4, "dim": 3}, np.array([[1, 2, 0], [3, 0, 0], [0, 0, 0]]), (3, 3), True),
    (
        MultiValueEncoder,
        {"size": 3, "dim": 3, "combiner": "sqrtn"},
        np.array([[[1, 2]], [[0, 0]]]),
        (2, 1, 3),
        True,
    ),
    (NumericEncoder, {"dim": 3, "mean": 2.0, "stddev": 4.0}, np.float32([1, 2, np.nan]), (3, 3), True),
    (TimeEncoder, {"dim": 3}, np.array([0, 1_700_000_000, 1_710_000_000]), (3, 3), True),
    (VectorEncoder, {"dim": 3}, VECTORS, (4, 3), True),
    (VectorEncoder, {"dim": 3, "normalize": False}, VECTORS[:, None], (4, 1, 3), True),
]


@pytest.mark.parametrize(("layer", "kwargs", "inputs", "shape", "xla"), LAYERS)
def test_check_layer(layer, kwargs, inputs, shape, xla):
    check_layer(layer, kwargs, inputs, shape, xla=xla)


def numbered(layer, inputs):
    """The layer with the embedding rows 0, 1, 2, …, so that its output is the index."""
    layer(inputs)
    rows = layer.embedding.embeddings.shape[0]
    layer.embedding.embeddings.assign(np.arange(rows, dtype=np.float32)[:, None])
    return layer


def test_categorical_takes_what_it_does_not_know_as_unknown():
    index = np.array([0, 1, 3, 4, -1, 2**40])
    layer = numbered(CategoricalEncoder(4, 1), index)
    np.testing.assert_array_equal(layer(index)[:, 0], [0, 1, 3, 0, 0, 0])


def test_vocabulary_counts_from_one():
    values = np.array(["comedy", "drama", "western", "", "Drama"])
    layer = numbered(VocabularyEncoder(["drama", "comedy"], 1), values)
    np.testing.assert_array_equal(layer(values)[:, 0], [2, 1, 0, 0, 0])


@pytest.mark.parametrize("values", [np.array(["", "a", "b", "a"]), np.array([0, 5, 6, 5])])
def test_hashing_keeps_row_0_for_missing_values(values):
    layer = numbered(HashEncoder(1000, 1), values)
    rows = layer(values).numpy()[:, 0]
    assert rows[0] == 0
    assert rows[1] == rows[3] != rows[2]
    assert np.all((rows[1:] >= 1) & (rows[1:] <= 1000))


def test_hashing_spreads_and_the_salt_changes_it():
    values = np.array([f"item {number}" for number in range(1000)])
    rows = numbered(HashEncoder(10, 1), values)(values).numpy()[:, 0]
    # 100 a bin are expected, with a standard deviation of 9.5.
    assert np.all(np.bincount(rows.astype(int), minlength=11)[1:] > 50)
    salted = numbered(HashEncoder(10, 1, salt=1), values)(values).numpy()[:, 0]
    assert np.mean(rows == salted) < 0.2


def test_buckets_equal_numpy():
    values = np.float32([-5, 0, 0.5, 1, 9, np.nan, np.inf, -np.inf])
    layer = numbered(BucketEncoder([0, 1], 1), values)
    expected = np.where(np.isnan(values), 0, np.digitize(values, [0, 1]) + 1)
    np.testing.assert_array_equal(layer(values)[:, 0], expected)


def test_buckets_keep_full_precision_under_mixed_precision():
    layer = numbered(BucketEncoder([2048.0, 2049.0], 1, dtype="mixed_float16"), np.float32([0.0]))
    np.testing.assert_array_equal(layer(np.float32([2048.0, 2049.0, 100_000.0]))[:, 0], [2, 3, 3])


@pytest.mark.parametrize(
    ("combiner", "expected"), [("mean", 2.0), ("sum", 4.0), ("sqrtn", 4.0 / np.sqrt(2.0))]
)
def test_multi_value_by_hand(combiner, expected):
    layer = MultiValueEncoder(5, 1, combiner)
    index = np.array([[1, 3, 0], [0, 1, 3], [3, 99, 1], [0, 0, 0], [2, 0, 0]])
    layer(index)
    layer.values.embedding.embeddings.assign([[-7.0], [1.0], [2.0], [3.0], [4.0]])
    np.testing.assert_allclose(layer(index)[:, 0], [expected, expected, expected, -7.0, 2.0], rtol=1e-6)


def test_multi_value_without_any_column_is_no_value():
    layer = MultiValueEncoder(5, 2)
    np.testing.assert_array_equal(layer(np.zeros([3, 0], np.int32)), layer(np.zeros([3, 4], np.int32)))


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (CategoricalEncoder(4, 1, unknown_rate=0.4), np.full([20_000], 2)),
        (VocabularyEncoder(["a"], 1, unknown_rate=0.4), np.full([20_000], "a")),
        (MultiValueEncoder(4, 1, unknown_rate=0.4), np.full([20_000, 3], 2)),
    ],
)
def test_unknown_rate_hides_values_in_training_only(layer, inputs):
    layer(inputs)
    embedding = layer.values.embedding if isinstance(layer, MultiValueEncoder) else layer.embedding
    embedding.embeddings.assign(np.arange(embedding.input_dim, dtype=np.float32)[:, None])
    trained = layer(inputs, training=True).numpy()
    assert np.mean(trained == 0) == pytest.approx(0.4, abs=0.014)  # Four standard deviations.
    assert len(np.unique(trained)) == 2
    assert np.all(layer(inputs, training=False).numpy() > 0)


def test_number_is_standardised_and_a_missing_one_learned():
    layer = NumericEncoder(1, mean=10.0, stddev=5.0)
    values = np.float32([10, 20, np.nan])
    np.testing.assert_array_equal(layer(values)[2], [0.0])
    layer.projection.set_weights([np.array([[3.0]]), np.array([1.0])])
    layer.missing.assign([42.0])
    np.testing.assert_allclose(layer(values)[:, 0], [1.0, 7.0, 42.0])


def test_a_large_number_survives_float16():
    layer = NumericEncoder(1, mean=1e6, stddev=1e6, dtype="mixed_float16")
    layer(np.float32([0.0]))
    layer.projection.set_weights([np.array([[1.0]]), np.array([0.0])])
    np.testing.assert_allclose(layer(np.float32([3e6]))[:, 0], [2.0])


def seconds(*date):
    return int(datetime.datetime(*date, tzinfo=datetime.timezone.utc).timestamp())


def test_time_is_the_hour_the_weekday_and_the_day_of_the_year():
    # Monday 1 January 2024 at 06:00, Thursday noon that week, and 2 July, the middle of the year.
    times = [seconds(2024, 1, 1, 6), seconds(2024, 1, 4, 12), seconds(2024, 7, 1, 12)]
    sin_day, cos_day, sin_week, cos_week, sin_year, cos_year = (
        TimeEncoder(1, harmonics=1).angles(tf.constant(times)).numpy().T
    )
    np.testing.assert_allclose([sin_day[0], cos_day[0]], [1, 0], atol=1e-4)
    np.testing.assert_allclose([sin_day[1], cos_day[1]], [0, -1], atol=1e-4)
    np.testing.assert_allclose([sin_week[1], cos_week[1]], [0, -1], atol=1e-4)  # Monday 00:00 + 3.5 days
    day_of_year = np.arctan2(sin_year, cos_year) / (2 * np.pi) * 365.2425 % 365.2425
    np.testing.assert_allclose(day_of_year, [0.25, 3.5, 182.5], atol=1.0)


def test_second_harmonic_is_twice_as_fast():
    angles = TimeEncoder(1, harmonics=2).angles(tf.constant([seconds(2024, 1, 1, 3)])).numpy()[0]
    np.testing.assert_allclose(angles[:4], [np.sin(np.pi / 4), 1.0, np.cos(np.pi / 4), 0.0], atol=1e-4)


def test_midnight_is_seamless_and_a_missing_time_learned():
    layer = TimeEncoder(4)
    before, after, missing = layer(np.array([seconds(2024, 1, 7, 23, 59, 59), seconds(2024, 1, 8), 0]))
    np.testing.assert_allclose(before, after, atol=1e-3)
    np.testing.assert_array_equal(missing, layer.missing)


def test_vectors_are_brought_to_length_one():
    layer = VectorEncoder(3)
    np.testing.assert_allclose(layer(VECTORS), layer(VECTORS * 100), rtol=1e-4, atol=1e-6)
    kernel, bias = layer.projection.get_weights()
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    np.testing.assert_allclose(layer(VECTORS), unit @ kernel + bias, rtol=1e-4, atol=1e-6)
    layer.projection.set_weights([kernel, np.array([1.0, 2.0, 3.0])])
    np.testing.assert_allclose(layer(np.zeros([1, 6], np.float32)), [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CategoricalEncoder(0, 3), "`size` must be at least 1.*Received: size=0"),
        (lambda: CategoricalEncoder(3, 0), "`dim` must be at least 1. Received: dim=0"),
        (lambda: CategoricalEncoder(3, 3, unknown_rate=1.0), r"`unknown_rate` must be in \[0, 1\)"),
        (lambda: CategoricalEncoder(3, 3)(tf.constant([1.0])), "needs integer indices. Received: float32"),
        (lambda: CategoricalEncoder(3, 3)(tf.constant(["a"])), "Received: string. Use VocabularyEncoder"),
        (lambda: VocabularyEncoder([], 3), "`vocabulary` must hold distinct strings.*0 strings"),
        (lambda: VocabularyEncoder(["a", "a"], 3), "2 strings, 1 distinct"),
        (lambda: VocabularyEncoder(["a", ""], 3), "1 empty"),
        (lambda: VocabularyEncoder(["a"], 3)(tf.constant([1])), "needs strings. Received: int32"),
        (lambda: HashEncoder(0, 3), "`bins` must be at least 1"),
        (lambda: HashEncoder(5, 3)(tf.constant([1.0])), "strings or integers. Received: float32"),
        (lambda: BucketEncoder([], 3), r"rising numbers. Received: \[\]"),
        (lambda: BucketEncoder([1, 1], 3), r"rising numbers. Received: \[1\.0, 1\.0\]"),
        (lambda: BucketEncoder([1], 3)(tf.constant(["a"])), "needs numbers. Received: string"),
        (lambda: MultiValueEncoder(3, 3, "max"), "'mean', 'sum' or 'sqrtn'. Received: 'max'"),
        (lambda: MultiValueEncoder(3, 3)(tf.constant([1])), "Use CategoricalEncoder"),
        (lambda: NumericEncoder(3, stddev=0.0), "`stddev` must be above 0. Received: stddev=0.0"),
        (lambda: TimeEncoder(3, harmonics=0), "`harmonics` must be at least 1"),
        (lambda: TimeEncoder(3)(tf.constant([1.7e9])), "unix seconds as int64. Received: float32"),
        (lambda: VectorEncoder(3)(tf.constant([1.0])), r"needs vectors \[\.\.\., size\]"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
