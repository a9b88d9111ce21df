"""The specification that turns raw features into a model's inputs, as TensorFlow operations.

What depends on data (vocabularies, means and deviations) is asked of a `Learned`: Transform answers from its
own analysis of Examples, `statistics.Fitted` from columns in memory. So training in the pipeline, training in
memory and every served model run the same operations.

Index 0 is padding or unknown; known values count from 1, the most frequent first, equally frequent ones in
reverse order of their bytes. A number is standardised and 0 where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import tensorflow as tf

from tfrec_fusion.config import TextConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import (
    ITEM_VOCABULARY,
    USER_VOCABULARY,
    RawFeature,
    catalogue_reviews,
    context_features,
    item_features,
    label_feature,
    pair_features,
    text_features,
    user_features,
)
from tfrec_fusion.layers.prompts import read_prefix, with_prefix

__all__ = [
    "Learned",
    "interaction_inputs",
    "item_inputs",
    "item_text",
    "item_tokenizer",
    "raw_dtype",
    "request_spec",
]

Values = TypeVar("Values", tf.Tensor, tf.SparseTensor)
Inputs = Mapping[str, tf.Tensor | tf.SparseTensor]
Outputs = dict[str, tf.Tensor | tf.SparseTensor]
Tokenize = Callable[[tf.Tensor], dict[str, tf.Tensor]]
AS_THEY_ARE = ("item_id", "title", "train_count", "history", "history_weight", "click", "chosen", "exposure")


class Learned(Protocol):
    """What was learned from data."""

    def index(self, values: Values, vocabulary: str, size: int | None) -> Values:
        """Indices of strings, int64 of the same shape, sparse where `values` are.

        Args:
            values: strings.
            vocabulary: the name of what was learned.
            size: the most values that are known; None for all.
        """
        ...

    def standardise(self, values: tf.SparseTensor, feature: str) -> tf.SparseTensor:
        """Numbers less their mean, divided by their deviation; 0 where all are equal."""
        ...


def interaction_inputs(inputs: Inputs, tables: Tables, vocabulary_size: int, learned: Learned) -> Outputs:
    """What models read of interactions, users and context.

    Args:
        inputs: raw features by name: ids are dense strings `[batch]`, columns sparse `[batch, any]`. What is
            not there is left out of the answer.
        tables: the columns.
        vocabulary_size: the most values that are known of a categorical feature.
        learned: from training interactions.

    Returns:
        `user_index` int64 `[batch]`; each user, context and pair feature; `rating` and each further label
        float32 `[batch]`, NaN where there is none; `weight` float32 `[batch]`, 1 where nothing says so;
        `item_id`, `history`, `history_weight` and `click` as they are: the items' vocabulary belongs to
        `item_inputs`.
    """
    outputs: Outputs = {name: inputs[name] for name in AS_THEY_ARE if name in inputs}
    if "user_id" in inputs:
        outputs["user_index"] = learned.index(inputs["user_id"], USER_VOCABULARY, None)
    if "label" in inputs:
        outputs["rating"] = _dense(inputs["label"], float("nan"))
    for label in tables.further_labels:
        if label_feature(label) in inputs:
            outputs[label] = _dense(inputs[label_feature(label)], float("nan"))
    if "weight" in inputs:
        outputs["weight"] = _dense(inputs["weight"], 1.0)
    return outputs | _columns(
        user_features(tables) + context_features(tables) + pair_features(tables),
        inputs,
        vocabulary_size,
        learned,
    )


def item_inputs(
    inputs: Inputs,
    tables: Tables,
    vocabulary_size: int,
    learned: Learned,
    tokenizer: Tokenize | None = None,
) -> Outputs:
    """What models read of items.

    Args:
        inputs, tables, vocabulary_size: as in `interaction_inputs`.
        learned: from all items.
        tokenizer: strings `[batch]` to tokens (`item_tokenizer`); None without text.

    Returns:
        `item_index` int64 `[batch]`; each item feature; `input_ids` and `attention_mask` int64
        `[batch, length]` with a tokenizer; `item_id`, `title` and `train_count` as they are.
    """
    outputs: Outputs = {name: inputs[name] for name in AS_THEY_ARE if name in inputs}
    outputs["item_index"] = learned.index(inputs["item_id"], ITEM_VOCABULARY, None)
    features = item_features(tables) + catalogue_reviews(tables)
    outputs |= _columns(features, inputs, vocabulary_size, learned)
    if tokenizer is not None:
        tokens = tokenizer(item_text(inputs, tables))
        outputs |= {name: tf.cast(tokens[name], tf.int64) for name in ("input_ids", "attention_mask")}
    return outputs


def item_text(inputs: Inputs, tables: Tables) -> tf.Tensor:
    """The text of each item as one string `[batch]`: its fields in order, those that are there, joined by
    `. `.

    One string and not segments: it is what a client sends for an item that is new.
    """
    fields = [_dense(inputs[field.name], "") for field in text_features(tables)]
    joined = fields[0]
    for field in fields[1:]:
        both = tf.logical_and(joined != "", field != "")
        joined = tf.strings.join([joined, tf.where(both, ". ", ""), field])
    return joined


def item_tokenizer(text: TextConfig) -> Tokenize:
    """What makes tokens of items' texts: the encoder's prefix and its tokenizer, padded to `max_length`."""
    # Imported here: a model without text needs no TensorFlow Text.
    from tfrec_fusion.layers.tokenizers.base import catalogue_tokens
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

    tokenizer = load_tokenizer(text.encoder, max_length=text.max_length)
    prefix = read_prefix(text.encoder, "item", text.item_prefix)
    return lambda texts: catalogue_tokens(tokenizer, with_prefix(texts, prefix))


def request_spec(tables: Tables) -> dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]:
    """How an interaction's Example is parsed where a model is asked: what is known before it is over."""
    features = user_features(tables) + context_features(tables) + pair_features(tables)
    return {
        "user_id": tf.io.FixedLenFeature([], tf.string),
        "item_id": tf.io.FixedLenFeature([], tf.string),
        **{feature.name: tf.io.VarLenFeature(raw_dtype(feature)) for feature in features},
        "history": tf.io.VarLenFeature(tf.string),
        "seen": tf.io.VarLenFeature(tf.string),
    }


