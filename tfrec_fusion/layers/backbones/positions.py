"""Positions in attention: masks, windows, rotations, and buckets of distances."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.backbones.architecture import Architecture, Rope

HIDDEN = -1e9
"""Added to the score of a token that must not be seen; a whole row of them stays finite."""


class Positions(NamedTuple):
    """What a block's attention is given beside the tokens' vectors.

    Attributes:
        bias: float32, broadcast to `[batch, heads, length, length]`: added to scores.
        cos, sin: float32 `[length, head_dim]`, rotations; None without.
        distances: `[2 · length + 1, width]`, DeBERTa's vectors of distances, from `length` tokens behind to
            `length` ahead; None without.
    """

    bias: tf.Tensor
    cos: tf.Tensor | None = None
    sin: tf.Tensor | None = None
    distances: tf.Tensor | None = None


def visibility(mask: tf.Tensor, causal: bool, window: int = 0) -> tf.Tensor:
    """Which tokens see which, as what is added to scores.

    Args:
        mask: int `[batch, length]`, 0 at padding.
        causal: whether tokens behind are hidden.
        window: tokens this far away or further are hidden; 0 for no limit.

    Returns:
        float32 `[batch, 1, length or 1, length]`.
    """
    seen = tf.cast(mask, tf.bool)[:, tf.newaxis, tf.newaxis, :]
    if causal or window:
        place = tf.range(tf.shape(mask)[1])
        ahead = place[tf.newaxis, :] - place[:, tf.newaxis]
        near = tf.abs(ahead) < window if window else tf.ones_like(ahead, tf.bool)
        seen = tf.logical_and(seen, tf.logical_and(near, ahead <= 0) if causal else near)
    return tf.where(seen, 0.0, HIDDEN)


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """How far each pair of dimensions turns from one token to the next.

    Returns:
        float64 `[head_dim / 2]`, radians.

    Raises:
        ValueError: for an unknown kind.

    Reference: for `llama3` https://arxiv.org/abs/2407.21783 and transformers' `modeling_rope_utils`; for
    `ntk` https://arxiv.org/abs/2407.19669 and its model's code.
    """
    exponents = np.arange(0, head_dim, 2) / head_dim
    frequencies = rope.theta**-exponents
    if rope.kind == "default":
        return frequencies
    factor = rope.scaling["factor"]
    if rope.kind == "linear":
        return frequencies / factor
    if rope.kind == "ntk":
        return (rope.theta * factor) ** -exponents / factor ** (2 / head_dim)
    if rope.kind == "llama3":
        low, high = rope.scaling["low_freq_factor"], rope.scaling["high_freq_factor"]
        turns = rope.scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return frequencies * (kept + (1 - kept) / factor)
    raise ValueError(
        "The kind of rotary positions must be default, linear, ntk or llama3. Received: " + repr(rope.kind)
    )


def rotations(rope: Rope, head_dim: int, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines and sines of each position's angles: float32 `[length, head_dim]` each."""
    angles = tf.cast(tf.range(length), tf.float32)[:, tf.newaxis] * tf.constant(
        rope_frequencies(rope, head_dim), tf.float32
    )
    angles = tf.concat([angles, angles], -1)
    return tf.cos(angles), tf.sin(angles)


def rotate(values: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor) -> tf.Tensor:
    """Turns `[..., length, head_dim]` by each position's angles; the halves of a head are its pairs."""
    first, second = tf.split(values, 2, axis=-1)
    turned = tf.concat([-second, first], -1)
    return values * tf.cast(cos, values.dtype) + turned * tf.cast(sin, values.dtype)


def bias_buckets(length: tf.Tensor, buckets: int, farthest: int = 128) -> tf.Tensor:
    """The bucket of each pair's distance: exact when near, logarithmic when far, each direction its own half.

    Args:
        length: tokens.
        buckets: of both directions together.
        farthest: distances from here on share the last bucket.

    Returns:
        int32 `[length, length]`, query by key.

    Reference: Raffel et al., 2020, https://arxiv.org/abs/1910.10683
    """
    ahead = _ahead(length)
    half = buckets // 2
    exact = half // 2
    distance = tf.abs(ahead)
    logarithm = tf.math.log(tf.cast(tf.maximum(distance, 1), tf.float32) / exact)
    far = exact + tf.cast(logarithm / math.log(farthest / exact) * (half - exact), tf.int32)
    bucket = tf.where(distance < exact, distance, tf.minimum(far, half - 1))
    return bucket + tf.where(ahead > 0, half, 0)


