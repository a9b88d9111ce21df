"""Columns and values of any name, from tables to a served answer, step by step."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from pipeline.callbacks.run_data import RunData
from pipeline.config.pipeline_config import SplitConfig
from pipeline.config.trainer_settings import RankingSettings, read_settings
from pipeline.data.catalogue_reading import load_catalogue, read_examples
from pipeline.data.vocabularies import as_it_was
from tests.pipeline import steps
from tfrec_fusion.config import RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.features import columns as features
from tfrec_fusion.naming import context_input, context_inputs
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.server.embedded import EmbeddedServer

pytestmark = pytest.mark.slow

ITEM_CATEGORIES = (
    "index",
    "Index",
    "INDEX",
    "id",
    "activity",
    "Product Category",
    "product category",
    "Größe",
    "item_id",
    "",
)
ITEM_NUMBERS = ("train_count", "price (%)", "Price/kg", "x" * 300)
CONTEXT = ("Device Type", "Shop", "shop", "shop/web", "lieu é", "user_id", "text", "店")
USER_CATEGORIES, USER_NUMBERS = ("id", "activity", "Product Category"), ("index", "train_count")
LINES = "tea\nand\\n coffee\r"  # holds what line breaks are written as, beside line breaks
TOWER = TowerConfig(dim=4, history_encoder="mean", dropout=0.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"sku": ["new\nline", "a,b", *(f"s{number}" for number in range(14))]})
    for column in ITEM_CATEGORIES:
        items[column] = [LINES if row % 2 else f"tool {column[:3]}" for row in range(16)]
    for column in ITEM_NUMBERS:
        items[column] = np.arange(16) * 1.5
    users = pd.DataFrame({"who": ["first\r\nsecond", *(f"p{number}" for number in range(19))]})
    for column in USER_CATEGORIES:
        users[column] = ["chess" if row % 2 else "sport" for row in range(20)]
    for column in USER_NUMBERS:
        users[column] = np.arange(20)
    rows = [
        (who, items["sku"][2 * position + row % 2], 100 * step + row)
        for row, who in enumerate(users["who"])
        for step, position in enumerate(rng.permutation(8)[:6])
    ]
    orders = pd.DataFrame(rows, columns=["who", "sku", "at"])
    for column in CONTEXT:
        orders[column] = [LINES if row % 2 else "phone" for row in range(len(orders))]
    orders["weight"] = [2.0 ** (row % 7) for row in range(len(orders))]
    orders["rating"] = ["" if row % 3 == 0 else 1 + row % 5 for row in range(len(orders))]
    for name, frame in (("items", items), ("people", users), ("orders", orders)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    tables = Tables(
        Interactions(str(folder / "orders.csv"), "who", "sku", "at", "rating", CONTEXT, weight="weight"),
        Items(str(folder / "items.csv"), "sku", categories=ITEM_CATEGORIES, numbers=ITEM_NUMBERS),
        Users(str(folder / "people.csv"), "who", categories=USER_CATEGORIES, numbers=USER_NUMBERS),
    )
    steps.prepared(folder, tables, SplitConfig(method="leave_last_out", history_length=6, long_history=6))
    return folder, tables, items, orders


def test_transform_keeps_every_column_apart_from_the_pipelines_own(shop):
    folder, tables, items, _ = shop
    catalogue = load_catalogue(str(folder / "items"), str(folder / "items_graph"), tables, None)
    assert sorted(catalogue.ids[1:]) == sorted(items["sku"])
    made = features.item_features(tables)
    assert sorted(catalogue.features) == sorted(feature.name for feature in made)
    rows = {item: row for row, item in enumerate(catalogue.ids)}
    order = [rows[item] for item in items["sku"]]
    for feature in made:
        values = catalogue.features[feature.name][order]
        if feature.kind == "number":
            expected = (items[feature.column] - items[feature.column].mean()) / items[feature.column].std(
                ddof=0
            )
            np.testing.assert_allclose(values, expected, rtol=1e-5)
        else:
            names = catalogue.names[feature.name][values]
            assert list(names) == [str(value).strip() for value in items[feature.column]]
    graph = tft.TFTransformOutput(str(folder / "interactions_graph"))
    spec = graph.transformed_feature_spec()
    batch = next(iter(read_examples(str(folder / "interactions"), "train", spec)))
    assert len(np.unique(batch["user_index"])) == 20 and batch["user_index"].numpy().min() == 1
    for feature in features.context_features(tables):
        assert set(batch[feature.name].numpy()) == {1, 2}


def test_weights_stay_beside_their_choices_and_missing_grades_are_none(shop):
    folder, tables, _, orders = shop
    run = RunData(
        *read_settings(RankingSettings, steps.arguments(folder, tables, RankingConfig()).custom_config)
    )
    users = run.transform.vocabulary_by_name(features.USER_VOCABULARY)
    users = ["", *(as_it_was(value).decode() for value in users)]
    given = {(row.who, row.sku): row for row in orders.itertuples()}
    seen = missing = 0
    for batch in run.batches("train", 7, shuffle=None).as_numpy_iterator():
        for row, user in enumerate(batch["user_index"]):
            order = given[users[user], run.catalogue.ids[batch["item_index"][row]]]
            assert batch["weight"][row] == order.weight
            if order.rating == "":
                assert np.isnan(batch["rating"][row]) and batch["click"][row] == 1.0
                missing += 1
            else:
                assert batch["rating"][row] == order.rating
            for item, weight in zip(batch["history"][row], batch["history_weight"][row], strict=True):
                known = given.get((users[user], run.catalogue.ids[item]))
                assert weight == (known.weight if item else 0.0)
            seen += 1
    assert seen == 20 * 4 and missing == 20 * 2


def test_retrieval_answers_by_the_columns_own_names(shop):
    folder, tables, items, _ = shop
    config = RetrievalConfig(TOWER, TrainingConfig(epochs=1, batch_size=16))
    loaded = steps.trained(folder, tables, config)
    inputs = {
        spec.name for spec in tf.nest.flatten(loaded.signatures["recommend"].structured_input_signature)
    }
    assert set(context_inputs(CONTEXT)) < inputs
    result = loaded.signatures["describe"](count=tf.constant(0))
    shown = [value.decode() for value in result["context_columns"].numpy()]
    assert shown == list(CONTEXT)
    assert [value.decode() for value in result["context_inputs"].numpy()] == context_inputs(CONTEXT)

    base = folder / "serving" / "retrieval"
    base.mkdir(parents=True)
    (base / "1").symlink_to(folder / "retrieval" / "model", target_is_directory=True)
    with EmbeddedServer({"retrieval": str(base)}) as server:
        server.wait_ready(60)
        with Client.connect(f"http://127.0.0.1:{server.rest_port}", "retrieval") as client:
            known = client.recommend("first\r\nsecond", k=16, **{"Device Type": LINES, "店": "phone"})
            assert len(known) == 10  # six of sixteen are seen
            everything = client.recommend("p3", k=16, include_seen=True, **{"shop/web": "phone"})
            assert {item.item_id for item in everything} == set(items["sku"])
            tea = client.recommend("p3", k=16, include_seen=True, categories=[LINES.strip()])
            assert {item.item_id for item in tea} == set(items["sku"][1::2])
            with pytest.raises(ValueError, match="no input 'nothing'"):
                client.recommend("p3", nothing="x")


def test_ranking_answers_by_the_columns_own_names(shop):
    folder, tables, _, _ = shop
    config = RankingConfig(TOWER, TrainingConfig(epochs=1, batch_size=32), hidden=(4,))
    loaded = steps.trained(folder, tables, config)
    rank = loaded.signatures["rank"]
    fed = {spec.name: tf.constant([""]) for spec in tf.nest.flatten(rank.structured_input_signature)}
    fed |= {"history": tf.zeros([1, 0], tf.string), "texts": tf.constant([["", ""]])}
    fed |= {"item_ids": tf.constant([["new\nline", "s3"]]), context_input("lieu é"): tf.constant([LINES])}
    answer = rank(**fed)
    assert np.isfinite(answer["click"].numpy()).all() and np.isfinite(answer["rating"].numpy()).all()
