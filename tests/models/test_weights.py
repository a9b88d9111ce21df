"""Weights of choices and grades that nobody gave: what they change, and that they change nothing else."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import batches
from tfrec_fusion import losses, tasks
from tfrec_fusion.config import FeatureSpace, RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.models.baselines import ALS, interaction_matrix
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.estimators import CollaborativeFactors
from tfrec_fusion.training.fitting import fit

USERS, ITEMS = 60, 5
PLAIN = FeatureSpace(USERS + 1, ITEMS + 1, history_length=3)
TOWER = TowerConfig(dim=8, history_encoder="mean", dropout=0.0, id_dropout=0.0)


def catalogue(counts=(0, 60, 30, 30, 1, 1)):
    ids = np.array(["", *(f"i{item}" for item in range(1, ITEMS + 1))], object)
    return Catalogue(ids, ids, {}, None, np.array(counts, np.int64))


def choices(weight_of_2, weight_of_3):
    """Everybody met item 1; then one half item 2, the other item 3. In the histories they count as often as
    last."""
    item = np.where(np.arange(USERS) % 2 == 0, 2, 3).astype(np.int32)
    return {
        "user_index": np.arange(1, USERS + 1, dtype=np.int32),
        "history": np.tile(np.array([[0, 0, 1]], np.int32), (USERS, 1)),
        "item_index": item,
        "weight": np.where(item == 2, weight_of_2, weight_of_3).astype(np.float32),
        "history_weight": np.tile(np.array([[0, 0, 1]], np.float32), (USERS, 1)),
    }


def test_confidence_is_one_for_a_plain_choice_and_grows_slowly():
    found = losses.confidence(tf.constant([0.0, 1.0, 3.0, 13_000.0])).numpy()
    np.testing.assert_allclose(found, [0, 1, 2, np.log2(13_001)], rtol=1e-6)
    assert found[3] < 14


@pytest.mark.parametrize("all_positions", [True, False])
def test_what_counts_more_is_ranked_first(all_positions):
    for weights, first in (((1, 1000), 3), ((1000, 1), 2)):
        training = TrainingConfig(epochs=15, batch_size=20, learning_rate=0.02)
        config = RetrievalConfig(TOWER, training, all_positions=all_positions, collaborative_dim=0)
        model = build_two_tower(config, PLAIN, catalogue())
        fit(model, batches(choices(*weights), 20), None, training, progress=False)
        query = {"user_index": tf.constant([0]), "history": tf.constant([[0, 0, 1]])}
        scores = (model.query_embeddings(query) @ tf.transpose(model.candidate_embeddings())).numpy()[0]
        assert np.argmax(np.where(np.isin(np.arange(ITEMS + 1), [2, 3]), scores, -9)) == first


def test_items_of_a_history_count_by_their_own_weight():
    """Of choices of weight 0 nothing is learned, and of one item in one history what its weight says."""
    columns = choices(0, 0)
    columns["history"][:, 1] = 4
    columns["history_weight"][:] = 0.0
    config = RetrievalConfig(TOWER, all_positions=True, collaborative_dim=0)
    model = build_two_tower(config, PLAIN, catalogue())
    tensors = {name: tf.constant(values) for name, values in columns.items()}
    assert float(model.compute_loss(tensors, training=True)) == 0.0
    columns["history_weight"][0, 2] = 1.0
    tensors["history_weight"] = tf.constant(columns["history_weight"])
    assert float(model.compute_loss(tensors, training=True)) > 0.0


def test_weights_of_one_change_no_loss():
    config = RetrievalConfig(TOWER, collaborative_dim=0)
    model = build_two_tower(config, PLAIN, catalogue())
    tensors = {name: tf.constant(values) for name, values in choices(1, 1).items()}
    plain = {name: values for name, values in tensors.items() if "weight" not in name}
    assert float(model.compute_loss(tensors, training=True)) == float(
        model.compute_loss(plain, training=True)
    )


def test_a_matrix_holds_the_most_that_a_pair_counts():
    users, items = np.array([1, 1, 1, 2]), np.array([2, 2, 3, 2])
    counts = np.array([1.0, 5.0, 0.5, 2.0], np.float32)
    expected = np.zeros((3, 4), np.float32)
    expected[1, 2], expected[1, 3], expected[2, 2] = 5, 0.5, 2
    np.testing.assert_array_equal(interaction_matrix(users, items, 3, 4, counts).toarray(), expected)
    np.testing.assert_array_equal(interaction_matrix(users, items, 3, 4).toarray(), expected > 0)
    empty = np.zeros(0, np.int64)
    assert interaction_matrix(empty, empty, 3, 4, np.zeros(0)).nnz == 0


def listened(weight_of_2, weight_of_3):
    """Of those who met item 1 one half met 2, the other 3; person 41 met 1 alone."""
    users = np.append(np.repeat(np.arange(1, 41), 2), 41)
    items = np.append(np.tile([1, 2, 1, 3], 20), 1)
    weights = np.append(np.tile([1.0, weight_of_2, 1.0, weight_of_3], 20), 1.0)
    counts = losses.confidence(tf.constant(weights)).numpy()
    return interaction_matrix(users, items, 42, 5, counts)


@pytest.mark.parametrize(("weights", "first"), [((1, 1000), 3), ((1000, 1), 2)])
def test_closed_forms_follow_the_weights(weights, first):
    pytest.importorskip("implicit")
    matrix = listened(*weights)
    scores = ALS(dim=1, iterations=30).fit(matrix).scores(np.array([41]))[0]
    assert scores[[2, 3]].argmax() + 2 == first
    ease = CollaborativeFactors(3).fit(matrix)
    scores = ease.vectors @ (ease.gain * ease.vectors[1]) / (1 - ease.leverage)
    assert scores[[2, 3]].argmax() + 2 == first


def test_a_missing_grade_counts_nothing():
    labels, logits = tf.constant([1.0, float("nan"), 3.0]), tf.constant([2.0, 9.0, 3.0])
    task = tasks.Ranking("rating", "stars")
    assert float(task(labels, logits)) == pytest.approx(1 / 3)
    assert float(task.metric.result()) == pytest.approx(np.sqrt(1 / 2))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = task(labels, logits)
    np.testing.assert_allclose(tape.gradient(loss, logits), [2 / 3, 0, 0])


def test_a_ranking_is_trained_on_the_grades_that_there_are():
    """Items 2 and 3 are graded 5 and 1 by every other person; the others gave none."""
    columns = {name: values for name, values in choices(1, 1).items() if "weight" not in name}
    grade = np.where(columns["item_index"] == 2, 5.0, 1.0).astype(np.float32)
    columns["rating"] = np.where(np.arange(USERS) % 4 < 2, grade, np.nan).astype(np.float32)
    columns["click"] = np.ones(USERS, np.float32)
    training = TrainingConfig(epochs=60, batch_size=20, learning_rate=0.05)
    config = RankingConfig(dataclasses.replace(TOWER, user_id=False), training, hidden=(8,), rating_dim=2)
    model = build_ranking(config, PLAIN, catalogue(), {"rating": "rating", "click": "binary"})
    history = fit(model, batches(columns, 20), batches(columns, 20), training, progress=False)
    assert np.isfinite(history.history["val_loss"]).all()
    asked = {
        "user_index": tf.constant([0, 0]),
        "history": tf.constant([[0, 0, 1]] * 2),
        "item_index": tf.constant([2, 3]),
    }
    high, low = model(asked)["rating"].numpy()
    assert high > 4 and low < 2


def test_the_weighted_loss_is_a_mean():
    """Counting every choice a hundredfold changes nothing, so that losses of training and validation
    compare."""
    model = build_two_tower(RetrievalConfig(tower=TOWER), PLAIN, catalogue())
    found = []
    for count in (1.0, 100.0):
        batch = choices(count, count)
        batch["history_weight"] = np.full_like(batch["history_weight"], count)
        tensors = {name: tf.constant(column) for name, column in batch.items()}
        found.append(float(model.compute_loss(tensors, training=True)))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
