"""Transform's callbacks: raw Examples into numbers, the same graph in training and in serving.

Item text is tokenised here, by the library's own tokenizer layer, once an item. Item ids in interactions stay
strings: their vocabulary belongs to the items' Transform, and the trainers look them up in it.
"""

import json

import tensorflow as tf
import tensorflow_transform as tft

from pipeline.data import features
from pipeline.data.vocabularies import one_line
from tfrec_fusion.config import TextConfig, from_dict
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.layers.tokenizer import load_tokenizer


def interactions_preprocessing_fn(inputs, custom_config):
    """`user_index`, side features, labels; ids and history as they are."""
    tables = from_dict(Tables, json.loads(custom_config["tables"]))
    outputs = {
        "user_index": _index(inputs["user_id"], features.USER_VOCABULARY, None),
        "item_id": inputs["item_id"],
        "history": inputs["history"],
        "click": inputs["click"],
    }
    if "label" in inputs:
        outputs["rating"] = _dense(inputs["label"], float("nan"))  # who chose without a grade gave none
    if "weight" in inputs:
        outputs["weight"] = _dense(inputs["weight"], 1.0)
        outputs["history_weight"] = inputs["history_weight"]
    for feature in features.user_features(tables) + features.context_features(tables):
        outputs[feature.name] = _transform(inputs[feature.name], feature, custom_config["vocabulary_size"])
    return outputs


def items_preprocessing_fn(inputs, custom_config):
    """`item_index`, side features, and the text as tokens."""
    tables = from_dict(Tables, json.loads(custom_config["tables"]))
    outputs = {
        "item_index": _index(inputs["item_id"], features.ITEM_VOCABULARY, None),
        "item_id": inputs["item_id"],
        "title": inputs["title"],
        "train_count": inputs["train_count"],
    }
    for feature in features.item_features(tables):
        outputs[feature.name] = _transform(inputs[feature.name], feature, custom_config["vocabulary_size"])
    if custom_config.get("text"):
        text = from_dict(TextConfig, custom_config["text"])
        tokens = load_tokenizer(text.encoder, max_length=text.max_length)(item_text(inputs, tables))
        outputs["input_ids"] = tf.cast(tokens["input_ids"], tf.int64)
        outputs["attention_mask"] = tf.cast(tokens["attention_mask"], tf.int64)
    return outputs


def item_text(inputs, tables: Tables) -> tf.Tensor:
    """The text of each item as one string `[batch]`: its fields in order, those that are there, joined by
    `. `.

    One string and not segments: it is what a client sends for an item that is new.
    """
    fields = [_dense(inputs[field.name], "") for field in features.text_features(tables)]
    joined = fields[0]
    for field in fields[1:]:
        both = tf.logical_and(joined != "", field != "")
        joined = tf.strings.join([joined, tf.where(both, ". ", ""), field])
    return joined


def _dense(value, default) -> tf.Tensor:
    """`[batch]` from a single-valued sparse feature; missing values become `default`."""
    if not isinstance(value, tf.SparseTensor):
        return value
    shape = tf.stack([value.dense_shape[0], 1])
    single = tf.SparseTensor(value.indices, value.values, shape)
    return tf.reshape(tf.sparse.to_dense(single, default_value=default), [-1])


def _index(values, name: str, size: int | None):
    """Indices in a vocabulary, from 1 for known values, 0 for unknown ones."""
    # A vocabulary is a text file, a value a line.
    values = one_line(values)
    indices = tft.compute_and_apply_vocabulary(values, default_value=-1, top_k=size, vocab_filename=name)
    if isinstance(indices, tf.SparseTensor):
        return tf.SparseTensor(indices.indices, indices.values + 1, indices.dense_shape)
    return indices + 1


def _transform(value, feature: features.RawFeature, size: int):
    if feature.kind == "categorical":
        return _dense(_index(value, feature.vocabulary, size), tf.constant(0, tf.int64))
    if feature.kind == "categories":
        return _index(value, feature.vocabulary, size)
    if feature.kind == "number":
        return _dense(tft.scale_to_z_score(value), 0.0)
    return value
