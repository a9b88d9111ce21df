"""Ratings by factors that are solved for rather than trained, beside a ranking model's network.

The network reads histories, text and features, and learns whatever they say together; that a user rates
high, that an item is rated high, and which few numbers of both fit, is known better by a model that is solved
(`rating_solving`). A rating is `(1 - w)` of the network's and `w` of the solved one's, `w` being the share
with the smallest squared error on validation; without validation the network answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.config import Feature
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.design_matrix import SideColumns
from tfrec_fusion.models.tower import TEXT


class RatingFactors(tf_keras.layers.Layer):
    """Holds the solved factors. Nothing here is trained by gradient descent; until they are fitted
    (`rating_fitting`), `weight` is 0.

    Args:
        catalogue: the items.
        num_users: rows for users, row 0 for those who are not known.
        item_features, user_features: what is known of items, beside text, and of users.
        dim: factors.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        num_users: int,
        item_features: Sequence[Feature],
        user_features: Sequence[Feature],
        dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.item_columns, self.user_columns = SideColumns(item_features), SideColumns(user_features)
        self.text_dim = 0 if catalogue.text_vectors is None else catalogue.text_vectors.shape[1]
        self.width = dim + 1
        self.users = self._zeros("users", [num_users, self.width])
        self.items = self._zeros("items", [len(catalogue), self.width])
        self.predictor = self._zeros("predictor", [self.text_dim + self.item_columns.width + 1, self.width])
        self.mean = self._zeros("mean", [])
        self.weight = self._zeros("weight", [])

    def of_items(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Factors and biases of items: float32 `[n, width]`.

        Args:
            values: `item_index` int32 `[n]`, 0 for items that are not in the catalogue, which are taken for
                what is known of them: their features by name, and `text_vector` float `[n, text_dim]` where
                    there is text.
        """
        known = (values["item_index"] > 0)[:, None]
        side = tf.concat([*self.side(values), tf.ones_like(known, tf.float32)], 1)
        looked_up = tf.nn.embedding_lookup(self.items, values["item_index"])
        return tf.where(known, looked_up, tf.matmul(side, self.predictor))

    def side(self, values: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What is known of items: float32 `[n, any]` each."""
        text = [tf.cast(values[TEXT], tf.float32)] if self.text_dim else []
        return [*text, *self.item_columns(values)]

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
