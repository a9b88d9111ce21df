"""Attention of a candidate over the history, in the ranking."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RANKING, batches, ranking, tensors
from tests.models.test_adaptive_fusion import scrambled
from tfrec_fusion.layers.candidate_attention import CandidateAttention
from tfrec_fusion.models.ranking_contributions import RankingExplanation
from tfrec_fusion.training.fitting import fit

RNG = np.random.default_rng(0)


def test_it_equals_numpy_and_padding_says_nothing():
    candidate, history = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 5, 4))
    mask = np.array([[False] * 5, [False, True, True, True, True], [True] * 5])
    history[~mask] = np.nan
    layer = CandidateAttention(6)
    given = [tf.constant(values, tf.float32) for values in (candidate, history)]
    found = layer(*given, tf.constant(mask)).numpy()
    (kernel, bias), (score, offset) = layer.compare.get_weights(), layer.score.get_weights()
    for row in range(3):
        total = np.zeros(4)
        for x in history[row][mask[row]]:
            v = candidate[row]
            hidden = np.maximum(np.concatenate([x, v, x - v, x * v]) @ kernel + bias, 0)
            total += (hidden @ score + offset) * x
        np.testing.assert_allclose(found[row], total, rtol=1e-4, atol=1e-5)
    assert CandidateAttention.from_config(layer.get_config()).hidden == 6
    with pytest.raises(ValueError, match="`hidden` must be at least 1. Received: hidden=0"):
        CandidateAttention(0)


@pytest.fixture(scope="module")
def model(data):
    return scrambled(ranking(data, RANKING, labels={"click": "binary"}, candidate_attention=True))


def test_candidates_of_a_query_are_scored_as_each_alone(data, model):
    columns = {name: data.test[name][:2] for name in ("user_index", "history")}
    items = tf.constant([1, 2, 3, 4, 5, 6])
    together = model.score_features({**tensors(columns), **model.item_tower.values(items)})["click"]
    pairs = {name: np.repeat(values, 3, 0) for name, values in columns.items()}
    alone = model(tensors({**pairs, "item_index": items.numpy()}))["click"]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    plain = model.attention.score.get_weights()
    model.attention.score.set_weights([np.zeros_like(values) for values in plain])
    without = model(tensors({**pairs, "item_index": items.numpy()}))["click"]
    model.attention.score.set_weights(plain)
    assert np.abs(without - alone).max() > 1e-2


def test_predictions_are_sums_of_sources_along_both_ways_of_the_history(data, model):
    columns = {name: data.test[name][:2] for name in ("user_index", "history")}
    values = model.item_tower.values(tf.constant([1, 2, 3, 4, 5, 6]))
    (history,) = model.item_tower.lookup_distinct(tf.constant(columns["history"]))
    inputs = {**model.recent(tensors(columns)), **values}
    explanation = RankingExplanation(model, inputs, model.item_vectors(values), history, points=256)

    @tf.function(autograph=False)  # as it is served
    def explain():
        _, parts = explanation.explain(tf.constant([1.0]), model.average_item())
        (network,) = (part for part in parts if part.name == "network")
        return network.scores, network.base, network.history, dict(enumerate(network.others.values()))

    scores, base, of_history, others = explain()
    total = base + tf.reduce_sum(of_history, 2) + sum(others.values())
    np.testing.assert_allclose(total, scores, atol=0.05)
    # What is padding says nothing.
    empty = np.repeat((columns["history"] == 0)[:, None], 3, 1)
    assert not of_history.numpy()[empty].any()


def test_it_is_trained_in_parts_too(data):
    training = dataclasses.replace(RANKING.training, epochs=1, micro_batch=16, batch_size=40)
    config = dataclasses.replace(RANKING, training=training)
    model = ranking(data, config, labels={"click": "binary"}, candidate_attention=True)
    before = model.attention.compare.get_weights()[0]
    fit(model, batches(data.train, 40), None, training, progress=False)
    assert np.abs(model.attention.compare.get_weights()[0] - before).max() > 1e-4
