"""Choices that a blend's weights are solved on: those of validation, and such as training might have held."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.losses import confidence
from tfrec_fusion.models import windows
from tfrec_fusion.models.baselines import interaction_matrix
from tfrec_fusion.models.two_tower import TwoTower

MOST_READ, MOST_SAMPLED = 100_000, 2000
CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Rows:
    """Choices of validation, most often those that do not repeat what their history holds.

    Attributes:
        batch: what the model takes as queries, by name `[n, ...]`, and `item_index` int32 `[n]`, what was
            chosen.
        weight: float64 `[n]`. A user counts with the root of how much they chose: counted alike, those who
            chose once would drown in noise what the others say, and counted by choice, few would decide for
            all.
        queries: float32 `[n, width]`, as `Blend.query_parts` makes them, once `asked`.
    """

    batch: Mapping[str, np.ndarray]
    weight: np.ndarray
    queries: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @classmethod
    def read(cls, validation: tf.data.Dataset, repeats: bool = False) -> Rows:
        """Reads about `MOST_READ` rows at most; with `repeats` those that repeat their history too."""
        parts: dict[str, list[np.ndarray]] = {}
        count = 0
        for batch in validation.as_numpy_iterator():
            target = batch["item_index"]
            used = (repeats | ~(batch["history"] == target[:, None]).any(1)) & (target > 0)
            for name, values in batch.items():
                parts.setdefault(name, []).append(values[used])
            count += int(used.sum())
            if count >= MOST_READ:
                break
        batch = {name: windows.joined(values).numpy() for name, values in parts.items()}
        # Those who have a history are told apart by it: users whom training never saw have no index of their
        # own.
        _, group, shares = np.unique(batch["history"], axis=0, return_inverse=True, return_counts=True)
        return cls(batch, np.where((batch["history"] > 0).any(1), shares[group.reshape(-1)] ** -0.5, 1.0))

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def target(self) -> np.ndarray:
        """int32 `[n]`."""
        return self.batch["item_index"]

    @property
    def has_history(self) -> np.ndarray:
        """bool `[n]`."""
        return np.asarray((self.batch["history"] > 0).any(1))

    def take(self, selected: np.ndarray) -> Rows:
        """Some of them, by position or by mask."""
        batch = {name: values[selected] for name, values in self.batch.items()}
        return Rows(
            batch, self.weight[selected], self.queries[selected] if len(self.queries) else self.queries
        )

    def forget(self) -> Rows:
        """The same choices by users without history."""
        return Rows({**self.batch, "history": np.zeros_like(self.batch["history"])}, self.weight)

    def choosing(self, items: np.ndarray) -> Rows:
        """As if others had been chosen, of which the history knew nothing: `items` int32 `[n]`."""
        history = np.where(self.batch["history"] == items[:, None], 0, self.batch["history"])
        # Left padded again.
        order = np.argsort(history > 0, axis=1, kind="stable")
        history = np.take_along_axis(history, order, 1)
        return Rows({**self.batch, "history": history, "item_index": items}, self.weight).take(
            history[:, -1] > 0
        )

    def asked(self, model: TwoTower, items: np.ndarray) -> Rows:
        """With `queries` made; `items` float32 `[N + 1, width]`, the catalogue's vectors."""
        vectors = tf.constant(items)
        parts = [np.zeros((0, items.shape[1]), np.float32)]
        for start in range(0, len(self), CHUNK):
            chunk = {name: tf.constant(values[start : start + CHUNK]) for name, values in self.batch.items()}
            parts.append(model.query_parts(chunk, vectors).numpy())
        return dataclasses.replace(self, queries=np.concatenate(parts))


def read_training(
    train: tf.data.Dataset, counts: np.ndarray, rng: np.random.Generator
) -> tuple[scipy.sparse.csr_matrix, Rows]:
    """Who chose what, float32 `[users, items]` (`losses.confidence` of its weight, 1 without), of users who
    are told apart; and a sample of histories with anything else that these users chose, sooner or later."""
    users, items, counted = [], [], []
    parts: dict[str, list[np.ndarray]] = {}
    share = min(1.0, MOST_SAMPLED / max(1, counts.sum()))
    for batch in train.as_numpy_iterator():
        users.append(batch["user_index"])
        items.append(batch["item_index"])
        counted.append(batch.get("weight", np.ones(len(batch["item_index"]), np.float32)))
        drawn = (rng.random(len(batch["item_index"])) < share) & (batch["user_index"] > 0)
        for name, values in batch.items():
            parts.setdefault(name, []).append(values[drawn])
    user, item, weight = np.concatenate(users), np.concatenate(items), np.concatenate(counted)
    user, item, weight = user[user > 0], item[user > 0], weight[user > 0]
    known, rows = np.unique(user, return_inverse=True)
    matrix = interaction_matrix(rows, item, len(known), len(counts), confidence(weight).numpy())

    sample = {name: windows.joined(values).numpy() for name, values in parts.items()}
    _, position, times = np.unique(sample["user_index"], return_inverse=True, return_counts=True)
    sampled = Rows(sample, times[position] ** -0.5).take(rng.permutation(len(position)))
    row = np.searchsorted(known, sampled.batch["user_index"])
    some = matrix.indptr[row] + rng.integers(0, np.diff(matrix.indptr)[row])
    return matrix, sampled.choosing(matrix.indices[some].astype(np.int32))
