"""`fusion: adaptive`: towers whose gate reads how often an item was chosen, and how long a history is."""

import dataclasses

import numpy as np
import tensorflow as tf

from tests.models.planted_models import RANKING, RETRIEVAL, ranking, tensors, two_tower
from tfrec_fusion.models.ranking_contributions import RankingExplanation


def scrambled(model):
    """The model with other weights than those it starts from."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(0, 0.3, weight.shape).astype(np.float32))
    return model


def test_items_are_weighed_by_their_counts(data):
    model = scrambled(two_tower(data, RETRIEVAL, fusion="adaptive", user_id=True))
    tower = model.item_tower
    np.testing.assert_array_equal(tower.activity, data.counts)
    rows = tf.range(1, 6)
    weights, vectors = tower.fusion_weights(rows), tower.lookup(rows)
    np.testing.assert_allclose(sum(weights.values()), np.ones(5), rtol=1e-5)
    np.testing.assert_allclose(tower(tower.values(rows), training=False), vectors, rtol=1e-5)
    tower.activity.assign(tower.activity + 50)
    assert np.abs(tower.fusion_weights(rows)["id"] - weights["id"]).max() > 5e-3
    assert [one.name for one in tower.counted()] == [tower.known.name, tower.activity.name]


def test_each_prefix_of_a_history_is_weighed_by_its_own_length(data):
    tower = scrambled(
        two_tower(data, RETRIEVAL, fusion="adaptive", user_id=True, history_encoder="mean")
    ).query_tower
    history = np.repeat(np.random.default_rng(1).normal(size=(2, 1, 16)), 4, 1).astype(np.float32)
    mask = np.array([[False, True, True, True], [True, True, True, True]])
    inputs = {"user_index": tf.constant([1, 1])}
    found = tower(inputs, tf.constant(history), tf.constant(mask), training=False).numpy()
    # The mean of equal items is the same at each length, and what is made of it is not.
    assert np.abs(np.diff(found[1], axis=0)).min(0).max() > 1e-3
    last = tower(inputs, tf.constant(history), tf.constant(mask), training=False, last_only=True)
    np.testing.assert_allclose(last, found[:, -1], rtol=1e-4, atol=1e-5)


def test_predictions_of_the_ranking_remain_sums(data):
    tower = dataclasses.replace(RANKING.tower, fusion="adaptive")
    model = scrambled(ranking(data, RANKING, labels={"click": "binary"}, tower=tower))
    columns = {name: data.test[name][:2] for name in ("user_index", "history")}
    items = tf.constant([1, 2, 3, 4, 5, 6])
    values = model.item_tower.values(items)
    explanation = RankingExplanation(
        model,
        {**model.recent(tensors(columns)), **values},
        model.item_vectors(values),
        model.item_tower.lookup_distinct(tf.constant(columns["history"]))[0],
        points=64,  # of a network whose weights are large
    )
    predictions, parts = explanation.explain(tf.constant([1.0]), model.average_item())
    pairs = {
        "user_index": np.repeat(columns["user_index"], 3),
        "history": np.repeat(columns["history"], 3, 0),
    }
    alone = model(tensors({**pairs, "item_index": items.numpy()}))["click"]
    np.testing.assert_allclose(tf.reshape(predictions, [-1]), alone, rtol=1e-4)
    (network,) = (part for part in parts if part.name == "network")
    total = network.base + tf.reduce_sum(network.history, 2) + sum(network.others.values())
    np.testing.assert_allclose(total, network.scores, atol=0.05)
