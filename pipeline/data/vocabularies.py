"""Values of any bytes in Transform's vocabularies, which are text files of one value a line.

Transform leaves values with a line break out of such a file without a word. Its other format, compressed
records, keeps them, but a table that is read from it cannot be put into a SavedModel (TensorFlow 2.21). So
line breaks are written as `\\n` and `\\r`, and a backslash as two, in the graph and wherever a vocabulary is
read.
"""

from __future__ import annotations

import re

import tensorflow as tf
import tensorflow_transform as tft

_WRITTEN = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


def one_line(values: tf.Tensor | tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
    """Strings of any bytes as strings without line breaks, different ones for different ones."""
    if isinstance(values, tf.SparseTensor):
        return tf.SparseTensor(values.indices, one_line(values.values), values.dense_shape)
    for pattern, written in ((r"\\", r"\\\\"), (r"\n", r"\\n"), (r"\r", r"\\r")):
        values = tf.strings.regex_replace(values, pattern, written)
    return values


def as_it_was(written: bytes) -> bytes:
    """The string that `one_line` made this of."""
    return re.sub(rb"\\[\\nr]", lambda match: _WRITTEN[match[0]], written)


def read_vocabulary(transform: tft.TFTransformOutput, name: str) -> list[bytes]:
    """The values of a vocabulary as the tables have them, by index from 0."""
    return [as_it_was(value) for value in transform.vocabulary_by_name(name)]
