"""A two-tower model of texts alone, trained over several domains at once, and what carries over from it.

No layer knows an id: an item is its text vector through the adaptor, a query the history encoder's answer to
such items. What is learned so can start a model of another domain, whose ids are all unknown.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.pretrained import WEIGHTS, PretrainedTower
from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.models.tower import TEXT, QueryTower
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["Pretraining", "TextItems", "carried_weights", "packed_weights", "start_from_pretrained"]

SAME_USER = -1e9  # added to a score that counts for nothing


class TextItems(tf_keras.layers.Layer):
    """Items from their texts alone: the item tower of `Pretraining`.

    Args:
        vectors: float16 or float32 `[N + 1, text_dim]`, row 0 zeros.
        text_adaptor: brings them to `dim`.
        dim: of the output.
        head: layers after it.
        dropout: on the adaptor's output.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        text_adaptor: tf_keras.layers.Layer,
        dim: int,
        head: tf_keras.layers.Layer,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.text = None
        self.has_text = True
        self.tables = {
            TEXT: self.add_weight(
                f"table_{TEXT}",
                vectors.shape,
                vectors.dtype,
                initializer=lambda shape, dtype=None, **_: tf.constant(vectors, dtype),
                trainable=False,
                experimental_autocast=False,
            )
        }
        self.text_adaptor = text_adaptor
        self.head = head
        self.dropout = repeatable.Dropout(dropout)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps text vectors, float `[batch, text_dim]`, to `[batch, dim]`."""
        encoded = self.text_adaptor(tf.cast(inputs, self.compute_dtype), training=training)
        return self.head(self.dropout(encoded, training=training), training=training)

    def lookup(
        self,
        item_index: tf.Tensor | None = None,
        training: bool | None = None,
        worth_encoding: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Encodes items by index, int32 `[batch]`, or all of them: see `ItemTower.lookup`."""
        table = self.tables[TEXT]
        vectors = tf.convert_to_tensor(table) if item_index is None else tf.gather(table, item_index)
        return self(vectors, training=training)

    def refresh_text(self) -> None:
        """Nothing: the encoder is not trained here."""

    def embeddings(self) -> list:
        """None: there are no ids."""
        return []


class Pretraining(TwoTower):
    """A `TwoTower` of texts with a second task: a history and the same history with items left out are to be
    told from the histories of others.

    The first task is the retrieval loss, whose candidates are items of all domains. The second, with `q_i`
    the query after a history, `q̃_i` after what is left of it, and temperature `τ`, adds

        -λ mean_i log(exp(q_i · q̃_i / τ) / Σ_j exp(q_i · q̃_j / τ))

    over the histories `j` of the batch, those of the same user apart from `i` left out. UniSRec also drops
    words of texts and encodes them again; here texts are encoded once, and the adaptor's dropout stands in
    for it.

    Args:
        item_tower: `TextItems`.
        query_tower: without users and features.
        counts: int64 `[N + 1]`, see `TwoTower`.
        sequence_weight: λ.
        item_drop: share of a history's items that are left out of `q̃`; one stays at least.
        **kwargs: further arguments of `TwoTower`.

    Reference: Hou et al., 2022 (UniSRec), https://arxiv.org/abs/2206.05941
    """

    def __init__(
        self,
        item_tower: TextItems,
        query_tower: QueryTower,
        counts: np.ndarray,
        sequence_weight: float = 0.1,
        item_drop: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(item_tower, query_tower, counts, **kwargs)
        self.sequence_weight = sequence_weight
        self.item_drop = item_drop

    def further_losses(self) -> list[Callable[[Any, Any], tf.Tensor]]:
        return [self._sequence_losses] if self.sequence_weight else []

    def _sequence_losses(self, rows: Any, shared: Any) -> tf.Tensor:
        """The second task's loss of each history, float32 `[batch]`; arguments as of `_training_losses`."""
        inputs = rows["inputs"]
        history, users = inputs["history"], inputs["user_index"]
        left = {**inputs, "history": tf.where(self._left(history), history, 0)}
        whole, part = (
            self._queries(batch, shared["items"], rows["history"], True, last_only=True)
            for batch in (inputs, left)
        )
        scores = tf.matmul(whole, part, transpose_b=True) / self.temperature
        own = tf.eye(tf.shape(users)[0], dtype=tf.bool)
        same = (users[:, None] == users[None]) & ~own
        scores = tf.where(same, SAME_USER, scores)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(users)[0]), scores)
        told = tf.reduce_any(history > 0, 1)  # an empty history is like any other
        return self.sequence_weight * tf.where(told, losses, 0.0)

    def _left(self, history: tf.Tensor) -> tf.Tensor:
        """bool `[batch, H]`: which items of histories are not dropped, one of each at least."""
        draws = tf.where(history > 0, repeatable.uniform(tf.shape(history)), -1.0)
        luckiest = draws >= tf.reduce_max(draws, 1, keepdims=True)
        return (history > 0) & ((draws >= self.item_drop) | luckiest)


def carried_weights(model: TwoTower) -> dict[str, tf.Variable]:
    """What knows no id, by name: of the text adaptor, the history encoder, and the layers after both."""
    parts = {
        "text_adaptor": model.item_tower.text_adaptor,
        "item_head": model.item_tower.head,
        "history_encoder": model.query_tower.history_encoder,
        "query_head": model.query_tower.head,
    }
    return {
        f"{name}/{place}": weight
        for name, layer in parts.items()
        for place, weight in enumerate(layer.weights)
        if name != "text_adaptor" or weight is not layer.centre
    }


def packed_weights(model: TwoTower) -> tuple[bytes, str]:
    """`carried_weights` as a file of NumPy's, and its sha256."""
    stream = io.BytesIO()
    arrays: Mapping[str, np.ndarray] = {
        name: weight.numpy() for name, weight in carried_weights(model).items()
    }
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    content = stream.getvalue()
    return content, hashlib.sha256(content).hexdigest()


def start_from_pretrained(model: TwoTower, folder: str | os.PathLike[str], found: PretrainedTower) -> None:
    """Gives a new model what was trained on other domains.

    Embeddings of items begin at zero, so that an item is its text at first, known or not; all else with ids
    or features begins as it was built.

    Args:
        model: built with `tower.text_adaptor: experts`.
        folder: that `tfrec pretrain` wrote.
        found: what it was made from, checked against the model's settings.

    Raises:
        ConfigError: if the file of weights is not the one that was written, or does not fit.
    """
    path = pathlib.Path(folder) / WEIGHTS
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != found.weights_digest:
        raise ConfigError(
            f"{path} must be as `tfrec pretrain` wrote it. Received: a file with another digest. Copy the"
            " whole folder again, or run it again."
        )
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    weights = carried_weights(model)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    given = {name: values.shape for name, values in arrays.items()}
    if shapes != given:
        name = min(key for key in {*shapes, *given} if shapes.get(key) != given.get(key))
        raise ConfigError(
            f"{path} must hold the weights of a tower like this one ({name}: {shapes.get(name, 'none')})."
            f" Received: {given.get(name, 'none')}. Pretrain with the layers of this configuration."
        )
    for name, weight in weights.items():
        weight.assign(arrays[name])
    for layer, _ in model.item_embeddings():
        layer.embeddings.assign(tf.zeros_like(layer.embeddings))
