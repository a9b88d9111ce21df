"""Term for items that a user chose before, where these may be recommended again.

What somebody plays or buys again is told by how often and how lately they chose it, which no dot product of
a query and an item holds: it belongs to the pair. So it is added to the score of each item of the history
beside the dot product, `s_i + w · f_i`, and the weights `w` are solved on validation (`repeat_fitting`).

For an item chosen `n` times, after whose choices `t_1, …, t_n` stand that many newer ones in the history,
`f` is 1, `ln n`, `-ln(1 + min t)` and the base level of memory `ln sum_j (1 + t_j)^(-1/2)` (Anderson and
Schooler, 1991, https://doi.org/10.1111/j.1467-9280.1991.tb00174.x), which weighs frequency and recency at
once. That repeats are told by recency and frequency: Anderson et al., 2014,
https://doi.org/10.1145/2566486.2568018.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

FEATURES = ("repeated", "frequency", "recency", "base_level")
"""What is weighed, in order."""
FIRST = 100.0  # puts what the baseline repeats before everything else


class Repeated(NamedTuple):
    """The distinct items of histories, each where it was chosen last.

    Attributes:
        rows: int32 `[batch, H]`, the items; 0 for padding and for earlier choices of the same item.
        bonus: float32 `[batch, H]`, what is added to their scores; 0 where `rows` is.
    """

    rows: tf.Tensor
    bonus: tf.Tensor

    def only(self, wanted: tf.Tensor) -> Repeated:
        """The same where bool `wanted` (of a shape that broadcasts) holds."""
        return Repeated(tf.where(wanted, self.rows, 0), tf.where(wanted, self.bonus, 0.0))

    def of(self, candidates: tf.Tensor) -> tf.Tensor:
        """What of the bonus of items int32 `[batch, n]` belongs to which choice: float32 `[batch, n, H]`."""
        same = (candidates[:, :, None] == self.rows[:, None]) & (self.rows[:, None] > 0)
        return tf.where(same, self.bonus[:, None], 0.0)

    def added_to(self, scores: tf.Tensor) -> tf.Tensor:
        """Scores float32 `[batch, items]` of a whole catalogue, with what is added to them; the rows of
        items that stand behind the last column count nothing."""
        rows = tf.where(self.rows < tf.shape(scores)[1], self.rows, 0)
        batch = tf.broadcast_to(tf.range(tf.shape(rows)[0])[:, None], tf.shape(rows))
        bonus = tf.where(rows > 0, self.bonus, 0.0)
        return tf.tensor_scatter_nd_add(scores, tf.stack([batch, rows], -1), bonus)


class Repeats(tf_keras.layers.Layer):
    """What the items of a history get on top of their scores.

    Until it is fitted it adds nothing. With `fixed` weights it is the baseline that repeats
    (`baseline_weights`).

    Args:
        fixed: float `[4]`, of `FEATURES`; None for zeros.

    >>> layer = Repeats(fixed=[1.0, 0.0, 0.0, 0.0])
    >>> layer(tf.constant([[0, 3, 5, 3]])).rows.numpy().tolist()
    [[0, 0, 5, 3]]
    """

    def __init__(self, fixed: np.ndarray | list[float] | None = None, **kwargs: Any):
        super().__init__(**{**kwargs, "trainable": False, "dtype": "float32"})
        self.fixed = None if fixed is None else tuple(float(value) for value in fixed)
        start = np.zeros(len(FEATURES), np.float32) if fixed is None else np.asarray(fixed, np.float32)
        self.solved = self.add_weight(
            "solved", start.shape, initializer=lambda shape, dtype=None, **_: tf.constant(start, dtype)
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "fixed": self.fixed}

    def call(self, history: tf.Tensor) -> Repeated:
        """The items of histories and what is added to their scores.

        Args:
            history: int32 `[batch, H]`, newest last, 0 for padding.

        Returns:
            `Repeated`, `rows` int32 and `bonus` float32 `[batch, H]`.
        """
        values, last = features(history)
        bonus = tf.linalg.matvec(values, tf.convert_to_tensor(self.solved))
        return Repeated(tf.where(last, history, 0), tf.where(last, bonus, 0.0))


def with_repeats(repeats: Repeats | None, history: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores of a whole catalogue, float32 `[batch, items]`, with what `repeats`, where there is such a term,
    adds for histories int32 `[batch, H]`."""
    if repeats is None:
        return scores
    return repeats(tf.constant(history)).added_to(tf.constant(scores, tf.float32)).numpy()


def features(history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What is weighed of each item of a history, as the module's docstring defines it.

    Args:
        history: int32 `[batch, H]`, newest last, 0 for padding.

    Returns:
        float32 `[batch, H, 4]`, the same for all choices of an item, and bool `[batch, H]`: where an item was
        chosen last.
    """
    there = history > 0
    counted = tf.cast(there, tf.float32)
    newer = tf.cumsum(counted, axis=1, reverse=True, exclusive=True)
    items = tf.cast(history, tf.int64)
    batch = tf.range(tf.shape(history, tf.int64)[0])[:, None]
    keys = batch * (tf.reduce_max(tf.concat([tf.reshape(items, [-1]), [0]], 0)) + 1) + items
    unique, which = tf.unique(tf.reshape(keys, [-1]))

    def of_item(values: tf.Tensor, together: Any) -> tf.Tensor:
        """Something of all choices of an item, at each of them."""
        found = together(tf.reshape(values, [-1]), which, tf.size(unique))
        return tf.reshape(tf.gather(found, which), tf.shape(history))

    count = of_item(counted, tf.math.unsorted_segment_sum)
    since = of_item(newer, tf.math.unsorted_segment_min)
    level = of_item(counted * tf.math.rsqrt(1.0 + newer), tf.math.unsorted_segment_sum)
    known = tf.where(there, count, 1.0), tf.where(there, level, 1.0)
    values = [counted, tf.math.log(known[0]), -tf.math.log1p(since) * counted, tf.math.log(known[1])]
    return tf.stack(values, -1), there & (newer == since)


def baseline_weights() -> np.ndarray:
    """Weights with which all that a user chose comes before everything else, by the base level: the baseline
    `repeat`. float32 `[4]`."""
    return np.array([FIRST, 0, 0, 1], np.float32)
