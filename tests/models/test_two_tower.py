"""The two-tower model on planted preferences, and what it promises about its embeddings."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import RETRIEVAL, batches, hit_rates, tensors, two_tower
from tfrec_fusion.config import RetrievalConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.fitting import fit

DATA = planted(num_users=120, circles=4)


def trained(data, config=RETRIEVAL, **tower):
    tf_keras.utils.set_random_seed(1)
    model = two_tower(data, config, **tower)
    fit(model, batches(data.train, 64), None, config.training, progress=False)
    return model


def test_popularity_cannot_rank_the_planted_data():
    scores = lambda rows: np.tile(DATA.counts, (len(rows), 1))  # noqa: E731
    test = DATA.test
    allowed = np.arange(len(DATA.ids)) > 0
    ranked = accuracy.rank_scores(
        scores, len(test["item_index"]), len(DATA.ids), list(test["history"]), k=3, allowed=allowed
    )
    # Three places for 27 items that are left.
    assert (ranked == test["item_index"][:, None]).any(1).mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "k"), [("mean", 3), ("cnn", 1), ("gru", 1), ("transformer", 1)])
def test_each_history_encoder_solves_the_planted_data(encoder, k):
    # The mean cannot tell which end of a walk is the newest: three items of a circle of eight are left.
    assert hit_rates(trained(DATA, history_encoder=encoder), DATA.test, k).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["concat", "projection", "gated", "attention", "film", "experts"])
def test_each_fusion_ranks_items_that_training_never_saw(fusion):
    data = planted(num_users=120, circles=4, cold=True)
    model = trained(data, history_encoder="mean", fusion=fusion, id_dropout=0.3)
    cold = np.isin(data.test["item_index"], data.cold_items)
    assert cold.sum() > 20
    assert hit_rates(model, data.test, 3)[cold].mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"negatives": 20},
        {"negatives": 20, "all_positions": False},
        {"normalize": True, "temperature": 0.1},
        {"loss": "bpr", "temperature": 0.2},
        # Which compares with few at a time, and takes longer.
        {
            "loss": "bpr",
            "temperature": 0.2,
            "negatives": 20,
            "training": dataclasses.replace(RETRIEVAL.training, epochs=60),
        },
        {"hard_negatives": 5},
        {"hard_negatives": 5, "negatives": 20},
    ],
    ids=["sampled", "last position", "normalized", "bpr", "sampled bpr", "hard", "sampled hard"],
)
def test_other_losses_solve_the_planted_data(changes):
    model = trained(DATA, dataclasses.replace(RETRIEVAL, **changes))
    assert hit_rates(model, DATA.test, 1).mean() > 0.9


@pytest.mark.slow
def test_free_text_finds_what_it_speaks_of():
    model = trained(DATA, dataclasses.replace(RETRIEVAL, text_query_weight=1.0))
    rng = np.random.default_rng(5)
    genres = rng.integers(1, 5, 50)
    asked = np.zeros((50, 5), np.float32)
    asked[np.arange(50), genres - 1] = 1
    asked += rng.normal(scale=0.05, size=asked.shape)
    ranked = accuracy.rank_catalogue(
        model.text_query(tf.constant(asked)).numpy(),
        model.candidate_embeddings().numpy(),
        k=5,
        allowed=np.arange(len(DATA.ids)) > 0,
    )
    assert (DATA.genre[ranked] == genres[:, None]).mean() > 0.9


def test_embeddings_by_row_all_at_once_and_from_features_agree():
    model = two_tower(DATA)
    every = model.candidate_embeddings().numpy()
    rows = np.array([3, 1, 7], np.int32)
    assert every.shape == (len(DATA.ids), model.blend.width)
    assert model.tower_candidates().shape == (len(DATA.ids), 16)
    assert every.dtype == np.float32
    np.testing.assert_allclose(
        model.candidate_embeddings(tf.constant(rows)), every[rows], rtol=1e-5, atol=1e-6
    )
    features = {"genre": DATA.genre[rows], "text_vector": DATA.text_vectors[rows], "item_index": rows}
    np.testing.assert_allclose(
        model.candidate_from_features(tensors(features)), every[rows], rtol=1e-5, atol=1e-6
    )


def test_an_item_without_interactions_lives_from_its_text():
    data = planted(num_users=60, circles=4, cold=True)
    model = two_tower(data)
    cold = data.cold_items
    features = {"genre": data.genre[cold], "text_vector": data.text_vectors[cold]}
    unknown = model.candidate_from_features(tensors(features))
    np.testing.assert_allclose(model.candidate_embeddings(tf.constant(cold)), unknown, rtol=1e-5, atol=1e-6)


def test_padding_and_what_it_stands_next_to_do_not_matter():
    model = two_tower(DATA)
    short = tensors({"user_index": np.array([1], np.int32), "history": np.array([[0, 0, 0, 4, 9]], np.int32)})
    shorter = {**short, "history": short["history"][:, 2:]}
    np.testing.assert_allclose(
        model.query_embeddings(short), model.query_embeddings(shorter), rtol=1e-4, atol=1e-5
    )
    empty = {**short, "history": tf.zeros_like(short["history"])}
    assert np.isfinite(model.query_embeddings(empty)).all()


def test_scores_are_dot_products_of_the_embeddings():
    model = two_tower(DATA, dataclasses.replace(RETRIEVAL, normalize=True))
    batch = tensors({name: column[:5] for name, column in DATA.test.items()})
    query, candidate = model.query_embeddings(batch), model.candidate_embeddings(batch["item_index"])
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        model(batch), np.sum(query.numpy() * candidate.numpy(), 1), rtol=1e-4, atol=1e-5
    )


def test_text_off_has_no_text_and_says_so():
    model = two_tower(planted(num_users=30, circles=4, text=False))
    assert model.text_query_layer is None
    assert not any("text" in weight.name for weight in model.weights)
    assert any("text" in weight.name for weight in two_tower(DATA).weights)
    with pytest.raises(ValueError, match="needs a model with a text tower"):
        model.text_query(tf.zeros([1, 5]))


def test_the_catalogue_must_fit_the_feature_space():
    with pytest.raises(ValueError, match="one row per item of the feature space"):
        two_tower(dataclasses.replace(DATA, space=dataclasses.replace(DATA.space, num_items=5)))
    with pytest.raises(ValueError, match="`text_vectors` must be"):
        two_tower(dataclasses.replace(DATA, space=dataclasses.replace(DATA.space, text_dim=7)))
    with pytest.raises(ValueError, match="one row per id"):
        two_tower(dataclasses.replace(DATA, titles=DATA.titles[:-1]))


def test_the_default_configuration_builds():
    assert isinstance(two_tower(DATA, RetrievalConfig()), TwoTower)
