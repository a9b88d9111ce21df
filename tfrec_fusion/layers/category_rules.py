"""Rules on the categories of a list: at most so many items of each, and a mixture like the history's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.greedy import State

SMOOTHING = 0.01
UNLIMITED = 2**31 - 1


class CategoryRules(NamedTuple):
    """What a list may hold of each category, and how it should be mixed. Categories count from 1; 0 is
    padding.

    **Limits.** An item is picked while each of its categories has room; one without a category is never
    limited.

    **Calibration** (Steck, 2018): with `p` the target distribution and `q` that of a list, in which an item
    of `m` categories counts `1 / m` to each, the value of a list `I` is

        (1 - c) sum_{i in I} value_i  -  c KL(p || (1 - a) q + a p),    KL = sum_g p_g log(p_g / q'_g)

    with `a` = 0.01. The paper's items weigh by their rank in `q`, if asked; here all weigh the same. Where no
    target is known, and for a list without categories, order is by value.

    Attributes:
        of_items: int32 `[batch, N, any]`, each candidate's categories, each once.
        limits: int32 `[batch, C + 1]`, how many items of each category at most, from 0; `UNLIMITED` for as
            many as there are. Column 0 is not looked at.
        target: float32 `[batch, C + 1]`, shares of categories, each row of sum 1, or all 0 where nothing is
            known. Only categories with a share count for the divergence.
        counted: bool `[C + 1]`, the categories that a mixture counts; limits hold for all.
        weight: float32 `[]` or `[batch]`, c from 0 to 1.

    Reference: Steck, 2018, https://doi.org/10.1145/3240323.3240372
    """

    of_items: tf.Tensor
    limits: tf.Tensor
    target: tf.Tensor
    counted: tf.Tensor
    weight: tf.Tensor


class Limits:
    """Minus infinity for candidates of a category that is full."""

    def __init__(self, rules: CategoryRules):
        self.of_items = with_padding(rules.of_items)
        unlimited = tf.fill([tf.shape(rules.limits)[0], 1], UNLIMITED)
        self.limits = tf.concat([unlimited, rules.limits[:, 1:]], 1)

    def start(self, steps: tf.Tensor | int) -> State:
        return (tf.zeros_like(self.limits),)

    def value(self, counts: tf.Tensor) -> tf.Tensor:
        room = tf.where(counts < self.limits, 0.0, -np.inf)
        return tf.reduce_min(tf.gather(room, self.of_items, batch_dims=1), 2)

    def picked(self, at: tf.Tensor, step: tf.Tensor, counts: tf.Tensor) -> State:
        own = tf.gather_nd(self.of_items, at)
        return (add_at(counts, own, tf.ones_like(own)),)


class Calibration:
    """`-c KL` of the list with each candidate in it, up to a constant of each row."""

    def __init__(self, rules: CategoryRules):
        self.of_items, self.target = with_padding(rules.of_items), rules.target
        self.weight = per_row(rules.weight, rules.target)
        self.share, self.number = shares(self.of_items, rules.counted)
        self.wanted = tf.gather(rules.target, self.of_items, batch_dims=1)

    def start(self, steps: tf.Tensor | int) -> State:
        return tf.zeros_like(self.target), tf.zeros_like(self.weight)

    def value(self, sums: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        with_one = self.logarithms(sums, self.target, count + 1.0)
        same = tf.reduce_sum(
            self.target * self.logarithms(sums, self.target, tf.maximum(count, 1.0)), 1, keepdims=True
        )
        more = tf.reduce_sum(self.target * with_one, 1, keepdims=True)
        # Of the categories of a candidate alone the share grows.
        grown = tf.gather(sums, self.of_items, batch_dims=1) + self.share
        grown = self.logarithms(grown, self.wanted, (count + 1.0)[..., tf.newaxis])
        change = self.wanted * (grown - tf.gather(with_one, self.of_items, batch_dims=1))
        return self.weight * tf.where(self.number > 0, more + tf.reduce_sum(change, 2), same)

    def picked(self, at: tf.Tensor, step: tf.Tensor, sums: tf.Tensor, count: tf.Tensor) -> State:
        own, share = tf.gather_nd(self.of_items, at), tf.gather_nd(self.share, at)
        counted = tf.cast(tf.gather_nd(self.number, at) > 0, tf.float32)
        return add_at(sums, own, share), count + counted[:, tf.newaxis]

    @staticmethod
    def logarithms(sums: tf.Tensor, target: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """`log((1 - a) sums / count + a target)`; 0 where the target has no share, which counts nothing."""
        smoothed = (1 - SMOOTHING) * sums / count + SMOOTHING * target
        return tf.math.log(tf.where(target > 0, smoothed, 1.0))


def with_padding(of_items: tf.Tensor) -> tf.Tensor:
    """The same with a column of padding more: TensorFlow takes no row of nothing, where no item has a
    category."""
    return tf.pad(of_items, [[0, 0], [0, 0], [0, 1]])


def shares(categories: tf.Tensor, counted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What an item counts to each of its categories, float32 of `categories`' shape, and how many of them
    count, float32 without the last axis."""
    counts = tf.cast(tf.gather(counted, categories) & (categories > 0), tf.float32)
    number = tf.reduce_sum(counts, -1)
    return tf.math.divide_no_nan(counts, number[..., tf.newaxis]), number


def distribution(categories: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Shares of categories among items: `p` and `q` of Steck, 2018.

    Args:
        categories: int32 `[batch, H, any]`, of each item, 0 for padding.
        counted: bool `[C + 1]`, which categories count.

    Returns:
        float32 `[batch, C + 1]`, of sum 1, or all 0 where no item has a category that counts.
    """
    batch, width = tf.shape(categories)[0], tf.reduce_prod(tf.shape(categories)[1:])
    share, _ = shares(categories, counted)
    sums = add_at(
        tf.zeros([batch, tf.shape(counted)[0]]),
        tf.reshape(categories, [batch, width]),
        tf.reshape(share, [batch, width]),
    )
    return tf.math.divide_no_nan(sums, tf.reduce_sum(sums, 1, keepdims=True))


def add_at(values: tf.Tensor, columns: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
    """`values` `[batch, n]` with `more` `[batch, any]` added at `columns` int32 `[batch, any]`."""
    rows = tf.broadcast_to(tf.range(tf.shape(columns)[0])[:, tf.newaxis], tf.shape(columns))
    return tf.tensor_scatter_nd_add(values, tf.stack([rows, columns], 2), more)


def per_row(value: tf.Tensor | float, like: tf.Tensor) -> tf.Tensor:
    """float32 `[batch, 1]` in [0, 1] of a weight `[]` or `[batch]`."""
    value = tf.clip_by_value(tf.cast(value, tf.float32), 0.0, 1.0)
    return tf.broadcast_to(value, tf.shape(like)[:1])[:, tf.newaxis]
