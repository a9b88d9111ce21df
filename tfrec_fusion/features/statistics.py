"""Statistics that features need, learned from columns in memory and answered by TensorFlow operations.

The order of a vocabulary is that of TensorFlow Transform: the most frequent value first, equally frequent
ones in reverse order of their bytes, with a line break written as `\\n`. The same data then have the same
indices in a run of the pipeline and in memory.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.features.columns import RawFeature
from tfrec_fusion.features.graph import Values, raw_dtype

__all__ = ["Fitted", "Statistics", "encoded", "learn", "sparse", "vocabulary_of"]

_WRITTEN = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What was learned.

    Attributes:
        vocabularies: name → values by index, from 1.
        moments: number by its feature's name → mean, and deviation, 1 where all are equal.
    """

    vocabularies: Mapping[str, Sequence[bytes]]
    moments: Mapping[str, tuple[float, float]]

    def size(self, vocabulary: str) -> int:
        """How many values there are, index 0 included."""
        return len(self.vocabularies[vocabulary]) + 1


def learn(
    features: Sequence[RawFeature],
    columns: Mapping[str, Iterable[Any]],
    size: int,
    known: Mapping[str, Sequence[bytes]] | None = None,
) -> Statistics:
    """Learns from the values of every feature.

    Args:
        features: which.
        columns: by name a value an example, None where there is none, a list where there are several.
        size: the most values kept of a categorical feature.
        known: vocabularies of an earlier model, whose values keep their indices; new ones come after them.
    """
    vocabularies, moments = {}, {}
    for feature in features:
        present = [value for value in columns[feature.name] if value is not None]
        if feature.kind == "categorical":
            vocabularies[feature.vocabulary] = vocabulary_of(present, size)
        elif feature.kind == "categories":
            vocabularies[feature.vocabulary] = vocabulary_of((one for some in present for one in some), size)
        elif feature.kind == "number":
            numbers = np.asarray(present, np.float32).astype(np.float64)
            mean, deviation = (numbers.mean(), numbers.std()) if len(numbers) else (0.0, 0.0)
            moments[feature.name] = float(mean), float(deviation) or 1.0
    for name, before in (known or {}).items():
        if name in vocabularies:
            vocabularies[name] = grown(vocabularies[name], before, size)
    return Statistics(vocabularies, moments)


def grown(values: Sequence[bytes], before: Sequence[bytes], size: int | None = None) -> list[bytes]:
    """A vocabulary in which an earlier one's values stand first, in their order, and others after them."""
    old = set(before)
    both = [*before, *(value for value in values if value not in old)]
    return both if size is None else both[: max(size, len(before))]


def vocabulary_of(values: Iterable[str], size: int | None = None) -> list[bytes]:
    """Distinct values, encoded, in the order of their indices; the `size` first of them, or all."""
    counts = collections.Counter(map(encoded, values))
    ordered = sorted(((count, _on_one_line(value), value) for value, count in counts.items()), reverse=True)
    return [value for _, _, value in ordered[:size]]


def encoded(value: str) -> bytes:
    """A string as Examples hold it."""
    return value.encode("utf-8", "replace")


def sparse(
    values: Sequence[Any] | np.ndarray, feature: RawFeature, width: int | None = None
) -> tf.SparseTensor | tf.Tensor:
    """A raw feature of some examples, as it is parsed from Examples.

    Args:
        values: as in `learn`.
        feature: which.
        width: the second dimension; None: that of the longest value.

    Returns:
        Sparse `[n, width]`; of a feature that has a width of its own dense, zeros where there is no value: an
        index for each of many numbers would take more than they do.
    """
    if feature.width is not None:
        dense = np.zeros((len(values), feature.width), np.float32)
        for position, value in enumerate(values):
            if value is not None:
                dense[position] = value
        return tf.constant(dense)
    several = feature.kind in ("categories", "vector")
    rows = [(() if value is None else value) if several else (() if value is None else (value,))
            for value in values]  # fmt: skip
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    flat = [entry for row in rows for entry in row]
    row = np.repeat(np.arange(len(rows)), lengths)
    column = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    dtype = raw_dtype(feature)
    if dtype == tf.string:
        flat = [encoded(entry) for entry in flat]
    return tf.SparseTensor(
        np.stack([row, column], 1).astype(np.int64),
        tf.constant(flat, dtype, shape=[len(flat)]),
        [len(rows), max(1, int(lengths.max(initial=1)) if width is None else width)],
    )


class Fitted(tf.Module):
    """`features.graph.Learned` from `Statistics`: lookup tables and constants, which a SavedModel holds."""

    def __init__(self, statistics: Statistics):
        super().__init__()
        self.moments = {name: (np.float32(mean), np.float32(scale))
                        for name, (mean, scale) in statistics.moments.items()}  # fmt: skip
        self.tables = {name: _table(values) for name, values in statistics.vocabularies.items()}

    def index(self, values: Values, vocabulary: str, size: int | None) -> Values:
        """Indices from 1, 0 for what is not known."""
        table = self.tables[vocabulary]
        if isinstance(values, tf.SparseTensor):
            return tf.SparseTensor(values.indices, table.lookup(values.values), values.dense_shape)
        return table.lookup(values)

    def standardise(self, values: tf.SparseTensor, feature: str) -> tf.SparseTensor:
        """z-scores by what was learned."""
        mean, scale = self.moments[feature]
        return tf.SparseTensor(values.indices, (values.values - mean) / scale, values.dense_shape)


def _table(values: Sequence[bytes]) -> tf.lookup.StaticHashTable:
    # A table needs one entry.
    keys, indices = (list(values), range(1, len(values) + 1)) if values else ([b""], [0])
    entries = tf.constant(keys, tf.string), tf.constant(list(indices), tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(*entries), 0)


def _on_one_line(value: bytes) -> bytes:
    return re.sub(rb"[\\\n\r]", lambda match: _WRITTEN[match[0]], value)
