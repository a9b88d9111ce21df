"""Transformed items and text vectors as the library's `Catalogue`, and users as serving needs them."""

from __future__ import annotations

import glob
import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.data.vocabularies import read_vocabulary
from tfrec_fusion.config import Feature, FeatureSpace
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features import columns as names
from tfrec_fusion.features.padding import stack, with_row_0
from tfrec_fusion.models.catalogue import Catalogue, check_numbers
from tfrec_fusion.naming import ITEM_REVIEWS, ITEM_REVIEWS_NOW

TOKENS = ("input_ids", "attention_mask")


def split_files(examples_uri: str, split: str) -> list[str]:
    """The TFRecord files of one split of an Examples artifact, sorted."""
    files = sorted(glob.glob(os.path.join(glob.escape(examples_uri), f"Split-{split}", "*")))
    return [file for file in files if os.path.isfile(file)]


def read_examples(examples_uri: str, split: str, spec: dict, batch_size: int = 4096) -> tf.data.Dataset:
    """Batches of parsed Examples, in the order of the files."""
    records = tf.data.TFRecordDataset(split_files(examples_uri, split), compression_type="GZIP")
    return records.batch(batch_size).map(lambda batch: tf.io.parse_example(batch, spec))


def read_items(
    examples_uri: str, features: list[str] | None = None, spec: dict | None = None
) -> dict[str, np.ndarray]:
    """Transformed items in the order of `item_index`, which runs from 1.

    Args:
        examples_uri: the transformed items.
        features: integer features of fixed length to read, where no `spec` is given.
        spec: a parsing specification.

    Returns:
        Arrays whose first dimension counts the items; features of varying length are padded with 0.
    """
    if spec is None:
        spec = {
            name: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True) for name in features or []
        }
        spec["item_index"] = tf.io.FixedLenFeature([], tf.int64)
    parts: dict[str, list[np.ndarray]] = {}
    for batch in read_examples(examples_uri, "all", spec):
        for name, value in batch.items():
            dense = tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
            parts.setdefault(name, []).append(dense.numpy())
    columns = {name: stack(arrays) for name, arrays in parts.items()}
    order = np.argsort(columns["item_index"], kind="stable")
    index = columns["item_index"][order]
    if not np.array_equal(index, np.arange(1, len(index) + 1)):
        raise ValueError(
            f"The items' indices must run from 1 to {len(index)} without a gap. Received: {index[:5]} …"
            f" {index[-5:]}. Items and their vocabulary come from different runs; run Transform again."
        )
    return {name: value[order] for name, value in columns.items()}


def load_catalogue(items_uri: str, transform_uri: str, tables: Tables, vectors_uri: str | None) -> Catalogue:
    """The catalogue of a run, one row per item index, row 0 for the unknown item."""
    transform = tft.TFTransformOutput(transform_uri)
    columns = read_items(items_uri, spec=transform.transformed_feature_spec())
    side, values = {}, {}
    ids = np.array([""] + [value.decode() for value in columns["item_id"]], object)
    for feature in names.item_features(tables):
        dtype = np.int32 if feature.kind in ("categorical", "categories") else np.float32
        side[feature.name] = with_row_0(columns[feature.name].astype(dtype))
        check_numbers(feature.shown, side[feature.name], ids)
        if dtype == np.int32:
            known = [
                value.decode("utf-8", "replace") for value in read_vocabulary(transform, feature.vocabulary)
            ]
            values[feature.name] = np.array(["", *known], object)
    means = {
        feature.name: with_row_0(columns[feature.name].astype(np.float32))
        for feature in names.catalogue_reviews(tables)
    }
    return Catalogue(
        ids=ids,
        titles=np.array([""] + [value.decode() for value in columns["title"]], object),
        features=side,
        text_vectors=(
            np.load(os.path.join(vectors_uri, "vectors.npy"), mmap_mode="r") if vectors_uri else None
        ),
        counts=with_row_0(columns["train_count"].astype(np.int64)),
        names=values,
        text_tokens={name: with_row_0(columns[name].astype(np.int32)) for name in TOKENS if name in columns}
        or None,
        reviews=means.get(ITEM_REVIEWS),
        reviews_now=means.get(ITEM_REVIEWS_NOW),
    )


def feature_space(
    interactions: tft.TFTransformOutput,
    items: tft.TFTransformOutput,
    tables: Tables,
    catalogue: Catalogue,
    history: int,
    repeats: bool = False,
) -> FeatureSpace:
    """Sizes of everything that a model reads, from what Transform found; `history` and `repeats` are
    `FeatureSpace.history_length` and `.repeats`."""

    def described(features: list[names.RawFeature], transform: tft.TFTransformOutput) -> tuple[Feature, ...]:
        found = []
        for feature in features:
            size = 1
            if feature.kind in ("categorical", "categories"):
                size = transform.vocabulary_size_by_name(feature.vocabulary) + 1
            elif feature.width is not None:
                size = feature.width
            elif feature.kind == "vector":
                size = catalogue.features[feature.name].shape[1]
            found.append(Feature(feature.name, feature.kind, size, feature.column, feature.modality))
        return tuple(found)

    return FeatureSpace(
        num_users=interactions.vocabulary_size_by_name(names.USER_VOCABULARY) + 1,
        num_items=len(catalogue),
        user_features=described(names.user_features(tables), interactions),
        item_features=described(names.item_features(tables), items),
        context_features=described(names.context_features(tables), interactions),
        text_dim=None if catalogue.text_vectors is None else catalogue.text_vectors.shape[1],
        history_length=history,
        review_dim=None if catalogue.reviews is None else catalogue.reviews.shape[1],
        repeats=repeats,
    )