def raw_dtype(feature: RawFeature) -> tf.DType:
    """Of a column's values before anything is made of them."""
    return tf.string if feature.kind in ("categorical", "categories") else tf.float32


def _columns(features: list[RawFeature], inputs: Inputs, size: int, learned: Learned) -> Outputs:
    present = [feature for feature in features if feature.name in inputs]
    return {feature.name: _column(inputs[feature.name], feature, size, learned) for feature in present}


def _column(
    value: tf.Tensor | tf.SparseTensor, feature: RawFeature, size: int, learned: Learned
) -> tf.Tensor | tf.SparseTensor:
    if feature.kind == "categorical":
        return _dense(learned.index(value, feature.vocabulary, size), tf.constant(0, tf.int64))
    if feature.kind == "categories":
        return learned.index(value, feature.vocabulary, size)
    if feature.kind == "number":
        return _dense(learned.standardise(value, feature.name), 0.0)
    if feature.width is not None and isinstance(value, tf.SparseTensor):
        shape = tf.stack([value.dense_shape[0], feature.width])
        return tf.ensure_shape(tf.sparse.to_dense(tf.sparse.reset_shape(value, shape)), [None, feature.width])
    return value


def _dense(value: tf.Tensor | tf.SparseTensor, default: Any) -> tf.Tensor:
    """`[batch]` from a single-valued sparse feature; missing values become `default`."""
    if not isinstance(value, tf.SparseTensor):
        return value
    shape = tf.stack([value.dense_shape[0], 1])
    single = tf.SparseTensor(value.indices, value.values, shape)
    return tf.reshape(tf.sparse.to_dense(single, default_value=default), [-1])
