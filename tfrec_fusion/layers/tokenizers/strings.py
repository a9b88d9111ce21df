"""String operations that tokenizers and requests share."""

from __future__ import annotations

import tensorflow as tf

from tfrec_fusion.layers.blank_texts import BLANK


def as_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Strings whose bytes that are no UTF-8 have become U+FFFD."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def lower(texts: tf.Tensor) -> tf.Tensor:
    """Lower-cases letter by letter strings without NUL, at which a string ends for ICU."""
    # ICU lower-cases a sigma at a word's end to ς; Hugging Face does not look at what stands around it.
    return tf.strings.lower(tf.strings.regex_replace(texts, "Σ", "σ"), encoding="utf-8")


def says_something(texts: tf.Tensor) -> tf.Tensor:
    """bool of `texts`' shape: False where a string has nothing but white space, what cannot be seen, and
    bytes that are no UTF-8."""
    return tf.logical_not(tf.strings.regex_full_match(as_utf8(texts), BLANK))
