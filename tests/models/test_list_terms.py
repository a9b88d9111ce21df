"""Diversity and novelty in the retrieval's loss: lists of items unlike each other, and less popular ones."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, TOWER, batches, catalogue, tensors
from tfrec_fusion import losses
from tfrec_fusion.config import ConfigError, TrainingConfig
from tfrec_fusion.metrics import accuracy, beyond_accuracy
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.fitting import fit


def unit(rng, rows, dim):
    vectors = rng.normal(size=(rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_similarity_is_the_mean_over_pairs_of_different_items():
    rng = np.random.default_rng(0)
    probability, vectors = rng.dirichlet(np.ones(6), 4), unit(rng, 6, 3)
    vectors[2] = 0  # nothing is said of it
    found = losses.expected_similarity(tf.constant(probability), tf.constant(vectors)).numpy()
    for row, p in enumerate(probability):
        pairs = list(itertools.permutations(range(6), 2))
        weights = np.array([p[i] * p[j] for i, j in pairs])
        cosines = np.array([vectors[i] @ vectors[j] for i, j in pairs])
        assert found[row] == pytest.approx(weights @ cosines / weights.sum(), rel=1e-4)


def test_the_similarity_of_a_list_that_is_one_item_is_none_and_has_a_gradient():
    logits = tf.Variable([[40.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        found = losses.expected_similarity(tf.nn.softmax(logits), tf.eye(3))
    assert found.numpy() == pytest.approx([0], abs=1e-3)
    assert np.isfinite(tape.gradient(found, logits).numpy()).all()


def test_popularity_is_novelty_with_its_sign_turned():
    """A uniform list of items: the metric, shifted and scaled."""
    counts = np.array([7, 0, 3, 90, 12])
    popularity = tf.constant(np.log1p(counts) / np.log1p(90), tf.float32)
    total = counts.sum() + len(counts)
    for shown in ([0, 1], [2, 3, 4]):
        p = np.zeros((1, 5), np.float32)
        p[0, shown] = 1 / len(shown)
        bits = np.log2(total) - np.log2(91) * losses.expected_popularity(tf.constant(p), popularity)[0]
        assert float(bits) == pytest.approx(beyond_accuracy.novelty(np.array([shown]), counts), rel=1e-5)


def test_probabilities_leave_out_what_is_no_candidate_and_correct_for_sampling():
    rng = np.random.default_rng(1)
    query, pool, log_q = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)
    valid = np.array([True, False, True, True])
    found = losses.probabilities(
        *map(tf.constant, (query, pool)), log_q=log_q, valid=tf.constant(valid), temperature=0.5
    )
    expected = np.exp(query @ pool.T / 0.5 - log_q) * valid
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-4)


def fitted(data, **changes):
    config = dataclasses.replace(
        RETRIEVAL,
        tower=TOWER,
        training=TrainingConfig(
            epochs=5, batch_size=32, learning_rate=1e-2, seed=5, average=False, patience=20
        ),
        collaborative_dim=0,
        content_dim=0,
        temperature=0.2,
        **changes,
    )
    space = dataclasses.replace(data.space, text_dim=None)
    model = build_two_tower(config, space, catalogue(data, text=False))
    fit(model, batches(data.train, 32), None, config.training, progress=False)
    return model


def lists(model, data, k=5):
    queries = model.tower_queries(tensors(data.test)).numpy()
    vectors = model.tower_candidates().numpy()
    return accuracy.rank_catalogue(queries, vectors, None, k=k, allowed=np.arange(len(vectors)) > 0)


@pytest.fixture(scope="module")
def plain(data):
    return lists(fitted(data), data)


def test_lists_become_diverse_in_what_items_say_of_themselves(data, plain):
    """Over the whole catalogue."""
    genres = np.eye(np.max(data.genre) + 1)[data.genre]
    wider = lists(fitted(data, diversity_weight=20.0), data)
    before, after = (beyond_accuracy.intra_list_diversity(one, genres) for one in (plain, wider))
    assert after > before + 0.1


def test_lists_become_less_popular(data, plain):
    """Over a sample of the catalogue."""
    rarer = lists(fitted(data, popularity_penalty=20.0, negatives=8), data)
    before, after = (beyond_accuracy.novelty(one, data.counts) for one in (plain, rarer))
    assert after > before + 0.2


def test_parts_of_a_batch_give_the_loss_of_the_whole(data):
    """`micro_batch` changes memory and not numbers."""
    space = dataclasses.replace(data.space, text_dim=None)
    batch = tensors({name: values[:12] for name, values in data.train.items()})
    found = []
    for size in (None, 5):
        training = dataclasses.replace(RETRIEVAL.training, micro_batch=size)
        config = dataclasses.replace(
            RETRIEVAL, training=training, diversity_weight=1.0, popularity_penalty=1.0, collaborative_dim=0,
        )  # fmt: skip
        config = dataclasses.replace(config, tower=dataclasses.replace(TOWER, id_dropout=0.0))
        model = build_two_tower(config, space, catalogue(data, text=False))
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradient = tape.gradient(loss, model.item_tower.id_embedding.embeddings)
        found.append((float(loss), tf.convert_to_tensor(gradient).numpy()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


def test_items_of_which_nothing_is_said_are_not_compared(data):
    space = dataclasses.replace(data.space, text_dim=None, item_features=())
    config = dataclasses.replace(RETRIEVAL, diversity_weight=1.0)
    with pytest.raises(ConfigError, match="`retrieval.diversity_weight` needs something that items are"):
        build_two_tower(config, space, catalogue(data, text=False))


def test_no_term_is_computed_where_none_is_asked_for(data):
    space = dataclasses.replace(data.space, text_dim=None)
    model = build_two_tower(RETRIEVAL, space, catalogue(data, text=False))
    assert model.list_terms is None
