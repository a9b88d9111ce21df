"""The schemas of Examples, made of the tables' columns: what Transform, statistics and validators go by."""

from __future__ import annotations

from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import (
    RawFeature,
    catalogue_reviews,
    context_features,
    item_features,
    label_feature,
    pair_features,
    text_features,
    user_features,
)


def _add(
    schema: schema_pb2.Schema,
    name: str,
    kind: int,
    most: int | None = 1,
    share: float = 0.0,
    required: bool = False,
) -> schema_pb2.Feature:
    """Adds a feature: `required` ones are in every Example once; others are in at least `share` of them."""
    feature = schema.feature.add(name=name, type=kind)
    if required:
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        feature.shape.SetInParent()
    else:
        if share:
            feature.presence.min_fraction = share
            feature.presence.min_count = 1
        feature.value_count.min = 1
        if most:
            feature.value_count.max = most
    return feature


def _add_side(schema: schema_pb2.Schema, features: list[RawFeature]) -> None:
    for feature in features:
        kind = schema_pb2.BYTES if feature.kind in ("categorical", "categories") else schema_pb2.FLOAT
        # A column without a single value is a mistake in the file or in the configuration.
        most = 1 if feature.kind in ("categorical", "number") else None
        # Of a graph nobody in a split may have an edge.
        _add_column(schema, feature, kind, most, share=1e-6 if feature.width is None else 0.0)


def _add_column(
    schema: schema_pb2.Schema, feature: RawFeature, kind: int, most: int | None = 1, share: float = 0
) -> None:
    """Adds a feature that is made of a column; its annotation says the name of its column."""
    _add(schema, feature.name, kind, most, share).annotation.comment.append(feature.shown)


def shown_in(schema: schema_pb2.Schema) -> dict[str, str]:
    """Name in Examples → shown name, of a schema's features that are made of columns."""
    return {
        feature.name: feature.annotation.comment[0]
        for feature in schema.feature
        if feature.annotation.comment
    }


def interactions_schema(tables: Tables) -> schema_pb2.Schema:
    """What every interaction Example must look like."""
    schema = schema_pb2.Schema()
    held_out = ["validation", "test"]
    schema.default_environment.extend(["train", *held_out])
    _add(schema, "user_id", schema_pb2.BYTES, required=True)
    _add(schema, "item_id", schema_pb2.BYTES, required=True)
    _add(schema, "time", schema_pb2.INT, required=True)
    if tables.interactions.label:
        _add(schema, "label", schema_pb2.FLOAT, share=1e-6)  # who chose without an opinion gave none
    for label in tables.further_labels:  # a split may have none; training says where it lacks what it needs
        _add(schema, label_feature(label), schema_pb2.FLOAT)
    if tables.shows:
        _add(schema, "chosen", schema_pb2.FLOAT, required=True)
        _add(schema, "exposure", schema_pb2.FLOAT, required=True)
    if tables.weighted:
        _add(schema, "weight", schema_pb2.FLOAT)
        _add(schema, "history_weight", schema_pb2.FLOAT, most=None).in_environment.append("train")
    _add(schema, "click", schema_pb2.FLOAT, required=True)
    _add(schema, "history", schema_pb2.BYTES, most=None)
    for feature in pair_features(tables):  # a split may be earlier than every text
        _add_column(schema, feature, schema_pb2.FLOAT, most=None)
    _add_side(schema, user_features(tables) + context_features(tables))
    for name, kind in (("seen", schema_pb2.BYTES), ("item_train_count", schema_pb2.INT)):
        _add(schema, name, kind, most=None).in_environment.extend(held_out)
    for name, values in (
        ("user_activity", ["new", "light", "regular"]),
        ("item_activity", ["cold", "rare", "common"]),
    ):
        feature = _add(schema, name, schema_pb2.BYTES)
        feature.in_environment.extend(held_out)
        feature.string_domain.name = name
        feature.string_domain.value.extend(values)
    return schema


def items_schema(tables: Tables, min_text_share: float) -> schema_pb2.Schema:
    """What every item Example must look like; `min_text_share` 0 where the text tower is off."""
    schema = schema_pb2.Schema()
    _add(schema, "item_id", schema_pb2.BYTES, required=True)
    _add(schema, "title", schema_pb2.BYTES, required=True)
    _add(schema, "train_count", schema_pb2.INT, required=True)
    generated = tables.items.generated
    for feature in text_features(tables):
        # Not every item has a generated text, and where it stands instead of its own texts, it has none of
        # those.
        given = generated is None or (generated.use != "instead" and feature.column != generated.column)
        _add_column(schema, feature, schema_pb2.BYTES, share=min_text_share if given else 0.0)
    for feature in catalogue_reviews(tables):
        _add_column(schema, feature, schema_pb2.FLOAT, most=None)
    _add_side(schema, item_features(tables))
    return schema
