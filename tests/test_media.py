"""A recommender that sees pictures: what they alone tell is found, in memory and exported."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from benchmarks.planted_media import ndcg, planted_media
from tests.models.planted_models import RANKING
from tests.planted_serving import matrix, no_wishes, serving_arguments
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError, Feature, TowerConfig
from tfrec_fusion.config.recommender import DataSettings
from tfrec_fusion.export import request
from tfrec_fusion.export.base import concrete, graph
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.in_memory.given_tables import described, place
from tfrec_fusion.layers import GatedFusion
from tfrec_fusion.models.build import build_ranking
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.tower import ItemTower
from tfrec_fusion.serving.client.explanations import read_explanations

SETTINGS = {"text": "none", "seed": 1, "verbose": 0}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return planted_media(tmp_path_factory.mktemp("files"), "images", users=100, items=64, groups=4, choices=8)


@pytest.fixture(scope="module")
def model(shop):
    settings = shop.described(image_encoder="patterns", dim=64)
    return Recommender(**SETTINGS, ranking="none", epochs=4, data=settings).fit(shop.interactions, shop.items)


@pytest.mark.slow
def test_the_picture_alone_tells_who_likes_a_new_item(shop, model, tmp_path):
    assert ndcg(model, shop, new=True).mean() > 0.75  # one in four is of their group
    # What is exported answers alike, and reads no picture.
    model.export(tmp_path / "1", "retrieval")
    recommend = tf.saved_model.load(str(tmp_path / "1")).signatures["recommend"]
    user = next(iter(shop.liked))
    given = {"user_id": tf.constant([user]), "text": tf.constant([""]), "k": tf.constant(5)}
    lists = {
        "history": matrix(),
        "exclude": matrix(),
        "categories": matrix(),
        "allow": matrix(*shop.new_items),
    }
    settings = {"probes": tf.constant(0), "include_seen": tf.constant(False), **no_wishes()}
    served = recommend(**given, **lists, **settings)
    expected = model.recommend(user, 5, allow=shop.new_items)
    assert [item.decode() for item in served["item_ids"][0].numpy()] == expected.item_id.tolist()


def test_an_explanation_names_the_picture(data, profiles):
    """Of a ranking model of the planted data whose items have pictures, one in two."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(data.ids), 6)).astype(np.float32)
    vectors[::2] = 0
    items, _, features, *rest = serving_arguments(data, profiles)
    features = (*features, Feature("item_image__p", "vector", 6, "photo", "image"))
    items = dataclasses.replace(items, features={**items.features, "item_image__p": vectors})
    space = dataclasses.replace(data.space, item_features=features)
    model = build_ranking(RANKING, space, items, {"rating": "rating"})
    model.item_tower.modality_dropout.missing["item_image__p"].assign(rng.normal(size=16))
    serving = RankingSignatures(model, items, profiles, features, *rest)
    explain = concrete(graph(serving.explain), **serving.explain_spec())
    asked = [str(item) for item in data.ids[1:7]]
    given = {"user_id": ["user 3"], "item_ids": [asked], "count": 100}
    row = request.columns(serving.explain_spec(), **given)
    spec = serving.explain_spec()
    tensors = {name: tf.constant(value, spec[name].dtype, np.shape(value) if np.size(value) else [1, 0])
               for name, value in row.items()}  # fmt: skip
    answer = {name: value.numpy() for name, value in explain(**tensors).items()}
    np.testing.assert_allclose(answer["parts"].sum(-1), answer["scores"], atol=1e-5, rtol=1e-5)
    found = {name: values.tolist() for name, values in _texts(answer).items()}
    (explained,) = read_explanations(found, ["user 3"])
    says = {
        one.item_id: source.value
        for one in explained
        for source in one.sources
        if (source.kind, source.name) == ("item_feature", "photo")
    }
    assert {item for item, value in says.items() if value} == set(asked[::2])  # those that have a picture


def _texts(answer):
    """Strings of an answer in place of bytes."""
    decode = np.vectorize(lambda value: value.decode(), otypes=[object])
    return {name: decode(values) if values.dtype == object and values.size else values
            for name, values in answer.items()}  # fmt: skip


