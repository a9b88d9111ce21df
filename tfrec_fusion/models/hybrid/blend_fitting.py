"""What a `Blend` holds: its tables solved from training, its parts weighed on validation.

A part counts as much as the likelihood of what people chose in validation says. The weights are those of a
multinomial logistic regression over the catalogue with one number a part, which is convex, has next to
nothing to overfit, and needs no grid. People with a history and people of whom nothing is known have weights
of their own, since what is worth most for the one says nothing about the other. Those of whom nothing is
known all get one list, of which the top is what they see, while likelihood looks at all of it: so popularity
alone is their answer unless the likeliest weights put what was chosen higher. Items that training never saw
have weights as multiples of the others': for them, items that training did see are taken as if it had not,
all that is learned of them predicted by a regression that never saw them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.losses import confidence
from tfrec_fusion.models import windows
from tfrec_fusion.models.baselines import interaction_matrix
from tfrec_fusion.models.hybrid.blend import PARTS
from tfrec_fusion.models.hybrid.blend_solving import (
    Choices,
    FoldedRidge,
    highest,
    logistic_weights,
    offset_for_share,
    truncated_ease,
)
from tfrec_fusion.models.tower import TEXT

if TYPE_CHECKING:
    from tfrec_fusion.models.hybrid.blend import Blend
    from tfrec_fusion.models.two_tower import TwoTower

# Scores weighed at once: validation rows times candidates. Sets the memory that fitting takes, about 40 bytes
# each.
SCORES = 5_000_000
MOST_ROWS, LEAST_ROWS, ENOUGH_ROWS = 2000, 200, 30
MOST_READ = 100_000
CHUNK = 4096
FOLDS = 5
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
# Shares of the likeliest weights, the rest being popularity, for people of whom nothing is known.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NEW_SAMPLE = 1000
# Of the tower in a new item's score, against a known one's, where it has no say: from the vector of a new
# item that was met its embedding must be recoverable.
NEGLIGIBLE = 0.01
# Share of the gain of next choices that the tower must be worth to have a say about new items.
DECISIVE = 0.1


@dataclasses.dataclass(frozen=True)
class Rows:
    """Choices of validation that do not repeat what their history holds.

    Attributes:
        batch: what the model takes as queries, by name `[n, ...]`, and `item_index` int32 `[n]`, what was
            chosen.
        weight: float64 `[n]`. A person counts with the root of how much they chose: counted alike, those who
            chose once would drown in noise what the others say, and counted by choice, few would decide for
            all.
        queries: float32 `[n, width]`, as `Blend.query_parts` makes them, once `asked`.
    """

    batch: Mapping[str, np.ndarray]
    weight: np.ndarray
    queries: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))

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
        # Those who have a history are told apart by it: people whom training never saw have no index of their
        # own.
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
        return np.asarray((self.batch["history"] > 0).any(1))

    def take(self, selected: np.ndarray) -> Rows:
        """Some of them, by place or by mask."""
        batch = {name: values[selected] for name, values in self.batch.items()}
        return Rows(
            batch, self.weight[selected], self.queries[selected] if len(self.queries) else self.queries
        )

    def forget(self) -> Rows:
        """The same choices by people of whom nothing is known."""
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
        """What was chosen among them; their vectors are float32 `[m, width]`, `weights` float `[rows, parts]`
        or `[parts]`."""
        history = rows.batch["history"]
        places = np.minimum(np.searchsorted(self.items, history), len(self.items) - 1)
        row, column = np.nonzero(self.items[places] == history)
        allowed = np.ones((len(rows), len(self.items)), bool)
        allowed[row, places[row, column]] = False
        scores = self.blend.part_scores(rows.queries, vectors)
        return Choices(
            scores if weights is None else scores * np.atleast_2d(weights)[:, None].astype(np.float32),
            np.searchsorted(self.items, rows.target),
            allowed,
            rows.weight / rows.weight.sum(),
        )


class SideRegression:
    """What is learned of items, from what is said about them.

    Args:
        model: what learned it.
        blend: the model's, its tables filled.
        known: sorted indices of the items to learn from.
        counts: int64 `[N + 1]`, training interactions an item.
        rng: of the folds.
    """

    def __init__(
        self, model: TwoTower, blend: Blend, known: np.ndarray, counts: np.ndarray, rng: np.random.Generator
    ):
        self.model, self.blend, self.known = model, blend, known
        self.folds = rng.permutation(len(known)) % FOLDS
        self.ridge = FoldedRidge(FOLDS, self.blend.side_dim, sum(self.blend.predicted_widths))
        shares = counts / counts[known].mean()
        for start in range(0, len(known), CHUNK):
            rows = known[start : start + CHUNK]
            vectors = model.candidate_embeddings(tf.constant(rows, tf.int32)).numpy()
            learned = self.blend.learned(vectors, shares[rows])
            self.ridge.add(self.folds[start : start + CHUNK], self._side(rows), learned)

    def use(self, ridge: float) -> None:
        """Predicts of new items by what was learned from all known ones."""
        self.blend.predictor.assign(self.ridge.solve(ridge).astype(np.float32))
        self.blend.predicts.assign(True)

    def unseen(self, items: np.ndarray, vectors: np.ndarray, ridge: float) -> np.ndarray:
        """Vectors of known items as if they were new, predicted from the others.

        Args:
            items: `[n]`.
            vectors: float32 `[n, width]`, theirs, weighed alike.
            ridge: of the regression.
        """
        predicted = np.zeros((len(items), sum(self.blend.predicted_widths)), np.float32)
        folds = self.folds[np.searchsorted(self.known, items)]
        solved = np.stack([self.ridge.solve(ridge, without=fold) for fold in range(FOLDS)]).astype(np.float32)
        for start in range(0, len(items), CHUNK):
            side, fold = self._side(items[start : start + CHUNK]), folds[start : start + CHUNK]
            for one in np.unique(fold):
                predicted[start + np.flatnonzero(fold == one)] = side[fold == one] @ solved[one]
        return self.blend.as_if_new(vectors, predicted)

    def _side(self, items: np.ndarray) -> np.ndarray:
        return self.blend.side(self.model.item_tower.values(tf.constant(items, tf.int32))).numpy()


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
    if model.blend is None:
        raise ValueError(
            "`model` must have a blend to fit. Received: None. Build it with `collaborative_dim` above 0."
        )
    blend, rng = model.blend, np.random.default_rng(seed)
    known = np.flatnonzero(counts[1:] > 0) + 1
    every = Rows.read(validation)
    seen = np.isin(every.target, known)
    if seen.sum() < ENOUGH_ROWS or len(known) < FOLDS:
        return
    histories = _fill_tables(model, blend, train, counts, known, rng)
    regression = SideRegression(model, blend, known, counts, rng)
    regression.use(RIDGES[0])
    vectors = model.candidate_embeddings().numpy()
    most = max(LEAST_ROWS, min(MOST_ROWS, SCORES // len(known)))

    def some_of(rows: np.ndarray) -> Rows:
        return every.take(np.sort(rng.permutation(np.flatnonzero(seen & rows))[:most])).asked(model, vectors)

    met, alone = some_of(every.has_history), some_of(~every.has_history)
    earlier = histories.take(np.arange(len(histories)) < most).asked(model, vectors)
    if len(met) < ENOUGH_ROWS:
        met = some_of(seen)
    if len(alone) < ENOUGH_ROWS:
        # Hardly anybody without a history: what would have been good for the others, had they had none.
        alone = met.forget().asked(model, vectors)
    items = known
    if len(known) * max(len(met), len(alone)) > SCORES:
        drawn = rng.choice(known, SCORES // max(len(met), len(alone)), replace=False)
        items = np.unique(np.concatenate([drawn, *(some.target for some in (met, alone, earlier))]))
    candidates, of_items = Candidates(blend, items), vectors[items]

    weights = logistic_weights(candidates.choices(met, of_items))[0]
    of_unknown = candidates.choices(alone, of_items)
    unknown = highest(of_unknown, logistic_weights(of_unknown)[0], PARTS.index("popularity"), SHARES)
    # A new item's weights are a multiple of the others'. New items are chosen for a while and not only next,
    # so that half of what says how much is what people chose at any time. Of that the tower has learned by
    # heart the very choices that it would be judged on, so that likelihood trusts it too much: it has no say,
    # unless the next choices, which it has not seen, would stand lower by more than `DECISIVE` without it.
    fits, tower = [], PARTS.index("tower")
    for ridge in RIDGES:
        unseen = regression.unseen(items, of_items, ridge)
        following = candidates.choices(met, unseen, weights)
        choices = following
        if len(earlier) >= ENOUGH_ROWS:
            choices = following.beside(candidates.choices(earlier, unseen, weights))
        multiple, loss = logistic_weights(choices)
        without = np.insert(logistic_weights(choices.without(tower))[0], tower, NEGLIGIBLE)
        gained, left = (following.weight @ following.gains(each) for each in (multiple, without))
        fits.append((without if left > (1 - DECISIVE) * gained else multiple, loss, ridge, unseen))
    multiple, _, ridge, unseen = min(fits, key=lambda fit: fit[1])
    regression.use(ridge)
    new_weights = {"unknown": unknown * multiple, "known": weights * multiple}
    # Those of whom nothing is known go by popularity alone, which is to say more of them than a multiple for
    # others can tell.
    popularity = PARTS.index("popularity")
    foretold = candidates.choices(alone, unseen).only(popularity)
    new_weights["unknown"][popularity] = logistic_weights(foretold)[0][0]

    new_items = np.setdiff1d(np.arange(1, len(counts)), known)
    if len(new_items):
        sample = rng.permutation(new_items)[:NEW_SAMPLE]
        of_new, number = model.candidate_embeddings(tf.constant(sample, tf.int32)).numpy(), len(new_items)
    else:
        of_new, number = unseen[rng.permutation(len(unseen))[:NEW_SAMPLE]], 1

    def offset(some: Rows, by_part: np.ndarray, of_new_items: np.ndarray, group: np.ndarray) -> float:
        """So that new items get the share of choices that they got: of one more than was seen, half of it a
        new item's, since nothing is certain."""
        old = candidates.choices(some, of_items, by_part)
        old_scores = old.scores.sum(-1)
        old_scores[~old.allowed] = -np.inf
        new_scores = blend.part_scores(some.queries, of_new) @ of_new_items.astype(np.float32)
        if group.sum() < ENOUGH_ROWS:
            group = np.ones_like(group)
        share = np.average(~seen[group], weights=every.weight[group])
        return offset_for_share(
            new_scores + np.log(number / len(of_new)),
            old_scores + np.log(len(known) / len(items)),
            old.weight,
            (group.sum() * share + 0.5) / (group.sum() + 1),
        )

    offsets = (
        offset(alone, unknown, new_weights["unknown"], ~every.has_history),
        offset(met, weights, new_weights["known"], every.has_history),
    )
    blend.weigh(weights, unknown, new_weights["known"], new_weights["unknown"][popularity], offsets, of_items)


