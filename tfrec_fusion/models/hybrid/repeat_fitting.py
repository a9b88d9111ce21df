"""Estimator of a `Repeats` term: its weights solved on what users chose in validation, repeats included.

The weights are those of a multinomial logistic regression over the catalogue,
`P(i) ~ exp(a s_i + w · f_i)`, where `s_i` is the model's score as it is served and `f_i` is 0 for an item
that the history does not hold. It has five numbers and is convex. Of the term only as much is kept as puts
what was chosen higher: all of it, the same bonus for every repeat, or nothing; and where that is higher
still, all that the history holds comes first, in the term's order or in that of the baseline that repeats
(`repeats.baseline_weights`), so that the whole is not worse than that, as far as validation can tell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize
import tensorflow as tf

from tfrec_fusion.metrics.ranks import gain
from tfrec_fusion.models.hybrid.blend_rows import Rows
from tfrec_fusion.models.hybrid.repeats import FEATURES, baseline_weights, features
from tfrec_fusion.models.two_tower import TwoTower

SCORES, MOST_ROWS, LEAST_ROWS, ENOUGH_ROWS = 2_000_000, 1000, 200, 30
KEPT = ((), (0,), tuple(range(len(FEATURES))))
"""Which features may be weighed, the fewest first."""
RIDGE = 1e-4
LARGEST = 50.0  # of a weight, in nats


@dataclasses.dataclass(frozen=True)
class Competition:
    """What was chosen against everything that might have been, by the model's scores.

    Attributes:
        others: float32 `[rows, m]`, scores of items that the history does not hold; minus infinity else.
        again: float32 `[rows, H]`, scores of the history's items where they were chosen last; minus infinity
            else.
        values: float32 `[rows, H, features]`.
        target: float32 `[rows]`, the score of what was chosen.
        position: integer `[rows]`, where the history holds it; -1 where it does not.
        weight: float64 `[rows]`, sums to 1.
        share: how many items each of `others` stands for.
    """

    others: np.ndarray
    again: np.ndarray
    values: np.ndarray
    target: np.ndarray
    position: np.ndarray
    weight: np.ndarray
    share: float

    @property
    def repeated(self) -> np.ndarray:
        """bool `[rows]`, whether what was chosen repeats the history."""
        return self.position >= 0

    def own(self) -> np.ndarray:
        """Features of what was chosen, float32 `[rows, features]`; 0 for what the history does not hold."""
        rows = np.arange(len(self.position))
        return np.where(self.repeated[:, None], self.values[rows, self.position], 0)

    def weights(self, kept: tuple[int, ...]) -> np.ndarray:
        """The likeliest weights of some features beside the scores, in the scores' unit: float64
        `[features]`, 0 for the others."""
        result = np.zeros(self.values.shape[2])
        if not kept:
            return result
        values, own = self.values[..., kept], self.own()[:, kept]
        finite = self.others[np.isfinite(self.others)]
        unit = max(float(finite.std()) if len(finite) else 1.0, 1e-6)

        def loss(given: np.ndarray) -> tuple[float, np.ndarray]:
            scale, weights = given[0] / unit, given[1:]
            left = scale * self.others + np.log(self.share)
            right = scale * self.again + values @ weights.astype(np.float32)
            right = np.where(np.isfinite(self.again), right, -np.inf)
            highest = np.maximum(left.max(1), right.max(1))[:, None]
            shares = np.exp(left - highest), np.exp(right - highest)
            total = shares[0].sum(1) + shares[1].sum(1)
            chosen = scale * self.target + own @ weights
            expected = sum(
                (part * np.where(np.isfinite(scores), scores, 0)).sum(1)
                for part, scores in zip(shares, (self.others, self.again), strict=True)
            )
            of_scale = self.weight @ (expected / total - self.target) / unit
            of_weights = self.weight @ (np.einsum("rh,rhf->rf", shares[1], values) / total[:, None] - own)
            value = self.weight @ (np.log(total) + highest[:, 0] - chosen) + RIDGE * given @ given
            return float(value), np.append(of_scale, of_weights) + 2 * RIDGE * given

        bounds = [(0.02, LARGEST), *[(-LARGEST, LARGEST)] * len(kept)]
        start = np.append(1.0, np.zeros(len(kept)))
        found = scipy.optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
        )
        result[list(kept)] = found.x[1:] * unit / found.x[0]
        return result

    def first(self, weights: np.ndarray) -> np.ndarray:
        """The same weights with a bonus for every repeat by which it comes before all that is new."""
        alike = weights * (np.arange(len(weights)) > 0)
        again = (self.again + self.values @ alike)[np.isfinite(self.again)]
        others = self.others[np.isfinite(self.others)]
        if len(again) and len(others):
            alike[0] = max(0.0, float(others.max() - again.min()))
        return alike

    def gains(self, weights: np.ndarray) -> np.ndarray:
        """`metrics.ranks.gain` of what was chosen: float64 `[rows]`."""
        own = self.target + self.own() @ weights
        again = self.again + self.values @ weights
        before = (self.others > own[:, None]).sum(1) * self.share + (again > own[:, None] + 1e-6).sum(1)
        return gain(1 + before)


class RepeatEstimator:
    """Solves the `repeats` of a two-tower model.

    Where validation holds fewer than `ENOUGH_ROWS` choices by users with a history, nothing is added.

    Args:
        seed: of the rows and items that are drawn.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, model: TwoTower, validation: tf.data.Dataset) -> RepeatEstimator:
        """Solves and weighs.

        Args:
            model: trained, with its blend weighed, and `repeats`.
            validation: batches as the model takes them, with `item_index`.

        Raises:
            ValueError: if the model has no repeats.
        """
        if model.repeats is None:
            raise ValueError(
                "`model` must have a term for repeats to fit. Received: None. Build it for a feature space"
                " with `repeats`."
            )
        rng = np.random.default_rng(self.seed)
        known = np.flatnonzero(model.counts[1:] > 0) + 1
        rows = Rows.read(validation, repeats=True)
        rows = rows.take(rows.has_history & np.isin(rows.target, known))
        if len(rows) < ENOUGH_ROWS:
            return self
        data = compete(model, rows, known, rng)
        tried = [data.weights(kept) for kept in KEPT]
        tried += [data.first(tried[-1]), data.first(baseline_weights().astype(np.float64))]
        reached = [float(data.weight @ data.gains(weights)) for weights in tried]
        model.repeats.solved.assign(tried[int(np.argmax(reached))].astype(np.float32))
        return self


