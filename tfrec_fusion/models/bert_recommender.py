"""A label classifier over user, item and text: which class will this user give this item?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.tower import small_normal


class BertRecommender(Model):
    """User and item embeddings beside a text vector, through ReLU layers, into one of several classes.

    Args:
        text_encoder: takes `batch["text"]` and returns float `[batch, any]`: a tokenizer and a BERT one after
            the other, or a BERT alone where the text comes tokenized.
        num_users: rows of the user embedding, index 0 included.
        num_items: rows of the item embedding, index 0 included.
        num_classes: classes; `batch["label"]` is one of 0 … `num_classes - 1`.
        dim: of the id embeddings.
        hidden: widths of the ReLU layers.
        dropout: after each of them, and on what goes into the first.

    Raises:
        ValueError: if there are less than two classes.
    """

    def __init__(
        self,
        text_encoder: tf_keras.layers.Layer,
        num_users: int,
        num_items: int,
        num_classes: int,
        dim: int = 32,
        hidden: Sequence[int] = (128,),
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2. Received: {num_classes}. Count all labels.")
        self.text_encoder = text_encoder
        self.user_embedding = tf_keras.layers.Embedding(num_users, dim, embeddings_initializer=small_normal())
        self.item_embedding = tf_keras.layers.Embedding(num_items, dim, embeddings_initializer=small_normal())
        layers: list[tf_keras.layers.Layer] = [repeatable.Dropout(dropout)]
        for width in hidden:
            layers += [tf_keras.layers.Dense(width, activation="relu"), repeatable.Dropout(dropout)]
        self.classifier = tf_keras.Sequential([*layers, tf_keras.layers.Dense(num_classes, dtype="float32")])
        self.accuracy = tf_keras.metrics.SparseCategoricalAccuracy("accuracy")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns the probability of each class.

        Args:
            inputs: `user_index` and `item_index` int32 `[batch]`, and `text`.

        Returns:
            float32 `[batch, num_classes]`; rows sum to 1.
        """
        return tf.nn.softmax(self._logits(inputs, training))

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Cross-entropy of `inputs["label"]`, integer `[batch]`."""
        logits = self._logits(inputs, training)
        self.accuracy.update_state(inputs["label"], logits)
        per_example = tf.nn.sparse_softmax_cross_entropy_with_logits(inputs["label"], logits)
        return tf.nn.compute_average_loss(per_example)

    def item_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return [(self.item_embedding, None)]

    def user_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return [(self.user_embedding, None)]

    def _logits(self, inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        text = self.text_encoder(inputs["text"], training=training)
        parts = [self.user_embedding(inputs["user_index"]), self.item_embedding(inputs["item_index"]), text]
        return self.classifier(
            tf.concat([tf.cast(part, tf.float32) for part in parts], -1), training=training
        )
