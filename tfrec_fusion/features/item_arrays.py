"""Rows of the items' table as the catalogue that models take, in memory."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import ConfigError, Feature, TextConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import (
    ITEM_VOCABULARY,
    RawFeature,
    catalogue_reviews,
    item_features,
    pair_features,
    text_features,
)
from tfrec_fusion.features.graph import item_inputs, item_tokenizer
from tfrec_fusion.features.padding import arrays, stack, with_row_0
from tfrec_fusion.features.reviews import Reviews
from tfrec_fusion.features.statistics import Fitted, Statistics, learn, sparse
from tfrec_fusion.features.text_vectors import encode_items
from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["described", "item_arrays"]

CHUNK = 4096  # items tokenised at once


def item_arrays(
    tables: Tables,
    items: dict[str, dict[str, Any]],
    ids: Sequence[bytes],
    counts: np.ndarray,
    text: TextConfig | None,
    vectors: str | None,
    size: int,
    known: Mapping[str, Sequence[bytes]] | None = None,
    reviews: Reviews | None = None,
) -> tuple[Catalogue, tuple[Feature, ...]]:
    """The items in the order of their indices, and their features."""
    if text and not text_features(tables):
        raise ConfigError(
            "The text tower needs columns to read. Received: none under `data.items.text`. Name some, or set"
            " `text: none`."
        )
    features = item_features(tables)
    raw = {feature: [row.get(feature.name) for row in items.values()]
           for feature in (*features, *(text_features(tables) if text else ()))}  # fmt: skip
    learned = learn(features, {feature.name: values for feature, values in raw.items()}, size, known)
    statistics = dataclasses.replace(learned, vocabularies={**learned.vocabularies, ITEM_VOCABULARY: ids})
    fitted, tokenizer = Fitted(statistics), item_tokenizer(text) if text else None
    vectors_read = [feature for feature in raw if feature.kind == "vector" and feature.width is None]
    widths = {feature: max((len(value) for value in raw[feature] if value is not None), default=1)
              for feature in vectors_read}  # fmt: skip
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(items), CHUNK):
        chunk = slice(start, start + CHUNK)
        inputs: dict[str, Any] = {feature.name: sparse(values[chunk], feature, widths.get(feature))
                                  for feature, values in raw.items()}  # fmt: skip
        inputs["item_id"] = tf.constant(list(ids[chunk]), tf.string)
        for name, values in arrays(item_inputs(inputs, tables, size, fitted, tokenizer)).items():
            parts.setdefault(name, []).append(values)
    columns = {name: with_row_0(stack(arrays)) for name, arrays in parts.items()}
    tokens = {name: columns[name] for name in ("input_ids", "attention_mask")} if text else None
    text_vectors = None
    if text and tokens:
        text_vectors = _text_vectors(tokens, text, vectors)
    means = _reviews(tables, items, reviews)
    catalogue = Catalogue(
        ids=np.array(["", *items], object),
        titles=np.array(["", *(row.get("title") or item for item, row in items.items())], object),
        features={feature.name: columns[feature.name] for feature in features},
        text_vectors=text_vectors,
        counts=counts.astype(np.int64),
        names={
            feature.name: np.array(
                ["", *(value.decode() for value in statistics.vocabularies[feature.vocabulary])], object
            )
            for feature in features
            if feature.kind in ("categorical", "categories")
        },
        text_tokens=tokens,
        reviews=means[0] if means else None,
        reviews_now=means[1] if means else None,
    )
    return catalogue, described(features, statistics, widths)


def _reviews(tables: Tables, items: Iterable[str], reviews: Reviews | None) -> list[np.ndarray]:
    """Means of the texts about each item as the catalogue holds them: of training, and of all."""
    if reviews is None or not catalogue_reviews(tables):
        return []
    (feature,) = pair_features(tables)
    found = ([mean(item) for item in items] for mean in (reviews.of_item, reviews.of_item_now))
    return [with_row_0(sparse(values, feature).numpy()) for values in found]


def _text_vectors(tokens: Mapping[str, np.ndarray], text: TextConfig, folder: str | None) -> np.ndarray:
    ids, mask = (tokens[name][1:] for name in ("input_ids", "attention_mask"))
    if folder is not None:
        return encode_items(ids, mask, text.pretrained(), folder)[0]
    with tempfile.TemporaryDirectory() as scratch:
        return encode_items(ids, mask, text.pretrained(), scratch)[0]


def described(
    features: Sequence[RawFeature], statistics: Statistics, widths: Mapping[RawFeature, int]
) -> tuple[Feature, ...]:
    """The features as models know them, with their sizes."""

    def size(feature: RawFeature) -> int:
        if feature.width is not None:
            return feature.width
        if feature.kind in ("categorical", "categories"):
            return statistics.size(feature.vocabulary)
        return widths.get(feature, 1)

    return tuple(
        Feature(feature.name, feature.kind, size(feature), feature.column, feature.modality)
        for feature in features
    )
