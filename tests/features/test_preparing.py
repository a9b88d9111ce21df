"""Tables into arrays: numbers, vocabularies, histories and texts, worked out from the files by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.config.pipeline_config import SplitConfig
from pipeline.studies.ablation import prepared
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder)
    return folder, config, prepared(config)


def test_each_interaction_is_in_the_split_of_its_time_with_its_own_past(shop):
    folder, _, data = shop
    orders = pd.read_csv(folder / "orders.csv").sort_values("at")
    sizes = [len(part["item_index"]) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == len(orders) == 320
    assert sizes[1:] == [32, 32]
    sku = data.catalogue.ids
    for row in range(sizes[2]):
        own = orders[orders["who"] == np.unique(orders["who"][-32:])[data.users[row]]]
        before = own[own["at"] < orders["at"].iloc[-32]]["sku"].tolist()
        history = [sku[item] for item in data.test["history"][row] if item]
        assert history == before[-8:]
        assert set(sku[data.seen[row]]) == set(before)
    assert data.train["history"].shape[1] == 6
    assert data.test["history"].shape == (32, 8)
    np.testing.assert_array_equal(data.catalogue.counts, np.bincount(data.train["item_index"], minlength=25))


def test_features_are_what_transform_makes_of_them(shop):
    folder, _, data = shop
    # Every item is listed once: equally frequent values come in reverse order of their bytes.
    assert list(data.catalogue.ids[1:]) == sorted((f"s{number}" for number in range(24)), reverse=True)
    items = pd.read_csv(folder / "items.csv").set_index("sku").loc[data.catalogue.ids[1:]].reset_index()
    features = data.catalogue.features
    price = items["price"]
    np.testing.assert_allclose(
        features["item_number__price"][1:], (price - price.mean()) / price.std(ddof=0), rtol=1e-5
    )
    assert list(data.catalogue.names["item_categorical__shelf"]) == ["", "tool", "tea"]
    shelf = data.catalogue.names["item_categorical__shelf"][features["item_categorical__shelf"][1:]]
    assert list(shelf) == list(items["shelf"])
    # 16 of 24 items are red and small, so these come first.
    assert list(data.catalogue.names["item_categories__tags"][1:]) == ["small", "red", "blue"]
    rows = items["tags"].map({"red|small": [2, 1], "blue": [3, 0]}).tolist()
    np.testing.assert_array_equal(features["item_categories__tags"][1:], rows)
    assert {feature.name: feature.size for feature in data.space.item_features} == {
        "item_categorical__shelf": 3, "item_categories__tags": 4, "item_number__price": 1,
    }  # fmt: skip
    # Most users come by web, which is the more frequent place.
    assert np.mean(data.train["context_place"] == 1) > 0.6
    assert abs(data.train["user_number__age"].mean()) < 1e-5


def test_texts_are_joined_encoded_and_missing_ones_are_zero(shop):
    from tfrec_fusion.layers.bulk_encoding import encode_texts
    from tfrec_fusion.layers.text_encoder import TextEncoder
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

    _, config, data = shop
    tokenizer = load_tokenizer(config.text.encoder, max_length=8)
    expected = encode_texts(
        tokenizer, TextEncoder.from_pretrained(config.text.encoder, normalize=True), ["tool red. red small"]
    )
    vectors = dict(zip(data.catalogue.ids, data.catalogue.text_vectors, strict=True))
    np.testing.assert_allclose(vectors["s1"].astype(np.float32), expected[0], atol=2e-3)
    assert (vectors[""] == 0).all()
    assert (vectors["s5"] != 0).any()  # no name, but tags
    assert data.catalogue.text_tokens["input_ids"].shape == (25, 8)
    assert not data.catalogue.text_tokens["attention_mask"][0].any()


def test_profiles_hold_everything_and_a_request_is_encoded_like_training(shop):
    folder, _, data = shop
    profiles = data.known.profiles
    orders = pd.read_csv(folder / "orders.csv").sort_values("at")
    for row, user in list(enumerate(profiles.ids))[1::7]:
        own = orders["sku"][orders["who"] == user].tolist()
        seen = profiles.seen_items[profiles.seen_splits[row] : profiles.seen_splits[row + 1]]
        assert list(data.catalogue.ids[seen]) == own
    request = {
        "user_id": tf.constant([profiles.ids[3], "nobody"]),
        "context_place": tf.sparse.from_dense(tf.constant([["web"], ["pigeon"]])),
    }
    answer = data.known.transform(request)
    assert set(answer) == {"user_index", "context_place"}
    assert answer["user_index"].numpy().tolist() == [profiles.features["user_index"][3], 0]
    assert answer["context_place"].numpy().tolist() == [1, 0]
    assert profiles.features["user_index"][0] == 0


def test_an_empty_split_is_refused(shop):
    _, config, _ = shop
    tiny = dataclasses.replace(config, split=SplitConfig(validation=1e-9, test=1e-9))
    with pytest.raises(ConfigError, match="The validation split has no interactions"):
        prepared(tiny)


def test_rejected_rows_are_counted_by_reason(tmp_path):
    config = write_shop(tmp_path)
    orders = pd.read_csv(tmp_path / "orders.csv")
    more = pd.concat([orders, orders[:2], orders[:1].assign(sku="ghost"), orders[:3].assign(who=None)])
    more.to_csv(tmp_path / "orders.csv", index=False)
    result = prepared(dataclasses.replace(config, text=None))
    assert result.rejects == {
        ("interactions", "duplicate"): 2,
        ("interactions", "unknown item"): 1,
        ("interactions", "missing user id"): 3,
    }
    assert sum(len(part["item_index"]) for part in (result.train, result.validation, result.test)) == len(
        orders
    )
