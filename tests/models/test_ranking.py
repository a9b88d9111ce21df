"""The ranking model on planted ratings that no bias of a person or an item explains."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import RANKING, batches, ranking, tensors
from tfrec_fusion.config import RankingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.solved_parts import SolvedParts

DATA = planted(num_users=120, circles=4)


def test_biases_cannot_predict_the_planted_ratings():
    train, test = DATA.train, DATA.test
    mean = np.bincount(train["item_index"], train["rating"]) / np.maximum(np.bincount(train["item_index"]), 1)
    rmse = np.sqrt(np.mean((mean[test["item_index"]] - test["rating"]) ** 2))
    assert rmse > 1.8


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "dcn", "dlrm", "deepfm"])
def test_each_head_predicts_the_planted_ratings(head):
    tf_keras.utils.set_random_seed(1)
    model = ranking(DATA, head=head)
    fit(model, batches(DATA.train, 64), None, RANKING.training, progress=False)
    predictions = model(tensors(DATA.test))
    assert np.sqrt(np.mean((predictions["rating"] - DATA.test["rating"]) ** 2)) < 0.8
    assert ((predictions["click"].numpy() > 0.5) == (DATA.test["click"] > 0)).mean() > 0.95


def test_outputs_are_one_number_per_example_and_label():
    model = ranking(DATA)
    outputs = model(tensors({name: column[:7] for name, column in DATA.test.items()}))
    assert set(outputs) == {"rating", "click"}
    assert all(output.shape == (7,) and output.dtype == tf.float32 for output in outputs.values())
    assert (outputs["click"].numpy() > 0).all()
    assert (outputs["click"].numpy() < 1).all()


def test_an_item_outside_the_catalogue_is_scored_from_its_features():
    data = planted(num_users=60, circles=4, cold=True)
    model = ranking(data)
    item = int(data.cold_items[0])
    people = {name: data.test[name][:3] for name in ("user_index", "history")}
    features = {"genre": data.genre[[item] * 3], "text_vector": data.text_vectors[[item] * 3]}
    known = model(tensors({**people, "item_index": np.full(3, item, np.int32)}))
    unknown = model.score_features(tensors({**people, **features}))
    np.testing.assert_allclose(unknown["rating"], known["rating"], rtol=1e-5, atol=1e-5)


def test_ratings_start_from_the_mean():
    model = ranking(DATA, labels={"rating": "rating"})
    assert abs(float(np.mean(model(tensors(DATA.test))["rating"]))) < 1
    from tests.models.planted_models import catalogue
    from tfrec_fusion.models.build import build_ranking

    model = build_ranking(RANKING, DATA.space, catalogue(DATA), {"rating": "rating"}, means={"rating": 3.5})
    assert float(np.mean(model(tensors(DATA.test))["rating"])) == pytest.approx(3.5, abs=1)


def test_unknown_kinds_of_label_are_refused():
    with pytest.raises(ValueError, match="each `rating` or `binary`"):
        ranking(DATA, labels={"rating": "stars"})


def test_the_default_configuration_builds():
    ranking(DATA, RankingConfig())


def test_predicted_ratings_stay_within_the_ratings_of_training(tmp_path):
    """5.015 was predicted on a scale to 5; a missing rating says nothing of the scale."""
    scaled = {**DATA.train, "rating": np.clip(DATA.train["rating"], 1.0, 2.0)}
    scaled["rating"][0] = np.nan
    model = ranking(DATA, labels={"rating": "rating", "click": "binary"})
    before = model(tensors(DATA.test))["rating"].numpy()
    assert before.min() < 1
    SolvedParts().on_train_end(model, batches({**DATA.train, "rating": scaled["rating"]}, 64), None)
    predictions = model(tensors(DATA.test))
    assert predictions["rating"].numpy().min() >= 1
    assert predictions["rating"].numpy().max() <= 2
    features = {"genre": DATA.genre[[3] * 4], "text_vector": DATA.text_vectors[[3] * 4]}
    people = {name: DATA.test[name][:4] for name in ("user_index", "history")}
    assert model.score_features(tensors({**people, **features}))["rating"].numpy().min() >= 1
    tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    again = ranking(DATA, labels={"rating": "rating", "click": "binary"})
    tf.train.Checkpoint(model=again).read(str(tmp_path / "weights")).expect_partial()
    np.testing.assert_allclose(again(tensors(DATA.test))["rating"], predictions["rating"])
