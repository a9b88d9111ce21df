"""Encoders of single features: whatever a column holds, as a float vector `[..., dim]`.

All take any leading dimensions (`[batch]`, or `[batch, T]` for histories) and give every feature one way to
say "unknown": index 0, an empty string, NaN or a missing time has a learned vector of its own. Where it is
rare in the training data, `unknown_rate` hides known values from time to time, so that this vector learns
what can be said about an example without the feature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable


class _EmbeddingEncoder(tf_keras.layers.Layer):
    """An embedding whose row 0 is the unknown value; subclasses turn their input into an index."""

    def __init__(self, rows: int, dim: int, unknown_rate: float = 0.0, **kwargs: Any) -> None:
        # Raw values keep their dtype: half precision would round them before they are looked up.
        super().__init__(autocast=False, **kwargs)
        if dim < 1:
            raise ValueError(f"`dim` must be at least 1. Received: dim={dim}.")
        if not 0 <= unknown_rate < 1:
            raise ValueError(f"`unknown_rate` must be in [0, 1). Received: unknown_rate={unknown_rate}.")
        self.dim = dim
        self.unknown_rate = unknown_rate
        self.rows = rows
        self.embedding = tf_keras.layers.Embedding(rows, dim, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.embedding.build(None)
        super().build(input_shape)

    def index(self, inputs: tf.Tensor) -> tf.Tensor:
        """Turns raw values `[...]` into int indices `[...]`; raises ValueError for a wrong dtype."""
        raise NotImplementedError

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps values `[...]` to vectors `[..., dim]`; in training some values are taken as unknown."""
        return self.embedding(self._hide(self.index(inputs), training))

    def _hide(self, index: tf.Tensor, training: bool | None) -> tf.Tensor:
        if not (training and self.unknown_rate):
            return index
        return tf.where(repeatable.uniform(tf.shape(index)) < self.unknown_rate, tf.zeros_like(index), index)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape).concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "unknown_rate": self.unknown_rate}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class CategoricalEncoder(_EmbeddingEncoder):
    """An embedding of indices with an unknown row that learns.

    Index 0 is unknown, and so is any index outside [0, `size`), for example of a value added after training.

    Args:
        size: how many values there are, index 0 included.
        dim: of the output.
        unknown_rate: share of the values taken as unknown in training, in [0, 1).
    """

    def __init__(self, size: int, dim: int, unknown_rate: float = 0.0, **kwargs: Any) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, for index 0. Received: size={size}.")
        super().__init__(size, dim, unknown_rate, **kwargs)
        self.size = size

    def index(self, inputs: tf.Tensor) -> tf.Tensor:
        return _known_index(self, inputs, self.size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class VocabularyEncoder(_EmbeddingEncoder):
    """An embedding of strings from a known vocabulary; a string outside it, and an empty one, is unknown.

    Args:
        vocabulary: the known strings, distinct and not empty.
        dim: of the output.
        unknown_rate: share of the values taken as unknown in training, in [0, 1).
    """

    def __init__(self, vocabulary: Sequence[str], dim: int, unknown_rate: float = 0.0, **kwargs: Any) -> None:
        vocabulary = list(vocabulary)
        if not vocabulary or "" in vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise ValueError(
                "`vocabulary` must hold distinct strings, at least one and none empty. "
                f"Received: {len(vocabulary)} strings, {len(set(vocabulary))} distinct, "
                f"{vocabulary.count('')} empty."
            )
        super().__init__(len(vocabulary) + 1, dim, unknown_rate, **kwargs)
        self.vocabulary = vocabulary
        self.lookup = tf_keras.layers.StringLookup(vocabulary=vocabulary, num_oov_indices=1, mask_token=None)

    def index(self, inputs: tf.Tensor) -> tf.Tensor:
        if inputs.dtype != tf.string:
            raise ValueError(
                f"VocabularyEncoder needs strings. Received: {inputs.dtype.name}. "
                "Use CategoricalEncoder for indices, or `tf.strings.as_string`."
            )
        return self.lookup(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "vocabulary": list(self.vocabulary)}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class HashEncoder(_EmbeddingEncoder):
    """An embedding of strings or integers by their hash: no vocabulary, at the price of collisions.

    An empty string or the integer 0 is unknown; other values share `bins` rows.

    Args:
        bins: rows for known values; twice the number of values or more keeps collisions rare.
        dim: of the output.
        unknown_rate: share of the values taken as unknown in training, in [0, 1).
        salt: of the hash; layers with different salts collide on different values.
    """

    def __init__(
        self, bins: int, dim: int, unknown_rate: float = 0.0, salt: int | None = None, **kwargs: Any
    ) -> None:
        if bins < 1:
            raise ValueError(f"`bins` must be at least 1. Received: bins={bins}.")
        super().__init__(bins + 1, dim, unknown_rate, **kwargs)
        self.bins = bins
        self.salt = salt
        self.hashing = tf_keras.layers.Hashing(bins, salt=salt)

    def index(self, inputs: tf.Tensor) -> tf.Tensor:
        if inputs.dtype == tf.string:
            known = inputs != ""
        elif inputs.dtype.is_integer:
            known = inputs != 0
        else:
            raise ValueError(f"HashEncoder needs strings or integers. Received: {inputs.dtype.name}.")
        hashed = self.hashing(inputs) + 1
        return tf.where(known, hashed, tf.zeros_like(hashed))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins, "salt": self.salt}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class BucketEncoder(_EmbeddingEncoder):
    """An embedding of the bucket that a number falls into; NaN is unknown.

    A number equal to a boundary belongs to the bucket above it.

    Args:
        boundaries: rising numbers; n of them make n + 1 buckets.
        dim: of the output.
        unknown_rate: share of the values taken as unknown in training, in [0, 1).
    """

    def __init__(
        self, boundaries: Sequence[float], dim: int, unknown_rate: float = 0.0, **kwargs: Any
    ) -> None:
        boundaries = [float(boundary) for boundary in boundaries]
        rising = all(low < high for low, high in itertools.pairwise(boundaries))
        if not boundaries or not rising or not all(map(math.isfinite, boundaries)):
            raise ValueError(f"`boundaries` must be finite, rising numbers. Received: {boundaries}.")
        super().__init__(len(boundaries) + 2, dim, unknown_rate, **kwargs)
        self.boundaries = boundaries

    def index(self, inputs: tf.Tensor) -> tf.Tensor:
        values = _numbers(self, inputs)
        bucket = (
            tf.searchsorted(tf.constant(list(self.boundaries)), tf.reshape(values, [-1]), side="right") + 1
        )
        bucket = tf.reshape(bucket, tf.shape(values))
        return tf.where(tf.math.is_nan(values), tf.zeros_like(bucket), bucket)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "boundaries": list(self.boundaries)}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MultiValueEncoder(tf_keras.layers.Layer):
    """The embeddings of several values in one vector: genres, tags, brands.

    Padding is index 0; an index outside [0, `size`) counts as padding. An example without any value gets row
    0, the learned vector of "no value".

    Args:
        size: how many values there are, index 0 included.
        dim: of the output.
        combiner: `mean`, `sum`, or `sqrtn` (the sum over the square root of the number of values).
        unknown_rate: share of the examples taken as having no value in training, in [0, 1).
    """

    def __init__(
        self, size: int, dim: int, combiner: str = "mean", unknown_rate: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if combiner not in ("mean", "sum", "sqrtn"):
            raise ValueError(f"`combiner` must be 'mean', 'sum' or 'sqrtn'. Received: {combiner!r}.")
        self.size = size
        self.dim = dim
        self.combiner = combiner
        self.unknown_rate = unknown_rate
        self.values = CategoricalEncoder(size, dim, dtype=self.dtype_policy)
        if not 0 <= unknown_rate < 1:
            raise ValueError(f"`unknown_rate` must be in [0, 1). Received: unknown_rate={unknown_rate}.")

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank is not None and shape.rank < 2:
            raise ValueError(
                f"MultiValueEncoder needs indices [..., values], padded with 0. Received the shape {shape}. "
                "Use CategoricalEncoder where each example has one value."
            )
        self.values.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps int indices `[..., values]`, padded with 0 anywhere, to `[..., dim]`."""
        index = self.values.index(inputs)
        if training and self.unknown_rate:
            examples = tf.concat([tf.shape(index)[:-1], [1]], axis=0)
            index = tf.where(repeatable.uniform(examples) < self.unknown_rate, tf.zeros_like(index), index)
        known = index > 0
        vectors = self.values.embedding(index)
        weights = tf.cast(known, vectors.dtype)
        total = tf.einsum("...nd,...n->...d", vectors, weights)
        count = tf.reduce_sum(weights, axis=-1, keepdims=True)
        if self.combiner == "mean":
            total /= tf.maximum(count, 1)
        elif self.combiner == "sqrtn":
            total /= tf.sqrt(tf.maximum(count, 1))
        nothing = self.values.embedding(tf.zeros(tf.shape(index)[:-1], index.dtype))
        return tf.where(count > 0, total, nothing)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)[:-1].concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        config = {
            "size": self.size,
            "dim": self.dim,
            "combiner": self.combiner,
            "unknown_rate": self.unknown_rate,
        }
        return {**super().get_config(), **config}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class NumericEncoder(tf_keras.layers.Layer):
    """A number as a vector: `w (x - mean) / stddev + b`; NaN gets a learned vector, which starts at zero.

    Args:
        dim: of the output.
        mean: of the feature in the training data.
        stddev: of the feature in the training data, above 0.
    """

    def __init__(self, dim: int, mean: float = 0.0, stddev: float = 1.0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if not stddev > 0:
            raise ValueError(
                f"`stddev` must be above 0. Received: stddev={stddev}. A constant says nothing: leave it out."
            )
        self.dim = dim
        self.mean = mean
        self.stddev = stddev
        self.projection = tf_keras.layers.Dense(dim, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.projection.build([None, 1])
        self.missing = self.add_weight(name="missing", shape=[self.dim], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps floats `[...]` (integers are taken as numbers too) to `[..., dim]`."""
        values = _numbers(self, inputs)[..., tf.newaxis]
        missing = tf.math.is_nan(values)
        standardised = (tf.where(missing, self.mean, values) - self.mean) / self.stddev
        encoded = self.projection(tf.cast(standardised, self.compute_dtype))
        return tf.where(missing, tf.cast(self.missing, encoded.dtype), encoded)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape).concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "mean": self.mean, "stddev": self.stddev}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TimeEncoder(tf_keras.layers.Layer):
    """When something happened, by the hour, the weekday and the day of the year, each a circle.

    For each period P: `sin(2π h t / P)` and `cos(2π h t / P)` for the harmonics h = 1 … `harmonics`, then a
    linear layer; so 23:59 lies next to 00:00, and Sunday next to Monday. All in UTC. The year is the mean
    Gregorian one of 365.2425 days, which stays within about a day of the calendar.

    Args:
        dim: of the output.
        harmonics: how finely a period is resolved: 1 can tell day from night, 2 also two peaks a day.
    """

    # Seconds a period lasts, and seconds from its beginning to the epoch, a Thursday, 1 January.
    PERIODS = ((86_400, 0), (7 * 86_400, 3 * 86_400), (31_556_952, 0))

    def __init__(self, dim: int, harmonics: int = 2, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if harmonics < 1:
            raise ValueError(f"`harmonics` must be at least 1. Received: harmonics={harmonics}.")
        self.dim = dim
        self.harmonics = harmonics
        self.projection = tf_keras.layers.Dense(dim, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.projection.build([None, 2 * self.harmonics * len(self.PERIODS)])
        self.missing = self.add_weight(name="missing", shape=[self.dim], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps int64 unix seconds `[...]` to `[..., dim]`; a time that is not above 0 is missing."""
        if inputs.dtype not in (tf.int32, tf.int64):
            raise ValueError(
                f"TimeEncoder needs unix seconds as int64. Received: {inputs.dtype.name}. "
                "float32 cannot hold a second of today: cast before it gets lost."
            )
        encoded = self.projection(tf.cast(self.angles(inputs), self.compute_dtype))
        missing = (inputs <= 0)[..., tf.newaxis]
        return tf.where(missing, tf.cast(self.missing, encoded.dtype), encoded)

    def angles(self, inputs: tf.Tensor) -> tf.Tensor:
        """Sines and cosines, float32 `[..., 6 * harmonics]`: for each period all sines, then all cosines."""
        seconds = tf.cast(inputs, tf.int64)
        parts = []
        for period, offset in self.PERIODS:
            phase = tf.cast(tf.math.floormod(seconds + offset, period), tf.float32) / period
            angle = 2 * math.pi * phase[..., tf.newaxis] * tf.range(1.0, self.harmonics + 1)
            parts += [tf.sin(angle), tf.cos(angle)]
        return tf.concat(parts, axis=-1)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape).concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "harmonics": self.harmonics}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class VectorEncoder(tf_keras.layers.Layer):
    """Ready-made vectors (images, audio, text from elsewhere) projected to `dim`: `W x / ‖x‖ + b`.

    A vector of zeros stays zeros before the projection: it says that there is none, and its encoding is `b`.

    Args:
        dim: of the output.
        normalize: whether the vectors are brought to length 1 first, so that none is loud by its scale alone.
    """

    def __init__(self, dim: int, normalize: bool = True, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.dim = dim
        self.normalize = normalize
        self.projection = tf_keras.layers.Dense(dim, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank is None or shape.rank < 2 or shape[-1] is None:
            raise ValueError(
                f"VectorEncoder needs vectors [..., size] of fixed size. Received the shape {shape}."
            )
        self.projection.build(shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps floats `[..., size]` to `[..., dim]`."""
        vectors = _numbers(self, inputs)
        if self.normalize:
            vectors = tf.math.l2_normalize(vectors, axis=-1)
        return self.projection(tf.cast(vectors, self.compute_dtype))

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)[:-1].concatenate([self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "normalize": self.normalize}


def _known_index(layer: tf_keras.layers.Layer, inputs: tf.Tensor, size: int) -> tf.Tensor:
    if not inputs.dtype.is_integer:
        raise ValueError(
            f"{type(layer).__name__} needs integer indices. Received: {inputs.dtype.name}. "
            "Use VocabularyEncoder or HashEncoder for strings, BucketEncoder or NumericEncoder for numbers."
        )
    return tf.where((inputs >= 0) & (inputs < size), inputs, tf.zeros_like(inputs))


def _numbers(layer: tf_keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
    if not (inputs.dtype.is_floating or inputs.dtype.is_integer):
        raise ValueError(f"{type(layer).__name__} needs numbers. Received: {inputs.dtype.name}.")
    return tf.cast(inputs, tf.float32)
