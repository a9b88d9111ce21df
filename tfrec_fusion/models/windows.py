"""Training examples for a model that learns every position of a history at once.

An example carries its user's last `H` items, so that neighbouring examples hold nearly the same history. A
model that learns all positions needs about one example in `H`: the examples whose windows lie side by side
cover every interaction once, for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.losses import confidence

# Examples that are kept in memory at most; a constant, so that memory does not follow the data.
MAX_BYTES = 2**30


class Windows:
    """Chooses, for each epoch, examples whose histories cover each interaction about once.

    A user's last example is always chosen: no other example has its item in a history, unless it is a repeat.
    From there the windows follow each other backwards, the first of them shortened by a random number of
    items in each epoch, so that items do not keep their position in the window.

    Args:
        user_index: integer `[examples]`.
        history: integer `[examples, H]`, left padded with 0, newest last.
        item_index: integer `[examples]`.
    """

    def __init__(self, user_index: np.ndarray, history: np.ndarray, item_index: np.ndarray):
        self.history = history
        self.width = history.shape[1]
        self.num_items = int(max(item_index.max(initial=0), history.max(initial=0))) + 1
        self.user_index = user_index.astype(np.int64)
        own = self._key(self.user_index, item_index)
        previous = self._key(self.user_index, history[:, -1])
        self.last = np.flatnonzero(~np.isin(own, previous))
        # Of a user who went on after every item, the last one too (it repeats an earlier one), nothing tells
        # which example is the last: each begins a window.
        unseen = ~np.isin(self.user_index, self.user_index[self.last])
        self.last = np.concatenate([self.last, np.flatnonzero(unseen)])
        self.order = np.argsort(own, kind="stable")
        self.sorted_keys = own[self.order]

    def select(self, rng: np.random.Generator) -> np.ndarray:
        """Chooses an epoch's examples.

        Args:
            rng: source of the shortened first windows and of the order.

        Returns:
            int64 `[chosen]`, rows of the examples, shuffled.
        """
        chosen = np.zeros(len(self.history), bool)
        chosen[self.last] = True
        positions = rng.integers(0, self.width, len(self.last))
        front = self._examples_of(self.last, positions)
        while len(front):
            front = np.unique(front[~chosen[front]])
            chosen[front] = True
            front = self._examples_of(front, np.zeros(len(front), np.int64))
        return rng.permutation(np.flatnonzero(chosen))

    def _examples_of(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The examples in which the items at the given positions of the rows' histories were chosen."""
        items = self.history[rows, positions]
        keys = self._key(self.user_index[rows], items)
        keys_found = np.minimum(np.searchsorted(self.sorted_keys, keys), len(self.sorted_keys) - 1)
        return self.order[keys_found[(items > 0) & (self.sorted_keys[keys_found] == keys)]]

    def _key(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return users.astype(np.int64) * self.num_items + items


def epochs(train: tf.data.Dataset, batch_size: int, seed: int) -> Callable[[int], tf.data.Dataset]:
    """Makes each epoch of the examples that `Windows` chooses.

    All examples are kept in memory, 4 bytes for each item of each history; where that is more than
    `MAX_BYTES`, each epoch draws from the stream instead, an example with `n` items to learn once in `n`.
    This is as much to learn as every interaction once, but covers users' newest items less: a stream does
    not tell which example is a user's last.

    Args:
        train: batches with `user_index`, `history`, `item_index` and whatever else the model reads.
        batch_size: examples per batch.
        seed: of the choices.

    Returns:
        epoch from 0 → its batches.
    """
    columns: dict[str, list[np.ndarray]] = {}
    size = 0
    for batch in train.as_numpy_iterator():
        for name, values in batch.items():
            columns.setdefault(name, []).append(values)
            size += values.nbytes
        if size > MAX_BYTES:
            return lambda epoch: _thinned(train, batch_size, seed + epoch)
    if not columns:
        raise ValueError("`train` must hold at least one batch. Received: an empty dataset. Check the split.")
    # One column after the other: both forms of all of them would be twice the memory.
    tensors = {name: joined(columns.pop(name)) for name in list(columns)}
    windows = Windows(*(tensors[name].numpy() for name in ("user_index", "history", "item_index")))

    def epoch_of(epoch: int) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(windows.select(np.random.default_rng([seed, epoch])))
        return rows.batch(batch_size).map(
            lambda chosen: {name: tf.gather(tensors[name], chosen) for name in tensors}
        )

    return epoch_of


def target_confidence(batch: Mapping[str, tf.Tensor], all_positions: bool) -> tf.Tensor:
    """How much each of a batch's targets counts (`losses.confidence`).

    Args:
        batch: `history` int32 `[batch, H]`, `item_index` int32 `[batch]`, `weight` float32 `[batch]` and
            perhaps `history_weight` float32 `[batch, H]`, 1 where it is left out.
        all_positions: whether the history's items but the oldest are targets too, row by row before the
            item.

    Returns:
        float32 `[batch]`, or with `all_positions` `[any]`, of targets that are none of the padding.
    """
    counts = confidence(batch["weight"])
    if not all_positions:
        return counts
    earlier = batch.get("history_weight", tf.ones_like(batch["history"], tf.float32))
    counts = tf.concat([confidence(earlier[:, 1:]), counts[:, None]], 1)
    used = tf.concat([batch["history"][:, 1:], batch["item_index"][:, None]], 1) > 0
    return tf.boolean_mask(counts, used)


def joined(parts: list[np.ndarray]) -> tf.Tensor:
    """Batches of one feature end to end, taken out of `parts`; lists of values are padded to the longest."""
    if parts[0].ndim > 1:
        width = max(part.shape[1] for part in parts)
        parts[:] = [
            np.pad(part, [(0, 0), (0, width - part.shape[1])] + [(0, 0)] * (part.ndim - 2))
            if part.shape[1] < width
            else part
            for part in parts
        ]
    whole = np.concatenate(parts)
    # What is not needed any more is let go before the next copy: a history is most of the memory that
    # training takes.
    parts.clear()
    return tf.constant(whole)


def _thinned(train: tf.data.Dataset, batch_size: int, seed: int) -> tf.data.Dataset:
    def keep(index: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        history = batch["history"]
        learned = tf.minimum(tf.reduce_sum(tf.cast(history > 0, tf.int32), 1) + 1, tf.shape(history)[1])
        rate = 1 / tf.cast(tf.maximum(learned, 1), tf.float32)
        draws = tf.random.stateless_uniform(
            tf.shape(batch["item_index"]), tf.stack([tf.cast(seed, tf.int64), index])
        )
        return {name: tf.boolean_mask(values, draws < rate) for name, values in batch.items()}

    return train.enumerate().map(keep).rebatch(batch_size)
