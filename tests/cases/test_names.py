"""Cases about what columns are called."""

import shutil

import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.data import schemas
from tests.cases.reading import cells, entities, needs_cases, tables
from tfrec_fusion import naming
from tfrec_fusion.features import columns as features

pytestmark = needs_cases


@pytest.mark.parametrize("name", ["names_slash", "names_spaces", "names_unicode"])
def test_any_name_of_a_column_works(opened, validate, name):
    import tensorflow as tf

    opened("report-12")
    status, said = validate(f"{name}.yaml")
    read = tables(f"{name}.yaml")
    assert status == 0
    for columns in (
        read.items.categories,
        read.items.numbers,
        read.users.categories,
        read.interactions.context,
    ):
        assert columns and all(column in said for column in columns)
    made = features.item_features(read) + features.user_features(read) + features.context_features(read)
    with tf.Graph().as_default():
        for feature in made:
            with tf.name_scope(f"item_tower/features/{feature.name}"):
                assert feature.name in tf.constant(1).name
    (given,) = naming.context_inputs(read.interactions.context)
    function = tf.function(lambda **inputs: {"out": inputs[given]})
    spec = function.get_concrete_function(**{given: tf.TensorSpec([None], tf.string, given)})
    assert [one.name for one in tf.nest.flatten(spec.structured_input_signature)] == [given]
    assert naming.find_input(read.interactions.context[0], [given]) == given


OWN = {
    "item_index",
    "user_index",
    "item_id",
    "user_id",
    "history",
    "seen",
    "click",
    "label",
    "rating",
    "title",
    "train_count",
}


@pytest.mark.parametrize(
    "name",
    [
        f"collide_{name}"
        for name in (
            "id_category",
            "index_category",
            "index_number",
            "item_activity",
            "item_train_count",
            "user_activity",
            "user_id",
            "user_index",
        )
    ],
)
def test_a_column_never_takes_the_place_of_the_pipelines_own(opened, validate, name):
    folder = opened("report-13")
    read = tables(f"{name}.yaml")
    for schema in (schemas.interactions_schema(read), schemas.items_schema(read, 0.0)):
        names = [feature.name for feature in schema.feature]
        assert len(set(names)) == len(names)
    made = features.item_features(read) + features.user_features(read)
    assert not {feature.name for feature in made} & OWN
    for table, kind, key in ((read.items, "items", "sku"), (read.users, "users", "who")):
        found, rejects = entities(table, kind)
        rows = cells(folder / name / f"{kind}.csv")
        assert list(found) == [row[key] for row in rows] and not rejects
        for feature in made:
            if feature.role == kind[:-1]:
                for row in rows:
                    value = found[row[key]][feature.name]
                    assert value == (
                        float(row[feature.column]) if feature.kind == "number" else row[feature.column]
                    )
    assert validate(f"{name}.yaml")[0] == 0


def test_init_takes_no_number_of_a_row_for_a_feature(opened, capsys):
    """`init` chose `numbers: [index]` by itself."""
    folder = opened("report-13")
    shutil.copytree(folder / "collide_user_index", folder / "t")
    assert cli.main(["init", "t", "--name", "x"]) == 0
    assert "index" not in str(yaml.safe_load((folder / "x.yaml").read_text())["data"])
    assert "index" in capsys.readouterr().out.partition("left out")[2]
