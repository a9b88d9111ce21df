"""What a `Blend` holds: its tables solved from training, its parts weighed on validation.

A part counts as much as the likelihood of what people chose in validation says. The weights are those of a multinomial
logistic regression over the catalogue with one number a part, which is convex, has next to nothing to overfit, and needs
no grid. People with a history and people of whom nothing is known have weights of their own, since what is worth most for
the one says nothing about the other. So have items that training never saw, as multiples of the others': for them, items
that training did see are taken as if it had not, their id hidden and what is predicted of them learned without them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.models import windows
from tfrec_fusion.models.blend_solving import (
    Choices,
    FoldedRidge,
    logistic_weights,
    offset_for_share,
    truncated_ease,
)
from tfrec_fusion.models.tower import TEXT

if TYPE_CHECKING:
    from tfrec_fusion.models.blend import Blend
    from tfrec_fusion.models.two_tower import TwoTower

# Scores weighed at once: validation rows times candidates. Sets the memory that fitting takes, about 40 bytes each.
SCORES = 5_000_000
MOST_ROWS, LEAST_ROWS, ENOUGH_ROWS = 2000, 200, 30
MOST_READ = 100_000
CHUNK = 4096
FOLDS = 5
RIDGES = (1.0, 10.0, 100.0)
NEW_SAMPLE = 1000


@dataclasses.dataclass(frozen=True)
class Rows:
    """Choices of validation that do not repeat what their history holds.

    Attributes:
        batch: what the model takes as queries, by name `[n, ...]`, and `item_index` int32 `[n]`, what was chosen.
        weight: float64 `[n]`. A person counts with the root of how much they chose: counted alike, those who chose once
            would drown in noise what the others say, and counted by choice, few would decide for all.
        queries: float32 `[n, width]`, as `Blend.query_parts` makes them, once `asked`.
    """

    batch: Mapping[str, np.ndarray]
    weight: np.ndarray
    queries: np.ndarray | None = None

    @classmethod
    def read(cls, validation: tf.data.Dataset) -> Rows:
        """Reads about `MOST_READ` rows at most."""
        parts: dict[str, list[np.ndarray]] = {}
        count = 0
        for batch in validation.as_numpy_iterator():
            target = batch["item_index"]
            used = ~(batch["history"] == target[:, None]).any(1) & (target > 0)
            for name, values in batch.items():
                parts.setdefault(name, []).append(values[used])
            count += int(used.sum())
            if count >= MOST_READ:
                break
        batch = {name: windows.joined(values).numpy() for name, values in parts.items()}
        # Those who have a history are told apart by it: people whom training never saw have no index of their own.
        _, person, shares = np.unique(batch["history"], axis=0, return_inverse=True, return_counts=True)
        return cls(batch, np.where((batch["history"] > 0).any(1), shares[person.reshape(-1)] ** -0.5, 1.0))

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def target(self) -> np.ndarray:
        """int32 `[n]`."""
        return self.batch["item_index"]

    @property
    def has_history(self) -> np.ndarray:
        """bool `[n]`."""
        return (self.batch["history"] > 0).any(1)

    def take(self, selected: np.ndarray) -> Rows:
        """Some of them, by place or by mask."""
        batch = {name: values[selected] for name, values in self.batch.items()}
        return Rows(batch, self.weight[selected], None if self.queries is None else self.queries[selected])

    def forget(self) -> Rows:
        """The same choices by people of whom nothing is known."""
        return Rows({**self.batch, "history": np.zeros_like(self.batch["history"])}, self.weight)

    def asked(self, model: TwoTower, items: np.ndarray) -> Rows:
        """With `queries` made; `items` float32 `[N + 1, width]`, the catalogue's vectors."""
        vectors = tf.constant(items)
        parts = [np.zeros((0, items.shape[1]), np.float32)]
        for start in range(0, len(self), CHUNK):
            chunk = {name: tf.constant(values[start : start + CHUNK]) for name, values in self.batch.items()}
            parts.append(model.query_parts(chunk, vectors).numpy())
        return dataclasses.replace(self, queries=np.concatenate(parts))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The known items, or a sample of them, that choices are held against.

    Attributes:
        blend: weighed alike.
        items: sorted item indices `[m]`.
    """

    blend: Blend
    items: np.ndarray

    def choices(self, rows: Rows, vectors: np.ndarray, weights: np.ndarray | None = None) -> Choices:
        """What was chosen among them; their vectors are float32 `[m, width]`, `weights` float `[rows, parts]`."""
        history = rows.batch["history"]
        places = np.minimum(np.searchsorted(self.items, history), len(self.items) - 1)
        row, column = np.nonzero(self.items[places] == history)
        allowed = np.ones((len(rows), len(self.items)), bool)
        allowed[row, places[row, column]] = False
        scores = self.blend.part_scores(rows.queries, vectors)
        return Choices(
            scores if weights is None else scores * weights[:, None].astype(np.float32),
            np.searchsorted(self.items, rows.target),
            allowed,
            rows.weight / rows.weight.sum(),
        )

    def weigh(self, rows: Rows, vectors: np.ndarray) -> np.ndarray:
        """The weights of the parts, float64 `[parts]`."""
        return logistic_weights(self.choices(rows, vectors))[0]


class SideRegression:
    """Factors and popularity of items from what is said about them.

    Args:
        model: with the tables of its blend filled.
        known: the items to learn from.
        rng: of the folds.
    """

    def __init__(self, model: TwoTower, known: np.ndarray, rng: np.random.Generator):
        self.model, self.blend = model, model.blend
        self.known = known
        folds = rng.permutation(len(known)) % FOLDS
        self.fold_of = dict(zip(known.tolist(), folds.tolist(), strict=True))
        self.ridge = FoldedRidge(FOLDS, self.blend.side_dim, self.blend.factors_dim + 1)
        for start in range(0, len(known), CHUNK):
            rows = known[start : start + CHUNK]
            side = self.blend.side(model.item_tower.values(tf.constant(rows, tf.int32))).numpy()
            self.ridge.add(folds[start : start + CHUNK], side, self.blend.learned(rows))

    def use(self, ridge: float, without: int | None = None) -> None:
        """Predicts by what was learned from all items, or from all but one fold."""
        found = self.ridge.solve(ridge, without).astype(np.float32)
        self.blend.side_to_factors.assign(found[:, :-1])
        self.blend.side_to_popularity.assign(found[:, -1:])

    def unseen(self, items: np.ndarray, ridge: float) -> np.ndarray:
        """Vectors of known items as if they were new: float32 `[n, width]`."""
        found = np.zeros((len(items), self.blend.width), np.float32)
        folds = np.array([self.fold_of[item] for item in items.tolist()])
        for fold in range(FOLDS):
            self.use(ridge, without=fold)
            places = np.flatnonzero(folds == fold)
            for start in range(0, len(places), CHUNK):
                some = places[start : start + CHUNK]
                values = self.model.item_tower.values(tf.constant(items[some], tf.int32))
                values["item_index"] = tf.zeros_like(values["item_index"])
                found[some] = self.model.candidate_from_features(values).numpy()
        return found


def fit_blend(
    model: TwoTower, train: tf.data.Dataset, validation: tf.data.Dataset, counts: np.ndarray, seed: int = 0
) -> None:
    """Fills the tables of a two-tower model's blend and weighs its parts.

    Where validation holds fewer than `ENOUGH_ROWS` choices to learn from, the towers alone go on counting.

    Args:
        model: a trained `TwoTower` with a `blend`.
        train: batches with `user_index` and `item_index`.
        validation: batches as the model takes them, with `item_index`.
        counts: int64 `[N + 1]`, training interactions an item.
        seed: of the solver, the folds and the rows that are weighed.
    """
    blend, rng = model.blend, np.random.default_rng(seed)
    known = np.flatnonzero(counts[1:] > 0) + 1
    every = Rows.read(validation)
    seen = np.isin(every.target, known)
    if seen.sum() < ENOUGH_ROWS or len(known) < FOLDS:
        return
    _fill_tables(model, train, counts, known, rng)
    regression = SideRegression(model, known, rng)
    regression.use(RIDGES[0])
    vectors = model.candidate_embeddings().numpy()
    most = max(LEAST_ROWS, min(MOST_ROWS, SCORES // len(known)))
    rows = every.take(np.sort(rng.permutation(np.flatnonzero(seen))[:most])).asked(model, vectors)
    items = known
    if len(known) * len(rows) > SCORES:
        drawn = rng.choice(known, SCORES // len(rows), replace=False)
        items = np.union1d(drawn, rows.target)
    candidates = Candidates(blend, items)

    met, alone = rows.take(rows.has_history), rows.take(~rows.has_history)
    if len(alone) < ENOUGH_ROWS:
        # Hardly anybody without a history: what would have been good for the others, had they had none.
        alone = rows.forget().asked(model, vectors)
    unknown = candidates.weigh(alone, vectors[items])
    weights = candidates.weigh(met if len(met) >= ENOUGH_ROWS else rows, vectors[items])
    by_row = np.where(rows.has_history[:, None], weights, unknown)
    # A new item's weights are a multiple of the others', the same for people with and without a history.
    fits = []
    for ridge in RIDGES:
        unseen = regression.unseen(items, ridge)
        fits.append((*logistic_weights(candidates.choices(rows, unseen, by_row)), ridge, unseen))
    multiple, _, ridge, unseen = min(fits, key=lambda fit: fit[1])
    regression.use(ridge)

    # What is chosen among new items, against what is chosen among the others: one choice more than was seen, half of it
    # of a new item, since nothing is certain.
    new_items = np.setdiff1d(np.arange(1, len(counts)), known)
    if len(new_items):
        sample = rng.permutation(new_items)[:NEW_SAMPLE]
        of_new, number = model.candidate_embeddings(tf.constant(sample, tf.int32)).numpy(), len(new_items)
    else:
        of_new, number = unseen[rng.permutation(len(unseen))[:NEW_SAMPLE]], 1
    old = candidates.choices(rows, vectors[items], by_row)
    old_scores = old.scores.sum(-1)
    old_scores[~old.allowed] = -np.inf
    new_scores = np.einsum("rcp,rp->rc", blend.part_scores(rows.queries, of_new), by_row * multiple)
    offset = offset_for_share(
        new_scores + np.log(number / len(of_new)),
        old_scores + np.log(len(known) / len(items)),
        old.weight,
        (len(every) * every.weight[~seen].sum() / every.weight.sum() + 0.5) / (len(every) + 1),
    )
    blend.weigh(weights, unknown, multiple * weights, offset, vectors[items])


def _fill_tables(
    model: TwoTower, train: tf.data.Dataset, counts: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> None:
    blend = model.blend
    blend.weigh_alike()
    ease = truncated_ease(_interactions(train, len(counts)), blend.factors_dim)
    blend.factors.assign(ease.vectors)
    blend.gain.assign(ease.gain)
    blend.leverage.assign(ease.leverage)
    popularity = np.log1p(counts) - np.log1p(counts[known]).mean()
    blend.popularity.assign(np.where(counts > 0, popularity, 0).astype(np.float32))
    if blend.content_dim:
        sample = np.sort(rng.permutation(known)[:50_000])
        text = tf.cast(model.item_tower.values(tf.constant(sample, tf.int32))[TEXT], tf.float32).numpy()
        mean = text.mean(0)
        _, axes = np.linalg.eigh((text - mean).T @ (text - mean))
        blend.text_mean.assign(mean)
        blend.text_to_content.assign(axes[:, ::-1][:, : blend.content_dim])


def _interactions(train: tf.data.Dataset, num_items: int) -> scipy.sparse.csr_matrix:
    """Who met what, float32 `[people, items]`, of people who are told apart."""
    users, items = [], []
    for batch in train.as_numpy_iterator():
        users.append(batch["user_index"])
        items.append(batch["item_index"])
    user, item = np.concatenate(users), np.concatenate(items)
    user, item = user[user > 0], item[user > 0]
    people, rows = np.unique(user, return_inverse=True)
    ones = np.ones(len(item), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows, item)), shape=(len(people), num_items))
    matrix.data[:] = 1
    return matrix
