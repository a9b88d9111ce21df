"""Added tokens: strings that are one token wherever they stand in a text, found before words are split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.tokenizers.regexes import SEPARATOR, cut, literal, to_re2

_FOUND = b"\xfe"  # before a token that was found; no UTF-8 holds it
_SPACE = to_re2(r"\s")


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token as `added_tokens` of a `tokenizer.json` has it.

    Attributes:
        content: the string.
        id: its id.
        lstrip, rstrip: whether white space before and behind it is part of it.
        normalized: whether it is looked for in the normalised text, itself normalised.
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class Finder:
    """Finds added tokens, the leftmost first, of those the longest.

    Args:
        tokens: all of the same `normalized`.
        normalize: string `[n]` to string `[n]`; what the tokens themselves go through.
    """

    def __init__(
        self, tokens: Sequence[AddedToken], normalize: Callable[[tf.Tensor], tf.Tensor] | None = None
    ):
        contents = [token.content for token in tokens]
        if normalize is not None and contents:
            with tf.init_scope():
                contents = [content.decode() for content in normalize(tf.constant(contents)).numpy()]
        listed = dict(zip(contents, tokens, strict=True))
        listed.pop("", None)
        longest = sorted(listed, key=len, reverse=True)
        self.pattern = f"({'|'.join(map(literal, longest))})" if longest else ""
        self.contents = np.array([_FOUND + content.encode() for content in listed], object)
        self.ids = np.array([token.id for token in listed.values()], np.int32)
        self.lstrip = np.array([token.lstrip for token in listed.values()], bool)
        self.rstrip = np.array([token.rstrip for token in listed.values()], bool)

    def __call__(self, segments: tf.RaggedTensor, found: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Cuts segments where tokens are.

        Args:
            segments: string ragged `[n, (segments)]`.
            found: int32, an entry a segment: the id of one that is a token already, -1 for text.

        Returns:
            Both, after more tokens were found.
        """
        if not self.pattern:
            return segments, found
        flat = segments.flat_values
        marked = tf.strings.regex_replace(flat, self.pattern, SEPARATOR + _FOUND + rb"\1" + SEPARATOR)
        pieces = cut(tf.where(found >= 0, flat, marked))
        parts = pieces.flat_values
        earlier = tf.gather(found, pieces.value_rowids())
        is_new = (tf.strings.substr(parts, 0, 1) == _FOUND) & (earlier < 0)
        places = tf.where(is_new)
        same = tf.gather_nd(parts, places)[:, tf.newaxis] == tf.constant(self.contents)
        chosen = tf.argmax(tf.cast(same, tf.int32), axis=1)
        found = tf.tensor_scatter_nd_update(earlier, places, tf.gather(tf.constant(self.ids), chosen))
        for strips, pattern, shift in ((self.lstrip, rf"{_SPACE}+$", -1), (self.rstrip, rf"^{_SPACE}+", 1)):
            if strips.any():
                takes = tf.scatter_nd(places, tf.gather(strips, chosen), tf.shape(parts, tf.int64))
                row = pieces.value_rowids()
                beside = tf.roll(takes, shift, 0) & (tf.roll(row, shift, 0) == row) & ~is_new
                parts = tf.where(beside, tf.strings.regex_replace(parts, pattern, ""), parts)
        kept = parts != b""
        segments = segments.with_flat_values(
            tf.ragged.boolean_mask(pieces.with_flat_values(parts), pieces.with_flat_values(kept))
        )
        return segments.merge_dims(1, 2), tf.boolean_mask(found, kept)
