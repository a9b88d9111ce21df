"""Signatures of the classifier: a text in, the probability of each class out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.base import Lookup, TextTower, concrete, graph, table
from tfrec_fusion.layers.tokenizers.strings import says_something
from tfrec_fusion.models.bert_recommender import BertRecommender

__all__ = ["ClassifierSignatures"]


class ClassifierSignatures(tf.Module):
    """The signature `classify`.

    Args:
        model: trained on vectors of the text tower.
        classes: their names.
        users, items: ids by index, row 0 nobody's.
        text_tower: encodes texts.
        item_vectors: float `[items, dim]`, of the items' own texts, which are read where a request has none;
            None where there are no such.
        trained: bool `[items]`, which of them training had.
        reads_ids: whether the model reads users and items, beside the text.
    """

    def __init__(
        self,
        model: BertRecommender,
        classes: Sequence[str],
        users: np.ndarray,
        items: np.ndarray,
        text_tower: TextTower,
        item_vectors: np.ndarray | None,
        trained: np.ndarray,
        reads_ids: bool = True,
    ) -> None:
        super().__init__()
        # Signatures need the variables, and not Keras's objects, each call of which would be traced again.
        object.__setattr__(self, "model", model)
        self.model_variables = list(model.variables)
        self.text_tower = text_tower
        self.classes = tf.constant([name.encode() for name in classes], tf.string)
        self.user_rows, self.item_rows = Lookup(users), Lookup(items)
        self.trained = table(trained, "trained_items")
        self.item_vectors = None if item_vectors is None else table(item_vectors, "item_vectors")
        self.reads_ids = reads_ids

    def classify(self, user_id: tf.Tensor, item_id: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The classes of texts.

        Args:
            user_id, item_id: string `[batch]`, who wrote about what; `""` and unknown ids are nobody's.
            text: string `[batch]`; where it is empty and the classifier reads items' texts, the item's own.

        Returns:
            `label` string `[batch]`, the likeliest class; `probabilities` float32 `[batch, classes]`, which
            sum to 1, of `classes` string `[batch, classes]`; `known_user` and `known_item` bool `[batch]`.
        """
        user, item = self.user_rows(user_id), self.item_rows(item_id)
        vectors = self.text_tower.items(text)
        if self.item_vectors is not None:
            given = says_something(text)
            vectors = tf.where(given[:, None], vectors, tf.gather(self.item_vectors, item))
        known_item = tf.gather(self.trained, item) & (item > 0)
        index = {"user_index": user, "item_index": tf.where(known_item, item, 0)}
        if not self.reads_ids:
            index = {name: tf.zeros_like(values) for name, values in index.items()}
        shares = self.model.call({**index, "text": vectors})
        return {
            "label": tf.gather(self.classes, tf.argmax(shares, 1)),
            "probabilities": shares,
            "classes": tf.tile(self.classes[None], [tf.shape(text)[0], 1]),
            "known_user": user > 0,
            "known_item": known_item,
        }

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Concrete functions by signature name."""
        spec = {name: tf.TensorSpec([None], tf.string, name) for name in ("user_id", "item_id", "text")}
        return {"classify": concrete(graph(self.classify), **spec)}
