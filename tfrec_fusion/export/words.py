"""Contributions of each word of a text to a score, by integrated gradients over the embeddings of its
tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfrec_fusion.export.base import TextTower, called, says_something
from tfrec_fusion.models.contributions import (
    PartScores,
    constant_towards,
    integrated_gradients,
    repeated,
)

POINTS = 12
"""Of the quadrature: each runs the whole encoder. Short texts under MiniLM leave a completeness error of
5.4 % of the part with 9 points and of 1.8 % with 12, a seventh slower (`benchmarks.explanations`)."""


class Words(NamedTuple):
    """Words of texts, string `[batch, W]`, and which tokens each is made of, float32 `[batch, L, W]`."""

    words: tf.Tensor
    tokens: tf.Tensor


def part_by_word(
    tower: TextTower,
    texts: tf.Tensor,
    vectors: tf.Tensor,
    items: tf.Tensor,
    points: int = POINTS,
    unsourced: int = 0,
) -> tuple[tf.Tensor, PartScores]:
    """The part `text` of scores, and what each word adds to it.

    The baseline of a word is as much padding. Encoders of one's own, which have no `embed`, say nothing of
    words: all of the part is its base.

    Args:
        tower: tokenizer and encoder.
        texts: string `[batch]`.
        vectors: float32 `[batch, dim]`, what `tower` makes of them.
        items: float32 `[batch, n, dim]`, text vectors of the candidates.
        points: of the quadrature.
        unsourced: see `integrated_gradients`.

    Returns:
        The words, string `[batch, W]`, and the part.
    """
    scores = tf.linalg.matvec(items, vectors)
    batch, n = tf.shape(items)[0], tf.shape(items)[1]
    nothing = (tf.zeros([batch, 0], tf.string), tf.zeros([batch, n, 0]), scores)
    given = says_something(texts)
    if hasattr(tower.encoder, "encode_embedded"):
        by_word = called(lambda texts, items: _by_word(tower, texts, items, points, unsourced))
        words, added, base = tf.cond(tf.reduce_any(given), lambda: by_word(texts, items), lambda: nothing)
    else:
        words, added, base = nothing
    said = tf.cast(given, tf.float32)[:, None]
    return words, PartScores("text", scores, base * said, words=added * said[:, :, None])


def _by_word(
    tower: TextTower, texts: tf.Tensor, items: tf.Tensor, points: int, unsourced: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Words, their contributions float32 `[batch, n, W]`, and what the baseline says, `[batch, n]`."""
    encoder: Any = tower.encoder
    tokenizer: Any = tower.tokenizer
    tokens = tokenizer(tf.strings.join([tower.query_prefix, texts]))
    found = _words(tower, texts, tokens)
    padding = tf.where(tf.reduce_any(found.tokens > 0, 2), tokenizer.pad_id, tokens["input_ids"])
    mask = repeated(tokens["attention_mask"], points)
    embedded = encoder.embed({**tokens, "input_ids": padding})
    nothing = tf.cast(encoder.encode_embedded(embedded, tokens["attention_mask"]), tf.float32)
    (added,) = integrated_gradients(
        lambda lines: encoder.encode_embedded(lines[0], mask),
        [encoder.embed(tokens)],
        [embedded],
        lambda outputs: constant_towards(items, points),
        points=points,
        one_by_one=True,
        unsourced=unsourced,
    )
    return found.words, tf.matmul(added, found.tokens), tf.linalg.matvec(items, nothing)


def _words(tower: TextTower, texts: tf.Tensor, tokens: dict[str, tf.Tensor]) -> Words:
    """What stands between white space, and how many tokens it is: as many as the word alone."""
    words = tf.strings.split(texts)
    alone = tf.reduce_sum(tower.tokenizer(words.flat_values)["attention_mask"], 1)
    empty = tower.tokenizer(tf.constant([""]))
    special = tf.reduce_sum(empty["attention_mask"])
    lengths = words.with_flat_values(alone - special).to_tensor()
    # Special tokens stand before a text, behind it, or both; a prefix, behind the first.
    first = tf.cast(empty["input_ids"][:, :1] == tokens["input_ids"][:, :1], tf.int32)
    if tower.query_prefix:
        first += tf.reduce_sum(tower.tokenizer(tf.constant([tower.query_prefix]))["attention_mask"]) - special
    ends = first + tf.cumsum(lengths, 1)
    places = tf.range(tf.shape(tokens["input_ids"])[1])[None, :, None]
    inside = (places >= (ends - lengths)[:, None]) & (places < ends[:, None])
    return Words(words.to_tensor(), tf.cast(inside, tf.float32))
