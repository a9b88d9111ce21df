"""Estimator of the factors of ratings beside a ranking model's network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_fusion.models import windows
from tfrec_fusion.models.hybrid.rating_factors import RatingFactors
from tfrec_fusion.models.hybrid.rating_solving import VariationalFactors
from tfrec_fusion.models.ranking import Ranking

CHUNK = 8192


class RatingEstimator:
    """Solves for the rating factors of a ranking model, and finds their weight on validation."""

    def fit(self, model: Ranking, train: tf.data.Dataset, validation: tf.data.Dataset) -> RatingEstimator:
        """Solves and weighs.

        Args:
            model: trained, with `rating_factors`.
            train: batches of training, one epoch.
            validation: batches that decide on the weight.

        Raises:
            ValueError: if the model has no rating factors.
        """
        factors, label = self.solve(model, train)
        factors.weight.assign(_best_weight(factors, model, label, validation))
        return self

    def solve(self, model: Ranking, train: tf.data.Dataset) -> tuple[RatingFactors, str]:
        """Solves for the rating factors alone, whose weight stays as it is; returns them and their label.

        Args:
            model, train: as in `fit`.

        Raises:
            ValueError: if the model has no rating factors.
        """
        factors, label = model.rating_factors, model.rated
        if factors is None or label is None:
            raise ValueError(
                "`model` must have rating factors to fit. Received: None. Build it with `rating_dim` above 0"
                " and a label that is a `rating`."
            )
        names = [
            "user_index",
            "item_index",
            label,
            *(feature.name for feature in factors.user_columns.features),
        ]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for batch in train.map(lambda batch: {name: batch[name] for name in names}).as_numpy_iterator():
            for name, values in batch.items():
                parts[name].append(values)
        seen: dict[str, np.ndarray] = {name: windows.joined(values).numpy() for name, values in parts.items()}
        shape = (factors.users.shape[0], factors.items.shape[0])
        rated = ~np.isnan(seen[label])
        seen = {name: values[rated] for name, values in seen.items()}
        users, items, ratings = (seen[name] for name in names[:3])
        # What a user rated twice counts once, by its mean: a sparse matrix would add it up.
        pairs, position = np.unique(users.astype(np.int64) * shape[1] + items, return_inverse=True)
        means = np.bincount(position, ratings) / np.bincount(position)
        matrix = scipy.sparse.csr_matrix((means, np.divmod(pairs, shape[1])), shape=shape)
        solution = VariationalFactors(factors.width - 1).fit(
            matrix, _item_side(model, factors), _user_side(factors, seen, shape[0])
        )
        factors.users.assign(solution.users)
        factors.items.assign(solution.items)
        factors.predictor.assign(solution.predictor)
        factors.mean.assign(solution.mean)
        return factors, label


def _best_weight(factors: RatingFactors, model: Ranking, label: str, validation: tf.data.Dataset) -> float:
    """The share of the solved ratings, between 0 and 1, with the smallest squared error."""
    factors.weight.assign(0.0)
    ask = tf.function(
        lambda batch: (
            model(batch)[label],
            factors.solved(batch["user_index"], tf.nn.embedding_lookup(factors.items, batch["item_index"])),
        ),
        autograph=False,
        reduce_retracing=True,
    )
    crossed = squared = 0.0
    for batch in validation:
        network, solved = ask(batch)
        rated = ~np.isnan(np.asarray(batch[label]))
        apart, left = (
            np.asarray(values, np.float64)[rated] for values in (solved - network, batch[label] - network)
        )
        crossed, squared = crossed + float(apart @ left), squared + float(apart @ apart)
    return float(np.clip(crossed / squared, 0.0, 1.0)) if squared else 0.0


def _item_side(model: Ranking, factors: RatingFactors) -> np.ndarray:
    """float32 `[num_items, any]`, in the catalogue's order."""
    parts = []
    for start in range(0, factors.items.shape[0], CHUNK):
        rows = tf.range(start, min(start + CHUNK, factors.items.shape[0]))
        none = np.zeros((len(rows), 0), np.float32)
        parts.append(np.concatenate([none, *factors.side(model.item_tower.values(rows))], 1))
    return np.concatenate(parts)


def _user_side(
    factors: RatingFactors, seen: Mapping[str, np.ndarray], num_users: int
) -> scipy.sparse.csr_matrix:
    """`[num_users, any]`: each user's features, as their last example has them; zeros for who has none."""
    users = seen["user_index"]
    there, last = np.unique(users[::-1], return_index=True)
    last = len(users) - 1 - last
    parts = [scipy.sparse.csr_matrix((0, factors.user_columns.width))]
    for start in range(0, len(there), CHUNK):
        rows = last[start : start + CHUNK]
        values = {
            feature.name: tf.constant(seen[feature.name][rows]) for feature in factors.user_columns.features
        }
        columns = [np.zeros((len(rows), 0)), *factors.user_columns(values)]
        parts.append(scipy.sparse.csr_matrix(np.concatenate(columns, 1)))
    side = scipy.sparse.vstack(parts).tocoo()
    return scipy.sparse.csr_matrix(
        (side.data, (there[side.row], side.col)), shape=(num_users, factors.user_columns.width)
    )
