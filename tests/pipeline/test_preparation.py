"""Tables into arrays: numbers, vocabularies, histories and texts, worked out from the files by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipeline.config.pipeline_config import SplitConfig
from pipeline.studies.preparation import prepare
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder)
    return folder, config, prepare(config)


def test_each_interaction_is_in_the_split_of_its_time_with_its_own_past(shop):
    folder, _, data = shop
    orders = pd.read_csv(folder / "orders.csv").sort_values("at")
    sizes = [len(part["item_index"]) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == len(orders) == 320
    assert sizes[1:] == [32, 32]
    sku = data.catalogue.ids
    for row in range(sizes[2]):
        own = orders[orders["who"] == np.unique(orders["who"][-32:])[data.person[row]]]
        before = own[own["at"] < orders["at"].iloc[-32]]["sku"].tolist()
        history = [sku[item] for item in data.test["history"][row] if item]
        assert history == before[-8:]
        assert set(sku[data.seen[row]]) == set(before)
    assert data.train["history"].shape[1] == 6
    assert data.test["history"].shape == (32, 8)
    np.testing.assert_array_equal(data.catalogue.counts, np.bincount(data.train["item_index"], minlength=25))


def test_features_are_what_transform_makes_of_them(shop):
    folder, _, data = shop
    items = pd.read_csv(folder / "items.csv")
    features = data.catalogue.features
    price = items["price"]
    np.testing.assert_allclose(
        features["item_number__price"][1:], (price - price.mean()) / price.std(ddof=0), rtol=1e-5
    )
    shelf = features["item_categorical__shelf"][1:]
    assert set(shelf) == {1, 2}
    assert ((shelf == shelf[0]) == (items["shelf"] == items["shelf"][0])).all()
    # 16 of 24 items are red and small, so these come first.
    assert sorted(features["item_categories__tags"][2]) == [1, 2]
    assert list(features["item_categories__tags"][1]) == [3, 0]
    assert {feature.name: feature.size for feature in data.space.item_features} == {
        "item_categorical__shelf": 3, "item_categories__tags": 4, "item_number__price": 1,
    }  # fmt: skip
    # Most people come by web, which is the more frequent place.
    assert np.mean(data.train["context_place"] == 1) > 0.6
    assert abs(data.train["user_number__age"].mean()) < 1e-5


def test_texts_are_joined_encoded_and_missing_ones_are_zero(shop):
    from tfrec_fusion.layers.bulk_encoding import encode_texts
    from tfrec_fusion.layers.text_encoder import TextEncoder
    from tfrec_fusion.layers.tokenizer import load_tokenizer

    _, config, data = shop
    tokenizer = load_tokenizer(config.text.encoder, max_length=8)
    expected = encode_texts(
        tokenizer, TextEncoder.from_pretrained(config.text.encoder, normalize=True), ["tool red. red small"]
    )
    vectors = data.catalogue.text_vectors
    np.testing.assert_allclose(vectors[2].astype(np.float32), expected[0], atol=2e-3)
    assert (vectors[0] == 0).all()
    # The sixth item has no name, but tags.
    assert (vectors[6] != 0).any()
    assert data.catalogue.text_tokens["input_ids"].shape == (25, 8)
    assert not data.catalogue.text_tokens["attention_mask"][0].any()


def test_an_empty_split_is_refused(shop):
    _, config, _ = shop
    tiny = dataclasses.replace(config, split=SplitConfig(validation=1e-9, test=1e-9))
    with pytest.raises(ConfigError, match="The validation split has no interactions"):
        prepare(tiny)
