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


def every(result):
    return (
        features.item_features(result)
        + features.user_features(result)
        + features.context_features(result)
        + features.text_features(result)
    )


@PATIENT
@given(st.lists(some, min_size=8, max_size=8))
@example([HOSTILE] * 8)
def test_no_feature_meets_another_or_one_of_the_pipelines_own(names):
    result = tables(*names)
    made = every(result)
    assert len(made) == sum(len(set(role)) for role in names)
    assert len({feature.name.lower() for feature in made}) == len(made)
    assert len({feature.vocabulary.lower() for feature in made}) == len(made)
    assert not {feature.name for feature in made} & OWN
    assert not any(feature.name.startswith(("slice_", "baseline_")) for feature in made)


@PATIENT
@given(some, some, some)
@example(HOSTILE, HOSTILE, HOSTILE)
def test_the_tables_own_name_comes_back(item, numbers, context):
    result = tables(item, numbers=numbers, context=context)
    schema = schemas.interactions_schema(result)
    assert schemas.shown_in(schema).items() <= features.shown_names(result).items()
    shown = features.shown_names(result)
    assert {shown[feature.name] for feature in features.context_features(result)} == {
        f"context_{column}" for column in context
    }
    assert [feature.column for feature in features.context_features(result)] == list(dict.fromkeys(context))


@PATIENT
@given(some, some, some, some)
@example(("activity", "reach"), ("activity (column)",), ("activity",), ("period",))
def test_each_column_has_a_slice_of_its_own(item, numbers, user, context):
    result = tables(item, numbers=numbers, user=user, context=context)
    sliced = slices.sliced_columns(result)
    assert not set(sliced) & set(slices.DERIVED)
    assert sorted(feature.name for feature in sliced.values()) == sorted(
        feature.name for feature in every(result) if feature.kind != "vector" and feature.role != "text"
    )
    slices.check_slices([*sliced, *slices.DERIVED], result)


def test_slices_are_called_as_the_table_calls_the_column():
    result = tables(("Product Category", "activity"), context=("Device Type",))
    assert list(slices.sliced_columns(result)) == [
        "item_Product Category",
        "item_activity (column)",
        "context_Device Type",
    ]
    with pytest.raises(ConfigError, match="item_Product Category"):
        slices.check_slices(["item_product"], result)


def test_the_pipelines_own_features_are_all_listed():
    result = dataclasses.replace(tables(), interactions=Interactions(path="i.csv", label="stars"))
    made = schemas.interactions_schema(result).feature, schemas.items_schema(result, 0.0).feature
    assert {feature.name for schema in made for feature in schema} <= OWN
