"""Search among what a user chose before, beside the index, where that may be recommended again.

What is added to such an item's score belongs to the user and the item (`models.hybrid.repeats`), so that no
index holds it: the items of the history are left out of the search, scored one by one, and put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.explaining import contains
from tfrec_fusion.models.hybrid.repeats import Repeated

__all__ = ["asked_again", "merged", "usable"]


def asked_again(served: Any, history: Callable[[], tf.Tensor], include_seen: tf.Tensor) -> Repeated | None:
    """The items of histories int32 `[batch, H]` that may come again, and what they get on top; None where
    the model knows no repeats. `include_seen` is the request's."""
    return None if served.repeats is None else served.repeats(history()).only(include_seen)


def usable(
    served: Any,
    again: Repeated,
    excluded: tf.Tensor,
    allow: tf.Tensor,
    categories: tf.Tensor,
    full: tf.Tensor | None,
) -> Repeated:
    """Those of the items that a search may return; arguments as of `RetrievalSignatures.search`."""
    rows = again.rows
    listed = tf.reduce_any(allow != "", 1, keepdims=True)
    named = tf.reduce_any(categories != "", 1, keepdims=True)

    def at_rows(members: tf.Tensor) -> tf.Tensor:
        """bool `[batch, H]` of bool `[batch, items]`, one row of which may stand for all."""
        members = tf.broadcast_to(members, [tf.shape(rows)[0], tf.shape(members)[1]])
        return tf.gather(members, tf.maximum(served.indexed(rows), 0), batch_dims=1)

    wanted = (served.offered(rows) > 0) & ~contains(excluded, rows)
    wanted &= ~listed | contains(served.item_rows(allow), rows)
    wanted &= tf.cond(
        tf.reduce_any(named),
        lambda: ~named | at_rows(served.categories(categories)),
        lambda: tf.ones_like(rows, tf.bool),
    )
    if full is not None:
        wanted &= ~at_rows(served.categories.having(full))
    return again.only(wanted)


def merged(
    served: Any, queries: tf.Tensor, k: tf.Tensor, found: tuple[tf.Tensor, tf.Tensor], again: Repeated
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best of what a search found and of the history's items: scores float32 and items int32
    `[batch, k]`, as of `RetrievalSignatures.search`."""
    own = tf.linalg.matvec(served.list_vectors(again.rows), queries) + again.bonus
    scores = tf.concat([found[0], tf.where(again.rows > 0, own, -np.inf)], 1)
    scores, places = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
    rows = tf.gather(tf.concat([found[1], again.rows], 1), places, batch_dims=1)
    return scores, tf.where(scores > -np.inf, rows, 0)