def disentangled_distances(length: tf.Tensor, buckets: int, farthest: int) -> tf.Tensor:
    """Rows of DeBERTa's table of distances: exact when near, logarithmic when far.

    Args:
        length: tokens.
        buckets: half of the table's rows.
        farthest: the distance of the last bucket.

    Returns:
        int32 `[2 · length + 1]`, from `length` tokens behind to `length` ahead, in `[0, 2 · buckets)`.

    Reference: He et al., 2021, https://arxiv.org/abs/2111.09543
    """
    behind = tf.range(length, -length - 1, -1)
    middle = buckets // 2
    distance = tf.cast(tf.maximum(tf.abs(behind), middle), tf.float32)
    scale = (middle - 1) / math.log((farthest - 1) / middle)
    far = tf.cast(tf.math.ceil(tf.math.log(distance / middle) * scale), tf.int32) + middle
    near = tf.abs(behind) <= middle
    bucket = tf.where(near, behind, far * tf.sign(behind))
    return tf.clip_by_value(bucket + buckets, 0, 2 * buckets - 1)


def by_pair(scores: tf.Tensor) -> tf.Tensor:
    """Scores by distance as scores of pairs.

    Args:
        scores: `[..., length, 2 · length]`, column `c` for what stands `c - length + 1` places further on.

    Returns:
        `[..., length, length]`, whose entry `i, j` is column `j - i + length - 1` of row `i`. Each row begins
        one column before the one above, so that rows of one column less are read off: nothing is gathered.

    Reference: Dai et al., 2019, https://arxiv.org/abs/1901.02860 (appendix B)
    """
    front, length = tf.shape(scores)[:-2], tf.shape(scores)[-2]
    flat = tf.reshape(scores, tf.concat([front, [2 * length * length]], 0))
    flat = flat[..., length - 1 : length - 1 + length * (2 * length - 1)]
    return tf.reshape(flat, tf.concat([front, [length, 2 * length - 1]], 0))[..., :length]


def _ahead(length: tf.Tensor) -> tf.Tensor:
    place = tf.range(length)
    return place[tf.newaxis, :] - place[:, tf.newaxis]


def of_blocks(
    architecture: Architecture,
    mask: tf.Tensor,
    bias_table: tf.Tensor | None = None,
    distance_table: tf.Tensor | None = None,
) -> tuple[Positions, Positions]:
    """What global and local blocks are given; the same where no block is local.

    Args:
        architecture: the Transformer's.
        mask: int `[batch, length]`, 0 at padding.
        bias_table: `[buckets, heads]` (MPNet).
        distance_table: `[2 · buckets, width]` (DeBERTa).
    """
    length = tf.shape(mask)[1]
    bias = visibility(mask, architecture.causal)
    cos = sin = distances = None
    if bias_table is not None:
        buckets = bias_buckets(length, architecture.relative_buckets)
        learned = tf.transpose(tf.gather(tf.cast(bias_table, tf.float32), buckets), [2, 0, 1])
        bias += learned[tf.newaxis]
    if distance_table is not None:
        rows = disentangled_distances(length, architecture.disentangled_buckets, architecture.max_length)
        distances = tf.gather(tf.convert_to_tensor(distance_table), rows)
    if architecture.rope is not None:
        cos, sin = rotations(architecture.rope, architecture.head_width, length)
    everywhere = Positions(bias, cos, sin, distances)
    if not any(architecture.local_blocks):
        return everywhere, everywhere
    if architecture.local_rope is not None:
        cos, sin = rotations(architecture.local_rope, architecture.head_width, length)
    return everywhere, Positions(visibility(mask, architecture.causal, architecture.window), cos, sin)
