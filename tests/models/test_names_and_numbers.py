"""Features of any name in whole models, and numbers that are none, named before the learning rate is
blamed."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import batches
from tests.test_naming import HOSTILE
from tfrec_fusion.config import (
    ConfigError,
    Feature,
    FeatureSpace,
    RankingConfig,
    RetrievalConfig,
    TowerConfig,
    TrainingConfig,
)
from tfrec_fusion.layers.experts import MMoE
from tfrec_fusion.layers.fusion import AttentionFusion, GatedFusion, ModalityDropout
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.training.fitting import fit

TOWER = TowerConfig(dim=4, history_encoder="mean", dropout=0.0)
TRAINING = TrainingConfig(epochs=1, batch_size=4)
NAMES = [*HOSTILE, "known", "id", "embeddings", "features"]
OF_USERS = Feature("user's age", "number", column="Age (years)")


def space(names):
    return FeatureSpace(
        9,
        7,
        user_features=(OF_USERS,),
        item_features=tuple(
            Feature(f"{name} item", "categorical" if place % 2 else "number", 3 if place % 2 else 1)
            for place, name in enumerate(names)
        ),
        context_features=tuple(Feature(name, "categorical", 3) for name in names),
        history_length=2,
    )


def catalogue(found, **changes):
    features = {
        feature.name: np.ones(7, np.int32 if feature.kind == "categorical" else np.float32)
        for feature in found.item_features
    } | changes
    ids = np.array(["", *"abcdef"], object)
    return Catalogue(ids, ids, features, None, np.ones(7, np.int64))


def examples(found, **changes):
    size = 8
    return {
        "user_index": np.arange(1, 9, dtype=np.int32),
        "history": np.tile(np.array([[0, 1]], np.int32), (size, 1)),
        "item_index": (np.arange(size) % 5 + 2).astype(np.int32),
        "click": np.ones(size, np.float32),
        OF_USERS.name: np.ones(size, np.float32),
        **{feature.name: np.ones(size, np.int32) for feature in found.context_features},
        **changes,
    }


@pytest.mark.parametrize("kind", ["retrieval", "ranking"])
def test_models_take_features_of_any_name(kind):
    found = space(NAMES)
    if kind == "retrieval":
        model = build_two_tower(RetrievalConfig(TOWER, TRAINING), found, catalogue(found))
    else:
        config = RankingConfig(TOWER, TRAINING, hidden=(4,))
        model = build_ranking(config, found, catalogue(found), {"click": "binary"})
    history = fit(model, batches(examples(found), 4), None, TRAINING, progress=False)
    assert np.isfinite(history.history["loss"]).all()


def test_layers_take_parts_of_any_name():
    parts = {name: tf.ones([2, 3]) for name in NAMES}
    dropout, experts = ModalityDropout(dict.fromkeys(NAMES, 0.1)), MMoE(NAMES, 2, (3,))
    gated, attention = GatedFusion(3), AttentionFusion(3)

    @tf.function
    def call(parts):
        dropped = dropout(parts, training=True)
        return gated(dropped), attention(dropped), experts(parts["a b"])

    assert call(parts)[0].shape == [2, 3]


@pytest.mark.parametrize("name", ["item_index", "history", "text_vector", "weight"])
def test_a_feature_that_would_hide_a_key_of_every_batch_is_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}', which is a key of every batch"):
        FeatureSpace(2, 2, user_features=(Feature(name, "number"),))


def test_two_features_of_one_name_are_refused():
    country = Feature("country", "categorical", 3)
    with pytest.raises(ConfigError, match="'country', which names two features"):
        FeatureSpace(2, 2, user_features=(country,), item_features=(country,))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_items_number_that_is_none_is_named_with_its_item(number):
    found = space(["price"])
    prices = np.ones(7, np.float32)
    prices[3] = number
    with pytest.raises(
        ValueError, match=rf"Feature 'price item' must hold finite numbers. Received: {number} of item 'c'"
    ):
        catalogue(found, **{"price item": prices})
    vectors = np.ones([7, 4], np.float32)
    vectors[[2, 5], 1] = number
    with pytest.raises(ValueError, match="of item 'b' and 1 others"):
        dataclasses.replace(catalogue(found), features={"image": vectors})


def test_a_users_number_that_is_none_is_named_and_not_the_learning_rate():
    found = space(["device"])
    ages = np.ones(8, np.float32)
    ages[5] = np.nan
    model = build_two_tower(RetrievalConfig(TOWER, TRAINING), found, catalogue(found))
    wrong = batches(examples(found, **{OF_USERS.name: ages}), 4)
    with pytest.raises(
        ValueError, match=r"'Age \(years\)' must hold finite.*nan in `train`, of the user with `user_index` 6"
    ):
        fit(model, wrong, None, TRAINING, progress=False)
    model = build_two_tower(RetrievalConfig(TOWER, TRAINING), found, catalogue(found))
    with pytest.raises(ValueError, match="nan in `validation`"):
        fit(model, batches(examples(found), 4), wrong, TRAINING, progress=False)
