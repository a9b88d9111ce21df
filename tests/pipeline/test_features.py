"""What features are called: columns of any name beside what the pipeline makes itself."""

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.config.pipeline_config import ConfigError
from pipeline.data import schemas
from pipeline.evaluation import slices
from tests.test_naming import PATIENT, columns
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.features import columns as features

# Everything that Examples, Transform's outputs and batches hold beside features made of columns.
OWN = {
    "user_id",
    "item_id",
    "time",
    "label",
    "click",
    "weight",
    "history",
    "history_weight",
    "seen",
    "item_train_count",
    "user_activity",
    "item_activity",
    "title",
    "train_count",
    "user_index",
    "item_index",
    "rating",
    "input_ids",
    "attention_mask",
    "text_vector",
}
some = st.lists(columns, max_size=4).map(tuple)
HOSTILE = (
    "index",
    "Device",
    "device",
    "DEVICE",
    "id",
    "activity",
    "train_count",
    "item_id",
    "Index",
    "a b",
    "a_b",
    "",
)


def tables(item=(), lists=(), numbers=(), vectors=(), text=(), user=(), user_numbers=(), context=()):
    return Tables(
        Interactions(path="i.csv", context=tuple(context)),
        Items(path="f.csv", text=text, categories=item, lists=lists, numbers=numbers, vectors=vectors),
        Users(path="u.csv", categories=user, numbers=user_numbers),
    )


def every(found):
    return (
        features.item_features(found)
        + features.user_features(found)
        + features.context_features(found)
        + features.text_features(found)
    )


@PATIENT
@given(st.lists(some, min_size=8, max_size=8))
@example([HOSTILE] * 8)
def test_no_feature_meets_another_or_one_of_the_pipelines_own(names):
    found = tables(*names)
    made = every(found)
    assert len(made) == sum(len(set(role)) for role in names)
    assert len({feature.name.lower() for feature in made}) == len(made)
    assert len({feature.vocabulary.lower() for feature in made}) == len(made)
    assert not {feature.name for feature in made} & OWN
    assert not any(feature.name.startswith(("slice_", "baseline_")) for feature in made)


@PATIENT
@given(some, some, some)
@example(HOSTILE, HOSTILE, HOSTILE)
def test_the_tables_own_name_comes_back(item, numbers, context):
    found = tables(item, numbers=numbers, context=context)
    schema = schemas.interactions_schema(found)
    assert schemas.shown_in(schema).items() <= features.shown_names(found).items()
    shown = features.shown_names(found)
    assert {shown[feature.name] for feature in features.context_features(found)} == {
        f"context_{column}" for column in context
    }
    assert [feature.column for feature in features.context_features(found)] == list(dict.fromkeys(context))


@PATIENT
@given(some, some, some, some)
@example(("activity", "reach"), ("activity (column)",), ("activity",), ("period",))
def test_each_column_has_a_slice_of_its_own(item, numbers, user, context):
    found = tables(item, numbers=numbers, user=user, context=context)
    sliced = slices.sliced_columns(found)
    assert not set(sliced) & set(slices.DERIVED)
    assert sorted(feature.name for feature in sliced.values()) == sorted(
        feature.name for feature in every(found) if feature.kind != "vector" and feature.role != "text"
    )
    slices.check_slices([*sliced, *slices.DERIVED], found)


def test_slices_are_called_as_the_table_calls_the_column():
    found = tables(("Product Category", "activity"), context=("Device Type",))
    assert list(slices.sliced_columns(found)) == [
        "item_Product Category",
        "item_activity (column)",
        "context_Device Type",
    ]
    with pytest.raises(ConfigError, match="item_Product Category"):
        slices.check_slices(["item_product"], found)


def test_the_pipelines_own_features_are_all_listed():
    found = dataclasses.replace(tables(), interactions=Interactions(path="i.csv", label="stars"))
    made = schemas.interactions_schema(found).feature, schemas.items_schema(found, 0.0).feature
    assert {feature.name for schema in made for feature in schema} <= OWN