def _fill_tables(
    model: TwoTower,
    blend: Blend,
    train: tf.data.Dataset,
    counts: np.ndarray,
    known: np.ndarray,
    rng: np.random.Generator,
) -> Rows:
    """Returns choices as they might have been in training (`_read_training`)."""
    blend.weigh_alike()
    interactions, histories = _read_training(train, counts, rng)
    ease = truncated_ease(interactions, blend.factors_dim)
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
    return histories


def _read_training(
    train: tf.data.Dataset, counts: np.ndarray, rng: np.random.Generator
) -> tuple[scipy.sparse.csr_matrix, Rows]:
    """Who met what, float32 `[people, items]` (`losses.confidence` of its weight, 1 without), of people who
    are told apart; and a sample of histories with anything else that their people chose, sooner or later."""
    users, items, counted = [], [], []
    parts: dict[str, list[np.ndarray]] = {}
    share = min(1.0, MOST_ROWS / max(1, counts.sum()))
    for batch in train.as_numpy_iterator():
        users.append(batch["user_index"])
        items.append(batch["item_index"])
        counted.append(batch.get("weight", np.ones(len(batch["item_index"]), np.float32)))
        drawn = (rng.random(len(batch["item_index"])) < share) & (batch["user_index"] > 0)
        for name, values in batch.items():
            parts.setdefault(name, []).append(values[drawn])
    user, item, weight = np.concatenate(users), np.concatenate(items), np.concatenate(counted)
    user, item, weight = user[user > 0], item[user > 0], weight[user > 0]
    people, rows = np.unique(user, return_inverse=True)
    matrix = interaction_matrix(rows, item, len(people), len(counts), confidence(weight).numpy())

    sample = {name: windows.joined(values).numpy() for name, values in parts.items()}
    _, place, times = np.unique(sample["user_index"], return_inverse=True, return_counts=True)
    sampled = Rows(sample, times[place] ** -0.5).take(rng.permutation(len(place)))
    row = np.searchsorted(people, sampled.batch["user_index"])
    some = matrix.indptr[row] + rng.integers(0, np.diff(matrix.indptr)[row])
    return matrix, sampled.choosing(matrix.indices[some].astype(np.int32))