def compete(model: TwoTower, rows: Rows, known: np.ndarray, rng: np.random.Generator) -> Competition:
    """What some choices were made among.

    Args:
        model: as it is served, but for its repeats.
        rows: choices of known items by users with a history.
        known: sorted indices of the items that training saw.
        rng: of the draws.
    """
    most = max(LEAST_ROWS, min(MOST_ROWS, SCORES // len(known)))
    rows = rows.take(np.sort(rng.permutation(len(rows))[:most]))
    items = known
    if len(known) * len(rows) > SCORES:
        items = np.sort(rng.choice(known, SCORES // len(rows), replace=False))
    vectors = tf.constant(model.candidate_embeddings())
    queries = model.query_embeddings({name: tf.constant(values) for name, values in rows.batch.items()},
                                     items=vectors).numpy()  # fmt: skip
    vectors, history = vectors.numpy(), rows.batch["history"]
    others = queries @ vectors[items].T
    places = np.minimum(np.searchsorted(items, history), len(items) - 1)
    row, column = np.nonzero(items[places] == history)
    others[row, places[row, column]] = -np.inf
    values, last = (part.numpy() for part in features(tf.constant(history)))
    again = np.full(history.shape, -np.inf, np.float32)
    row, column = np.nonzero(last)
    again[row, column] = np.einsum("nd,nd->n", queries[row], vectors[history[row, column]])
    same = last & (history == rows.target[:, None])
    return Competition(
        others,
        again,
        values,
        np.einsum("nd,nd->n", queries, vectors[rows.target]),
        np.where(same.any(1), same.argmax(1), -1),
        rows.weight / rows.weight.sum(),
        len(known) / len(items),
    )
