"""Filter of the items that a request allows: listed by id, of some categories, or both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf


class CategoryFilter(tf.Module):
    """Items by the names of their categories, as an inverted list: a request reads only the items it allows.

    Args:
        members: category name → the items that have it, int `[any]`; items are numbered from 0.
        num_items: how many items there are.
    """

    def __init__(self, members: Mapping[str, np.ndarray], num_items: int):
        super().__init__()
        self.num_items = num_items
        names = sorted(members)
        self.names = tf.Variable(tf.constant(names, tf.string), trainable=False, name="category_names")
        # A table needs one entry; nobody sends this key. Category 0 is the one that nothing belongs to.
        entries = (names or ["\x00"], np.arange(1, len(names) + 1, dtype=np.int32) if names else [0])
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(entries[0]), tf.constant(entries[1], tf.int32)),
            0,
        )
        lists = [np.zeros(0, np.int32), *(np.unique(members[name]).astype(np.int32) for name in names)]
        splits = np.cumsum([0, *map(len, lists)]).astype(np.int64)
        self.items = tf.Variable(np.concatenate(lists), trainable=False, name="category_items")
        self.splits = tf.Variable(splits, trainable=False, name="category_splits")

    def rows(self, categories: tf.Tensor) -> tf.Tensor:
        """int32 of `categories`' shape: the number of each category, 0 for a name that no item has."""
        return self.table.lookup(categories)

    def __call__(self, categories: tf.Tensor) -> tf.Tensor:
        """Which items have at least one of the categories.

        Args:
            categories: string `[batch, any]`, `""` for padding; unknown names have no items.

        Returns:
            bool `[batch, num_items]`.
        """
        return self.having(self.rows(categories))

    def having(self, numbers: tf.Tensor) -> tf.Tensor:
        """As a call, by the categories' numbers: int32 `[batch, any]`, 0 for padding."""
        starts, ends = tf.gather(self.splits, numbers), tf.gather(self.splits, numbers + 1)
        items = tf.ragged.range(tf.reshape(starts, [-1]), tf.reshape(ends, [-1]))
        per_query = tf.reduce_sum(ends - starts, axis=1)
        batch = tf.shape(numbers)[0]
        queries = tf.repeat(tf.range(batch), tf.cast(per_query, tf.int32))
        return _mask(queries, tf.gather(self.items, items.flat_values), batch, self.num_items)


def listed(items: tf.Tensor, num_items: int) -> tf.Tensor:
    """Which items are listed.

    Args:
        items: int32 `[batch, any]`, items numbered from 0; -1 for padding.
        num_items: how many items there are.

    Returns:
        bool `[batch, num_items]`.
    """
    positions = tf.where(items >= 0)
    return _mask(
        tf.cast(positions[:, 0], tf.int32), tf.gather_nd(items, positions), tf.shape(items)[0], num_items
    )


def allowed(items: tf.Tensor, requested: tf.Tensor, categories: tf.Tensor, find: CategoryFilter) -> tf.Tensor:
    """The items that each request allows: those listed, where it lists any, that have one of its categories,
    where it names any.

    Args:
        items: int32 `[batch, any]`, the listed items, -1 for ids that are unknown or padding.
        requested: string `[batch, any]`, the ids as they were sent, `""` for padding: a list of unknown ids
            allows nothing.
        categories: string `[batch, any]`, `""` for padding.
        find: the items of a category.

    Returns:
        bool `[batch, num_items]`.
    """
    by_id = listed(items, find.num_items) | ~tf.reduce_any(requested != "", 1, keepdims=True)
    by_category = find(categories) | ~tf.reduce_any(categories != "", 1, keepdims=True)
    return by_id & by_category


def _mask(queries: tf.Tensor, items: tf.Tensor, batch: tf.Tensor, num_items: int) -> tf.Tensor:
    """True at the pairs of int32 `queries` and `items`; bool `[batch, num_items]`."""
    positions = tf.stack([queries, items], 1)
    return tf.scatter_nd(positions, tf.ones_like(queries), tf.stack([batch, num_items])) > 0
