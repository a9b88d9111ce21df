"""The features of a run, derived from the tables' columns: the one list that schemas, Transform, trainers and
signatures are made from.

Names: `user_…`, `item_…` and `context_…` before the column's own name, `text_…` for what the text tower reads.
"""

from __future__ import annotations

import dataclasses

from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_fusion.config import FeatureKind
from tfrec_fusion.datasets.tables import Tables

ITEM_VOCABULARY = "item_id"
USER_VOCABULARY = "user_id"


@dataclasses.dataclass(frozen=True)
class RawFeature:
    """A column as it stands in the Examples: `kind` as in `tfrec_fusion.config.Feature`, before Transform."""

    name: str
    kind: FeatureKind


def user_features(tables: Tables) -> list[RawFeature]:
    """Side features of people."""
    if not tables.users:
        return []
    return [RawFeature(f"user_{column}", "categorical") for column in tables.users.categories] + [
        RawFeature(f"user_{column}", "number") for column in tables.users.numbers
    ]


def context_features(tables: Tables) -> list[RawFeature]:
    """What is known of the moment of a choice."""
    return [RawFeature(f"context_{column}", "categorical") for column in tables.interactions.context]


def item_features(tables: Tables) -> list[RawFeature]:
    """Side features of items, without their text."""
    items = tables.items
    return (
        [RawFeature(f"item_{column}", "categorical") for column in items.categories]
        + [RawFeature(f"item_{column}", "categories") for column in items.lists]
        + [RawFeature(f"item_{column}", "number") for column in items.numbers]
        + [RawFeature(f"item_{column}", "vector") for column in items.vectors]
    )


def text_features(tables: Tables) -> list[str]:
    """Names of the text fields, in the order in which the text tower reads them."""
    return [f"text_{column}" for column in tables.items.text]


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
        _add(schema, feature.name, kind, 1 if feature.kind in ("categorical", "number") else None, share=1e-6)


def interactions_schema(tables: Tables) -> schema_pb2.Schema:
    """What every interaction Example must look like."""
    schema = schema_pb2.Schema()
    held_out = ["validation", "test"]
    schema.default_environment.extend(["train", *held_out])
    _add(schema, "user_id", schema_pb2.BYTES, required=True)
    _add(schema, "item_id", schema_pb2.BYTES, required=True)
    _add(schema, "time", schema_pb2.INT, required=True)
    if tables.interactions.label:
        _add(schema, "label", schema_pb2.FLOAT, required=True)
    _add(schema, "click", schema_pb2.FLOAT, required=True)
    _add(schema, "history", schema_pb2.BYTES, most=None)
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
    for name in text_features(tables):
        _add(schema, name, schema_pb2.BYTES, share=min_text_share)
    _add_side(schema, item_features(tables))
    return schema
