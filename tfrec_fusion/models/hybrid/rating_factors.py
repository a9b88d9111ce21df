"""Ratings by factors that are solved for rather than trained, beside a ranking model's network.

The network reads histories, text and features, and learns whatever they say together; that a person rates
high, that an item is rated high, and which few numbers of both fit, is known better by a model that is solved
(`rating_solving`). A rating is `(1 - w)` of the network's and `w` of the solved one's, `w` being the share
with the smallest squared error on validation; without validation the network answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import Feature
from tfrec_fusion.models import windows
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.design_matrix import SideColumns
from tfrec_fusion.models.hybrid.rating_solving import variational_factors
from tfrec_fusion.models.tower import TEXT

if TYPE_CHECKING:
    from tfrec_fusion.models.ranking import Ranking

CHUNK = 8192


class RatingFactors(tf_keras.layers.Layer):
    """Holds the solved factors. Nothing here is trained by gradient descent; until `fit_rating_factors`,
    `weight` is 0.

    Args:
        catalogue: the items.
        num_users: rows for people, row 0 for those who are not known.
        item_features, user_features: what is said about items, beside text, and about people.
        dim: factors.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        num_users: int,
        item_features: Sequence[Feature],
        user_features: Sequence[Feature],
        dim: int,
        **kwargs,
    ):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.said, self.said_of_users = SideColumns(item_features), SideColumns(user_features)
        self.text_dim = 0 if catalogue.text_vectors is None else catalogue.text_vectors.shape[1]
        self.width = dim + 1
        self.users = self._zeros("users", [num_users, self.width])
        self.items = self._zeros("items", [len(catalogue), self.width])
        self.predictor = self._zeros("predictor", [self.text_dim + self.said.width + 1, self.width])
        self.mean = self._zeros("mean", [])
        self.weight = self._zeros("weight", [])

    def of_items(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Factors and biases of items: float32 `[n, width]`.

        Args:
            values: `item_index` int32 `[n]`, 0 for items that are not in the catalogue, which are taken for
                what is said about them: their features by name, and `text_vector` float `[n, text_dim]` where
                    there is text.
        """
        known = (values["item_index"] > 0)[:, None]
        side = tf.concat([*self.side(values), tf.ones_like(known, tf.float32)], 1)
        looked_up = tf.nn.embedding_lookup(self.items, values["item_index"])
        return tf.where(known, looked_up, tf.matmul(side, self.predictor))

    def side(self, values: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What is said about items: float32 `[n, any]` each."""
        text = [tf.cast(values[TEXT], tf.float32)] if self.text_dim else []
        return [*text, *self.said(values)]

    def mix(self, network: tf.Tensor, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Ratings: float32 `[n]`.

        Args:
            network: float32 `[n]`, what the network says.
            users: int32 `[n]`.
            items: float `[n, width]`, from `of_items`.
        """
        solved = self.solved(users, items)
        return network + self.weight * (solved - network)

    def solved(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """What the factors alone say: float32 `[n]`; arguments as in `mix`."""
        items = tf.cast(items, tf.float32)
        users = tf.nn.embedding_lookup(self.users, users)
        crossed = tf.reduce_sum(users[:, :-1] * items[:, :-1], 1)
        return self.mean + users[:, -1] + items[:, -1] + crossed

    def _zeros(self, name: str, shape: list[int]) -> tf.Variable:
        return self.add_weight(name, shape, tf.float32, initializer="zeros")


def fit_rating_factors(
    factors: RatingFactors, model: Ranking, label: str, train: tf.data.Dataset, validation: tf.data.Dataset
) -> None:
    """Solves for the factors of a ranking model, and finds their weight.

    Args:
        factors: those of `model`.
        model: trained.
        label: name of the rating.
        train: batches of training, one epoch.
        validation: batches that decide on the weight.
    """
    names = ["user_index", "item_index", label, *(feature.name for feature in factors.said_of_users.features)]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in train.map(lambda batch: {name: batch[name] for name in names}).as_numpy_iterator():
        for name, values in batch.items():
            parts[name].append(values)
    seen: dict[str, np.ndarray] = {name: windows.joined(values).numpy() for name, values in parts.items()}
    shape = (factors.users.shape[0], factors.items.shape[0])
    rated = ~np.isnan(seen[label])
    seen = {name: values[rated] for name, values in seen.items()}
    users, items, ratings = (seen[name] for name in names[:3])
    # What somebody said twice counts once, by its mean: a sparse matrix would add it up.
    pairs, place = np.unique(users.astype(np.int64) * shape[1] + items, return_inverse=True)
    means = np.bincount(place, ratings) / np.bincount(place)
    matrix = scipy.sparse.csr_matrix((means, np.divmod(pairs, shape[1])), shape=shape)
    solution = variational_factors(
        matrix,
        factors.width - 1,
        _item_side(model, factors),
        _user_side(factors, seen, shape[0]),
    )
    factors.users.assign(solution.users)
    factors.items.assign(solution.items)
    factors.predictor.assign(solution.predictor)
    factors.mean.assign(solution.mean)
    factors.weight.assign(_best_weight(factors, model, label, validation))


def _best_weight(factors: RatingFactors, model: Ranking, label: str, validation: tf.data.Dataset) -> float:
    """The share of the solved ratings, between 0 and 1, with the smallest squared error."""
    factors.weight.assign(0.0)
    ask = tf.function(
        lambda batch: (
            model(batch)[label],
            factors.solved(batch["user_index"], tf.nn.embedding_lookup(factors.items, batch["item_index"])),
        ),
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
    """`[num_users, any]`: each person's features, as their last example has them; zeros for who has none."""
    users = seen["user_index"]
    there, last = np.unique(users[::-1], return_index=True)
    last = len(users) - 1 - last
    parts = [scipy.sparse.csr_matrix((0, factors.said_of_users.width))]
    for start in range(0, len(there), CHUNK):
        rows = last[start : start + CHUNK]
        values = {
            feature.name: tf.constant(seen[feature.name][rows]) for feature in factors.said_of_users.features
        }
        columns = [np.zeros((len(rows), 0)), *factors.said_of_users(values)]
        parts.append(scipy.sparse.csr_matrix(np.concatenate(columns, 1)))
    found = scipy.sparse.vstack(parts).tocoo()
    return scipy.sparse.csr_matrix(
        (found.data, (there[found.row], found.col)), shape=(num_users, factors.said_of_users.width)
    )
