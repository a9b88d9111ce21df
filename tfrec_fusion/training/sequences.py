"""Every user's choices in order, of all splits: what a model is refitted to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.losses import confidence
from tfrec_fusion.models.baselines import interaction_matrix
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.models.windows import joined

__all__ = ["Sequences"]


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Every user's items in order: each item once, where it was chosen first, or all choices of the history
    that profiles hold, where choices may repeat.

    Attributes:
        items: int32 `[n]`, one user after the other.
        splits: int64 `[users + 1]`, where each user's items start.
        columns: per item what models read beside items, `[n, ...]`: `user_index` int32, user and context
            features and, where choices have weights, `weight` float32.
    """

    items: np.ndarray
    splits: np.ndarray
    columns: Mapping[str, np.ndarray]

    @classmethod
    def read(
        cls,
        profiles: Profiles,
        context: Iterable[str],
        batches: Iterable[Mapping[str, tf.Tensor]],
        with_dislikes: bool = False,
        repeats: bool = False,
    ) -> Sequences:
        """Reads what profiles hold, and beside it what rows alone tell.

        Args:
            profiles: users with all that they chose, in order.
            context: features of rows that users do not have.
            batches: choices of all splits. Where choices have weights or a context, each is looked up by user
                and item; users whom training never saw share an index, and so their contexts.
            with_dislikes: whether profiles may hold what users disliked, which is left out: what stands
                neither in a user's history nor, where that is full, among the choices of `batches`.
            repeats: whether an item that was chosen again stands there again.
        """
        # In an order of their own: a run reads users in another one each time.
        users = np.argsort(profiles.ids, kind="stable")
        wanted = tuple(context)
        parts: dict[str, list[np.ndarray]] = {}
        for batch in batches:
            carried = [*wanted, *(["weight"] if "weight" in batch else [])]
            if not carried and not with_dislikes:
                break
            for name in (*carried, "user_index", "item_index"):
                parts.setdefault(name, []).append(np.asarray(batch[name]))
        seen, lengths = profiles.seen_items, np.diff(profiles.seen_splits)
        if repeats:
            seen, lengths = profiles.history_items, np.diff(profiles.history_splits)
        elif with_dislikes:
            chosen = _chosen(profiles, parts)
            lengths = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[chosen], minlength=len(lengths))
            seen = seen[chosen]
        starts, lengths = (np.cumsum(lengths) - lengths)[users], lengths[users]
        splits = np.concatenate([[0], np.cumsum(lengths)])
        owner = np.repeat(users, lengths)
        within = np.arange(splits[-1]) - np.repeat(splits[:-1], lengths)
        items = seen[np.repeat(starts, lengths) + within]
        columns = {name: values[owner] for name, values in profiles.features.items()}
        if parts:
            rows = {name: joined(values).numpy() for name, values in parts.items()}
            keys = _key(rows.pop("user_index"), rows.pop("item_index"))
            order = np.argsort(keys, kind="stable")
            position = np.searchsorted(keys[order], _key(columns["user_index"], items))
            row = order[np.minimum(position, len(order) - 1)]
            columns |= {name: values[row] for name, values in rows.items()}
        return cls(items, splits, columns)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def owner(self) -> np.ndarray:
        """int64 `[n]`, whose each item is."""
        return np.repeat(np.arange(len(self.splits) - 1), np.diff(self.splits))

    def counts(self, num_items: int) -> np.ndarray:
        """int64 `[num_items]`: how many users chose each item, or how often they did."""
        return np.bincount(self.items, minlength=num_items).astype(np.int64)

    def matrix(self, num_items: int) -> scipy.sparse.csr_matrix:
        """float32 `[users, num_items]`: `losses.confidence` of what was chosen."""
        weight = self.columns.get("weight", np.ones(len(self), np.float32))
        users = len(self.splits) - 1
        return interaction_matrix(self.owner, self.items, users, num_items, confidence(weight).numpy())

    def windows(self, width: int, batch_size: int, seed: int) -> Callable[[int], tf.data.Dataset]:
        """Examples whose histories cover every item of every user about once, as `models.windows` does.

        Args:
            width: items of a history.
            batch_size: examples a batch.
            seed: of where windows begin, and of their order.

        Returns:
            epoch from 0 → its batches.
        """
        first = tf.constant(self.splits[:-1][self.owner])
        items = tf.constant(self.items)
        columns = {name: tf.constant(values) for name, values in self.columns.items()}
        back = tf.range(width, 0, -1, tf.int64)

        def examples(rows: tf.Tensor) -> dict[str, tf.Tensor]:
            batch = {name: tf.gather(values, rows) for name, values in columns.items()}
            positions = rows[:, None] - back
            known = positions >= tf.gather(first, rows)[:, None]
            positions = tf.maximum(positions, 0)
            batch["item_index"] = tf.gather(items, rows)
            batch["history"] = tf.where(known, tf.gather(items, positions), 0)
            if "weight" in batch:
                batch["history_weight"] = tf.where(known, tf.gather(columns["weight"], positions), 0.0)
            return batch

        def epoch_of(epoch: int) -> tf.data.Dataset:
            rng = np.random.default_rng([seed, epoch])
            rows = tf.data.Dataset.from_tensor_slices(rng.permutation(self._ends(width, rng)))
            return rows.batch(batch_size).map(examples)

        return epoch_of

    def _ends(self, width: int, rng: np.random.Generator) -> np.ndarray:
        """Rows with which windows end: each user's last, and from there backwards."""
        users = np.flatnonzero(np.diff(self.splits))
        start, end = self.splits[users], self.splits[users + 1] - 1
        chosen, step = [end], rng.integers(1, width + 1, len(users))
        while len(end):
            end = end - step
            inside = end >= start
            end, start = end[inside], start[inside]
            chosen.append(end)
            step = np.full(len(end), width)
        return np.concatenate(chosen)


def _chosen(profiles: Profiles, parts: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    """bool `[S]`: which of the items that profiles hold were chosen, and not disliked alone."""
    rows = np.arange(len(profiles.ids))
    kept, met = np.diff(profiles.history_splits), np.diff(profiles.seen_splits)
    owner = np.repeat(rows, met)
    history = _key(np.repeat(rows, kept), profiles.history_items)
    chosen = np.isin(_key(owner, profiles.seen_items), history)
    if parts:
        pairs = _key(*(np.concatenate(parts[name]) for name in ("user_index", "item_index")))
        found = np.isin(_key(profiles.features["user_index"][owner], profiles.seen_items), pairs)
        chosen |= found & (kept >= profiles.history_length)[owner]
    return chosen


def _key(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return users.astype(np.int64) << 32 | items.astype(np.int64)