def tower(counts=(0, 3, 3, 0), **settings):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 6)).astype(np.float32)
    vectors[[0, 2]] = 0  # the second item has no picture
    numbers = rng.normal(size=4).astype(np.float32)
    catalogue = Catalogue(
        ids=np.array(["", "a", "b", "c"], object),
        titles=np.array(["", "a", "b", "c"], object),
        features={"item_image__p": vectors, "price": numbers},
        text_vectors=None,
        counts=np.array(counts),
    )
    features = [Feature("item_image__p", "vector", 6, "p", "image"), Feature("price", "number")]
    made = ItemTower(catalogue, features, 5, GatedFusion(5), **settings)
    made.lookup()
    return made


def test_a_missing_picture_is_replaced_by_what_was_learned_for_it():
    made = tower()
    missing = made.modality_dropout.missing["item_image__p"]
    missing.assign([1.0, 2, 3, 4, 5])
    values = made.values(tf.constant([1, 2]))
    found = made.modalities(values)["item_image__p"].numpy()
    np.testing.assert_array_equal(found[1], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(
        found[0], values["item_image__p"].numpy()[0] @ made.media_projections[0].kernel.numpy(), rtol=1e-5
    )
    assert set(made.modalities(values)) == {"id", "features", "item_image__p"}
    weights = made.fusion_weights(tf.constant([1, 2]))
    np.testing.assert_allclose(sum(weight.numpy() for weight in weights.values()), 1, rtol=1e-5)


def test_pictures_are_dropped_in_training_at_the_rate_of_the_setting():
    tf.keras.utils.set_random_seed(3)
    made = tower(id_dropout=0.0, media_dropout=0.4)
    made.modality_dropout.missing["item_image__p"].assign([9.0] * 5)
    values = made.values(tf.constant([1] * 2000))
    dropped = (made.modalities(values, training=True)["item_image__p"].numpy() == 9).all(1).mean()
    assert abs(dropped - 0.4) < 0.05
    assert not (made.modalities(values)["item_image__p"].numpy() == 9).any()
    with pytest.raises(ConfigError, match=r"TowerConfig.media_dropout` must be"):
        TowerConfig(media_dropout=1.0)


def test_columns_of_files_are_read_where_somebody_names_them(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    shop.items.to_csv(tmp_path / "given" / "items.csv", index=False)

    def tables(number, items, settings):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths = {"interactions": place(shop.interactions, "interactions", folder)}
        paths["items"] = place(items, "items", folder)
        return described(paths, folder, DataSettings(items=settings)).items

    named = {"id": "item_id", "images": ["file"]}
    assert tables(0, shop.items, named).media.folder == str(tmp_path)
    found = tables(1, str(tmp_path / "given" / "items.csv"), named)
    assert (found.images, found.media.folder) == (("file",), str(tmp_path / "given"))
    absolute = shop.items.assign(file=[f"{shop.folder}/{name}" if name else None for name in shop.items.file])
    assert tables(2, absolute, {"id": "item_id"}).images == ()
    with pytest.raises(ConfigError, match=r"`data.items.images` must name a column .* 'picture'"):
        tables(3, shop.items, {"id": "item_id", "images": ["picture"]})


def test_no_file_that_can_be_read_stops_the_fit(shop, tmp_path):
    items = pd.DataFrame({"item_id": shop.items.item_id, "file": "gone.png"})
    settings = {"items": {"id": "item_id", "images": ["file"], "media": {"folder": str(tmp_path), "dim": 8}}}
    settings["items"]["media"]["image_encoder"] = "patterns"
    with pytest.raises(ConfigError, match=r"'file' of the items table .* such as 'gone.png': no such file"):
        Recommender(**SETTINGS, ranking="none", data=settings).fit(shop.interactions, items)


def test_noise_changes_the_files_alone(tmp_path):
    sizes = {"users": 20, "items": 16, "groups": 4, "choices": 6}
    told, noise = (planted_media(tmp_path / str(noise), "images", noise, **sizes) for noise in (False, True))
    pd.testing.assert_frame_equal(told.interactions, noise.interactions)
    pd.testing.assert_frame_equal(told.items, noise.items)
    assert told.liked == noise.liked
    assert not set(told.new_items) & set(told.interactions.item_id)
    differ = [(tmp_path / "False" / name).read_bytes() != (tmp_path / "True" / name).read_bytes()
              for name in told.items.file if name]  # fmt: skip
    assert any(differ)
