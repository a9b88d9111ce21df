"""The features of a run, derived from the tables' columns: the one list that schemas, Transform, trainers,
slices and signatures are made from, and the one owner of what each is called where.

A column may be called anything, also `index`, `activity` or what the pipeline itself calls something. So
every feature made of a column has a name that no other feature can have:

| where | name | `Price (EUR)` among the items' numbers |
|---|---|---|
| in Examples, in Transform's graph and in models | `RawFeature.name` | `item_number___price_eur_a8e7…` |
| the file of its vocabulary | `RawFeature.vocabulary` | letters and digits, safe on case-blind file systems |
| as an input of a request (context alone) | `RawFeature.name` | |
| shown to people, and in `evaluation.slices` | `RawFeature.shown` | `item_Price (EUR)` |

Names of what the pipeline makes itself hold no `__` and do not begin with `context_`; names made of columns
do.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_fusion import naming
from tfrec_fusion.config import FeatureKind
from tfrec_fusion.datasets.tables import Tables

ITEM_VOCABULARY = "item_id"
USER_VOCABULARY = "user_id"
# What is known of an interaction only when it is over, or is asked of the model.
NOT_SERVED = (
    "label",
    "click",
    "time",
    "weight",
    "history_weight",
    "item_train_count",
    "item_activity",
    "user_activity",
)
Role = Literal["user", "item", "context", "text"]


@dataclasses.dataclass(frozen=True)
class RawFeature:
    """A column in one of its roles, as it stands in the Examples before Transform.

    Attributes:
        role: whose column it is, `text` for what the text tower reads of items.
        kind: as in `tfrec_fusion.config.Feature`; text is `categorical`, a string.
        column: what its table calls it.
        request: the input of a request that takes it, of context.
    """

    role: Role
    kind: FeatureKind
    column: str
    request: str = ""

    @property
    def name(self) -> str:
        """What it is called in Examples, in Transform's graph and in models."""
        if self.request:
            return self.request
        kind = "" if self.role == "text" else f"_{self.kind}"
        return f"{self.role}{kind}__{naming.identifier(self.column)}"

    @property
    def vocabulary(self) -> str:
        """What the file of its values is called."""
        return f"values_{naming.digest(self.name)}"

    @property
    def shown(self) -> str:
        """What people see: `item_price`."""
        return f"{self.role}_{self.column}"


def user_features(tables: Tables) -> list[RawFeature]:
    """Side features of people."""
    if not tables.users:
        return []
    return _features("user", {"categorical": tables.users.categories, "number": tables.users.numbers})


def context_features(tables: Tables) -> list[RawFeature]:
    """What is known of the moment of a choice."""
    columns = list(dict.fromkeys(tables.interactions.context))
    return [
        RawFeature("context", "categorical", column, request)
        for column, request in zip(columns, naming.context_inputs(columns), strict=True)
    ]


def item_features(tables: Tables) -> list[RawFeature]:
    """Side features of items, without their text."""
    items = tables.items
    columns = {
        "categorical": items.categories,
        "categories": items.lists,
        "number": items.numbers,
        "vector": items.vectors,
    }
    return _features("item", columns)


def text_features(tables: Tables) -> list[RawFeature]:
    """The text fields, in the order in which the text tower reads them."""
    return _features("text", {"categorical": tables.items.text})


def _features(role: Role, columns: dict[FeatureKind, tuple[str, ...]]) -> list[RawFeature]:
    # A column that is named twice in one role is one feature.
    return [
        RawFeature(role, kind, column) for kind, names in columns.items() for column in dict.fromkeys(names)
    ]


def shown_names(tables: Tables) -> dict[str, str]:
    """Name in Examples → what people see, of all features that are made of columns."""
    found = user_features(tables) + context_features(tables) + item_features(tables) + text_features(tables)
    return {feature.name: feature.shown for feature in found}


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
        _add_column(schema, feature, kind, most, share=1e-6)


def _add_column(
    schema: schema_pb2.Schema, feature: RawFeature, kind: int, most: int | None = 1, share: float = 0
):
    """Adds a feature that is made of a column; its annotation says what people call it."""
    _add(schema, feature.name, kind, most, share).annotation.comment.append(feature.shown)


def shown_in(schema: schema_pb2.Schema) -> dict[str, str]:
    """Name in Examples → what people see, of a schema's features that are made of columns."""
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
    if tables.interactions.weighted:
        _add(schema, "weight", schema_pb2.FLOAT)
        _add(schema, "history_weight", schema_pb2.FLOAT, most=None).in_environment.append("train")
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
    for feature in text_features(tables):
        _add_column(schema, feature, schema_pb2.BYTES, share=min_text_share)
    _add_side(schema, item_features(tables))
    return schema
