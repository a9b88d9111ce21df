"""The two halves of a two-tower model: an item from its id, features and text; a query from history and
user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import Feature
from tfrec_fusion.layers import fusion as fusions
from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.sequence import HistoryEncoder
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.xla_ops import distinct

TEXT = "text_vector"
# Up to so many items, encoding all of them costs no more than finding the distinct ones of a batch.
WHOLE_CATALOGUE = 4096


class SideFeatures(tf_keras.layers.Layer):
    """The sum of a dictionary of features' embeddings, each `dim` wide.

    Args:
        features: what to read from the dictionary, and how.
        dim: of the output.
    """

    def __init__(self, features: Sequence[Feature], dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = tuple(features)
        self.dim = dim
        # Layers are numbered: a feature may be called what no scope of TensorFlow can be.
        self.encoders: list[tf_keras.layers.Layer] = []
        for position, feature in enumerate(self.features):
            name = f"feature_{position}"
            if feature.kind in ("categorical", "categories"):
                start = small_normal()
                encoder = tf_keras.layers.Embedding(
                    feature.size, dim, embeddings_initializer=start, name=name
                )
            else:
                encoder = tf_keras.layers.Dense(dim, use_bias=False, name=name)
            self.encoders.append(encoder)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes and sums.

        Args:
            inputs: per feature a tensor shaped as its `config.Feature` says.

        Returns:
            float `[batch, dim]`.
        """
        return tf.add_n(self.parts(inputs))

    def parts(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Each feature's embedding, in the order of `features`: float `[batch, dim]`."""
        parts = []
        for feature, encoder in zip(self.features, self.encoders, strict=True):
            values = inputs[feature.name]
            if feature.kind == "categories":
                known = tf.cast(values > 0, self.compute_dtype)[..., None]
                total = tf.reduce_sum(encoder(values) * known, -2)
                parts.append(total / tf.maximum(tf.reduce_sum(known, -2), 1))
            elif feature.kind == "number":
                parts.append(encoder(tf.cast(values, self.compute_dtype)[..., None]))
            elif feature.kind == "vector":
                parts.append(encoder(tf.cast(values, self.compute_dtype)))
            else:
                parts.append(encoder(values))
        return parts

    def of_unknown(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """`parts` of the same number of rows whose features are all unknown, numbers at their mean."""
        return self.parts({feature.name: tf.zeros_like(inputs[feature.name]) for feature in self.features})


class ItemTower(tf_keras.layers.Layer):
    """An item's embedding from id, features and text.

    Everything but the id is gathered from tables that are not trained. An item without training interactions
    has no id embedding: it lives from what it says about itself, as does an id that was dropped in training
    (DropoutNet).

    Args:
        catalogue: the items.
        features: the item features to read.
        dim: of the output.
        fusion: how id, features and text become one vector.
        hidden: widths of ReLU layers after the fusion.
        dropout: on the fused vector.
        id_dropout: share of ids dropped in training.
        media_dropout: share of each picture or sound (a feature with a `modality`) dropped in training.
        text: encodes the catalogue's texts where the encoder is trained; frozen until its `trainable` is set.
        text_adaptor: brings text vectors to `dim` in place of a linear layer (`layers.TextAdaptor`). The
            fused vector is then `id + text + s ⊙ fusion`, with a learned `s` that starts at zero.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        features: Sequence[Feature],
        dim: int,
        fusion: tf_keras.layers.Layer,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        id_dropout: float = 0.1,
        media_dropout: float = 0.1,
        text: ItemText | None = None,
        text_adaptor: tf_keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_rows = len(catalogue)
        self.features = tuple(feature for feature in features if not feature.modality)
        self.media = tuple(feature for feature in features if feature.modality)
        self.dim = dim
        self.has_text = catalogue.text_vectors is not None
        self.id_embedding = tf_keras.layers.Embedding(
            self.num_rows, dim, embeddings_initializer=small_normal(), name="id"
        )
        self.tables = {
            feature.name: self._table(f"feature_{position}", catalogue.features[feature.name])
            for position, feature in enumerate(features)
        }
        self.known = self._table("known", catalogue.counts > 0)
        self.reads_activity = bool(getattr(fusion, "reads_activity", False))
        if self.reads_activity:
            self.activity = self._table("activity", np.asarray(catalogue.counts, np.float32))
        if self.has_text:
            self.tables[TEXT] = self._table(TEXT, catalogue.text_vectors)
        # Kept where they are used only: Keras asks every layer it finds for its weights.
        self.text_adaptor = text_adaptor if self.has_text else None
        if self.has_text and text_adaptor is None:
            self.text_projection = tf_keras.layers.Dense(dim, name="text")
        self.text = text
        if text is not None:
            text.trainable = False
        if self.features:
            self.side_features = SideFeatures(self.features, dim, name="features")
        # Without a bias: what a missing one is replaced by is learned apart.
        self.media_projections = [
            tf_keras.layers.Dense(dim, use_bias=False, name=f"media_{position}")
            for position in range(len(self.media))
        ]
        self.alone = not self.has_text and not self.features and not self.media
        self.fusion = None if self.alone else fusion
        self.added = None if self.text_adaptor is None else GrowingShare(dim, name="added")
        rates = {"id": id_dropout, **{feature.name: media_dropout for feature in self.media}}
        self.modality_dropout = fusions.ModalityDropout({} if self.alone else rates)
        self.head = mlp(hidden, dim, dropout)
        self.dropout = repeatable.Dropout(dropout)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Encodes items from explicit values.

        Args:
            inputs: `item_index` int32 `[batch]`, 0 for an item never seen; each feature by its name;
                `text_vector` float `[batch, text_dim]` when the tower reads text.

        Returns:
            float `[batch, dim]`.
        """
        activity = self.activity_of(inputs["item_index"])
        return self.encode(self.modalities(inputs, training), training, activity)

    def counted(self) -> tuple[tf.Variable, ...]:
        """Tables that are made of training's counts, and no other model's."""
        return (self.known, self.activity) if self.reads_activity else (self.known,)

    def activity_of(self, item_index: tf.Tensor) -> tf.Tensor | None:
        """Training interactions of items as the fusion reads them, float32 `[batch]`; None where it does
        not."""
        return tf.nn.embedding_lookup(self.activity, item_index) if self.reads_activity else None

    def modalities(
        self, inputs: Mapping[str, tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """What is fused, float `[batch, dim]` each: `id`, and `features`, `text`, and pictures and sounds by
        their features' names, where there are any; arguments as in `call`."""
        index = inputs["item_index"]
        modalities = {"id": self.id_embedding(index)}
        presence = {"id": tf.nn.embedding_lookup(self.known, index)}
        if self.features:
            modalities["features"] = self.side_features(inputs)
        if self.has_text:
            text = tf.cast(inputs[TEXT], self.compute_dtype)
            if self.text_adaptor is None:
                modalities["text"] = self.text_projection(text)
            else:
                modalities["text"] = self.text_adaptor(text, training=training)
            presence["text"] = tf.reduce_any(text != 0, -1)
        for feature, projection in zip(self.media, self.media_projections, strict=True):
            vectors = tf.cast(inputs[feature.name], self.compute_dtype)
            modalities[feature.name] = projection(vectors)
            presence[feature.name] = tf.reduce_any(vectors != 0, -1)
        return self.modality_dropout(modalities, presence, training=training)

    def encode(
        self,
        modalities: Mapping[str, tf.Tensor],
        training: bool | None = None,
        activity: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Fuses `modalities`: float `[batch, dim]`; `activity` is what `activity_of` returned."""
        fused = modalities["id"]
        if self.fusion is not None:
            mixed = self.fusion(modalities, **({} if activity is None else {"activity": activity}))
            fused += mixed if self.added is None else modalities["text"] + self.added(mixed)
        return self.head(self.dropout(fused, training=training), training=training)

    def lookup(
        self,
        item_index: tf.Tensor | None = None,
        training: bool | None = None,
        worth_encoding: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Encodes items of the catalogue.

        Args:
            item_index: int32 `[batch]`; None takes every row.
            training: whether dropout is on, and texts are encoded anew where their encoder is trained.
            worth_encoding: int32 `[any]`, rows of `item_index` whose texts are; None means all.

        Returns:
            float `[batch, dim]`, or `[N + 1, dim]`.
        """
        values = self.values(item_index)
        item_index = values["item_index"]
        if training and self.text is not None and self.text.trainable:
            rows = tf.range(tf.size(item_index)) if worth_encoding is None else worth_encoding
            values[TEXT] = self.text.update(tf.cast(values[TEXT], self.compute_dtype), item_index, rows)
        return self(values, training=training)

    def values(self, item_index: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """What the tower is called with for items of the catalogue: int32 `[batch]`, or None for every
        row."""
        # Rows of variables are looked up, here and elsewhere: of one that is split between parameter servers,
        # `tf.gather` returns the right rows in the wrong order (TensorFlow 2.21).
        if item_index is None:
            values = {name: tf.convert_to_tensor(table) for name, table in self.tables.items()}
            return {**values, "item_index": tf.range(self.num_rows)}
        values = {name: tf.nn.embedding_lookup(table, item_index) for name, table in self.tables.items()}
        return {**values, "item_index": item_index}

    def refresh_text(self) -> None:
        """Encodes all texts as the encoder is now, where it is trained."""
        if self.text is not None and self.text.trainable:
            self.tables[TEXT].assign(tf.cast(self.text.encode_all(), self.tables[TEXT].dtype))

    def embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable]]:
        """The id embedding, with the vector that stands for an id that is missing."""
        return [(self.id_embedding, self.modality_dropout.missing["id"])]

    def lookup_distinct(
        self, *item_indices: tf.Tensor, training: bool | None = None, compiled: bool = False
    ) -> list[tf.Tensor]:
        """Encodes each distinct item of several index tensors once (a small catalogue: every item once).

        Args:
            *item_indices: int32 of any shape `[...]`.
            training: whether layers behave as in training.
            compiled: whether XLA compiles this.

        Returns:
            float `[..., dim]` per index tensor.
        """
        if self.num_rows <= WHOLE_CATALOGUE:
            indices = tf.concat([tf.reshape(index, [-1]) for index in item_indices], 0)
            embeddings = self.lookup(training=training, worth_encoding=indices)
            return [tf.gather(embeddings, index) for index in item_indices]
        indices = tf.concat([tf.reshape(index, [-1]) for index in item_indices], 0)
        items, rows = distinct(indices, compiled)
        embeddings = self.lookup(items, training=training)
        rows = tf.split(rows, [tf.size(index) for index in item_indices])
        return [
            tf.gather(embeddings, tf.reshape(part, tf.shape(index)))
            for part, index in zip(rows, item_indices, strict=True)
        ]

    def fusion_weights(self, item_index: tf.Tensor) -> dict[str, tf.Tensor]:
        """How much each modality says of items, where the fusion weighs them (`gated`, `attention`): float
        `[batch]` each, which sum to 1; empty for another fusion.

        Args:
            item_index: int32 `[batch]`.
        """
        kinds = {fusions.GatedFusion: "return_gates", fusions.AttentionFusion: "return_weights"}
        option = kinds.get(type(self.fusion))
        if self.fusion is None or option is None:
            return {}
        activity = self.activity_of(item_index)
        read = {} if activity is None else {"activity": activity}
        _, weights = self.fusion(self.modalities(self.values(item_index)), **{option: True}, **read)
        width = {name: value.shape.rank for name, value in weights.items()}
        return {
            name: tf.reduce_mean(value, -1) if width[name] == 2 else value for name, value in weights.items()
        }

    def known_index(self, item_index: tf.Tensor) -> tf.Tensor:
        """The index, or 0 for items that training never saw."""
        return tf.where(tf.nn.embedding_lookup(self.known, item_index), item_index, 0)

    def _table(self, name: str, values: np.ndarray | tf.Tensor) -> tf.Variable:
        return self.add_weight(
            f"table_{name}",
            values.shape,
            values.dtype,
            initializer=lambda shape, dtype=None, **_: tf.constant(values, dtype),
            trainable=False,
            experimental_autocast=False,
        )


class QueryTower(tf_keras.layers.Layer):
    """A query's embedding from the history's item vectors, the user and the context.

    Args:
        history_encoder: `[batch, T, dim]` and a mask to `[batch, T, dim]`, position `t` knowing items up to
            `t`, or to `[batch, dim]`, knowing all.
        dim: of the output.
        fusion: how history, user id and features become one vector. Without a user id it is added to the
            history's.
        num_users: rows of the user id embedding; None for no user id.
        features: user and context features.
        hidden: widths of ReLU layers after the fusion.
        dropout: in `hidden`.
        id_dropout: share of user ids dropped in training.
        carries: whether the history's encoding stands alone at first, `history + s ⊙ fusion` with a learned
            `s` that starts at zero, as where it was trained on other domains (`ItemTower`'s `text_adaptor`).
    """

    def __init__(
        self,
        history_encoder: tf_keras.layers.Layer,
        dim: int,
        fusion: tf_keras.layers.Layer,
        num_users: int | None = None,
        features: Sequence[Feature] = (),
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        id_dropout: float = 0.1,
        carries: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.history_encoder = history_encoder
        self.features = tuple(features)
        self.user_embedding = None
        if num_users is not None:
            self.user_embedding = tf_keras.layers.Embedding(
                num_users, dim, embeddings_initializer=small_normal(), name="user"
            )
        if self.features:
            self.side_features = SideFeatures(self.features, dim, name="features")
        self.alone = self.user_embedding is None and not self.features
        self.fusion = None if self.alone else fusion
        self.added = GrowingShare(dim, name="added") if carries and not self.alone else None
        if not self.alone:
            rates = {} if self.user_embedding is None else {"user": id_dropout}
            self.modality_dropout = fusions.ModalityDropout(rates)
        self.head = mlp(hidden, dim, dropout)

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        mask: tf.Tensor,
        training: bool | None = None,
        last_only: bool = False,
    ) -> tf.Tensor:
        """Encodes every prefix of each history.

        Args:
            inputs: `user_index` int32 `[batch]` and the features by name.
            history: float `[batch, T, dim]`, vectors of the history's items, newest last.
            mask: bool `[batch, T]`.
            training: whether dropout is on.
            last_only: whether queries after the whole history are enough.

        Returns:
            float `[batch, T, dim]`, where the last position is the query after the whole history, or
            `[batch, dim]` with `last_only` or a history encoder that returns only that.
        """
        return self.encode(self.modalities(inputs, training), history, mask, training, last_only)

    def modalities(
        self, inputs: Mapping[str, tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """What is fused with the history, float `[batch, dim]` each: `user` and `features`, where the tower
        reads them; `inputs` as in `call`."""
        presence = {}
        modalities = {}
        if self.user_embedding is not None:
            modalities["user"] = self.user_embedding(inputs["user_index"])
            presence["user"] = inputs["user_index"] > 0
        if self.features:
            modalities["features"] = self.side_features(inputs)
        return self.modality_dropout(modalities, presence, training=training) if modalities else {}

    def encode(
        self,
        modalities: Mapping[str, tf.Tensor],
        history: tf.Tensor,
        mask: tf.Tensor,
        training: bool | None = None,
        last_only: bool = False,
    ) -> tf.Tensor:
        """Encodes histories and fuses them with `modalities`; further arguments and result as in `call`."""
        spared = {"last_only": True} if last_only and isinstance(self.history_encoder, HistoryEncoder) else {}
        encoded = self.history_encoder(history, mask=mask, training=training, **spared)
        if last_only and encoded.shape.rank == 3:
            encoded = encoded[:, -1]
        if self.fusion is None:
            return self.head(encoded, training=training)
        if encoded.shape.rank == 3:
            length = tf.shape(encoded)[1]
            modalities = {name: tf.repeat(value[:, None], length, 1) for name, value in modalities.items()}
        read = {}
        if getattr(self.fusion, "reads_activity", False):
            counts = tf.cumsum(tf.cast(mask, tf.float32), 1)
            read["activity"] = counts if encoded.shape.rank == 3 else counts[:, -1]
        fused = self.fusion({**modalities, "history": encoded}, **read)
        if self.added is not None:
            return self.head(encoded + self.added(fused), training=training)
        if self.user_embedding is None:
            # Beside the history as it is: features of users say little, and the fusion alone lets them drown
            # it out. A user's id says as much as the history, and needs the fusion's judgement.
            fused += encoded
        return self.head(fused, training=training)

    def embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable]]:
        """The user embedding, if any, with the vector that stands for a user that is missing."""
        if self.user_embedding is None:
            return []
        return [(self.user_embedding, self.modality_dropout.missing["user"])]


class GrowingShare(tf_keras.layers.Layer):
    """`s ⊙ x` with a learned `s` that starts at zero, so that what stands beside `x` is alone at first.

    Args:
        dim: of `x`.

    Reference: Bachlechner et al., 2021 (ReZero), https://arxiv.org/abs/2003.04887
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = self.add_weight("share", [dim], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Weighs float `[..., dim]`."""
        return inputs * tf.cast(self.share, inputs.dtype)


def mlp(hidden: Sequence[int], dim: int, dropout: float = 0.0) -> tf_keras.Sequential:
    """ReLU layers of the widths `hidden` and a linear one of `dim`; the identity when `hidden` is empty."""
    layers = []
    for width in hidden:
        layers += [tf_keras.layers.Dense(width, activation="relu"), repeatable.Dropout(dropout)]
    if hidden:
        layers.append(tf_keras.layers.Dense(dim))
    return tf_keras.Sequential(layers or [tf_keras.layers.Activation("linear")])


def small_normal() -> tf_keras.initializers.Initializer:
    """How id embeddings start."""
    return tf_keras.initializers.RandomNormal(stddev=0.02)
