"""A model that starts from an older one scores old users and items as the older one did."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import RETRIEVAL, batches, ranking, tensors, two_tower
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.warm_starting import initialise_embedding, old_rows, warm_start
from tfrec_fusion.training.fitting import fit

NEW = planted(num_users=40, circles=3)


def older(data):
    """The same data before the last five items and ten users came, everything in reverse order."""
    items = np.concatenate([[0], np.arange(len(data.ids) - 6, 0, -1)])
    users = np.concatenate([[0], np.arange(data.space.num_users - 11, 0, -1)])
    new_item = np.zeros(len(data.ids), np.int32)
    new_item[items] = np.arange(len(items))
    new_user = np.zeros(data.space.num_users, np.int32)
    new_user[users] = np.arange(len(users))
    known = (new_item[data.train["item_index"]] > 0) & (new_user[data.train["user_index"]] > 0)
    train = {name: column[known] for name, column in data.train.items()}
    train["item_index"], train["history"] = new_item[train["item_index"]], new_item[train["history"]]
    train["user_index"] = new_user[train["user_index"]]
    old = dataclasses.replace(
        data,
        space=dataclasses.replace(data.space, num_users=len(users), num_items=len(items)),
        train=train,
        ids=data.ids[items],
        titles=data.titles[items],
        genre=data.genre[items],
        text_vectors=data.text_vectors[items],
        counts=data.counts[items],
    )
    user_ids = [str(user) for user in range(data.space.num_users)]
    return (
        old,
        items,
        users,
        old_rows(data.ids, old.ids),
        old_rows(user_ids, [user_ids[user] for user in users]),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda data: two_tower(data, user_id=True), ranking], ids=["retrieval", "ranking"]
)
def test_old_scores_stay_and_new_ones_are_those_of_the_unknown(make):
    data, items, users, item_rows, user_rows = older(NEW)
    config = dataclasses.replace(RETRIEVAL.training, epochs=2)
    old, new = make(data), make(NEW)
    fit(old, batches(data.train, 32), None, config, progress=False)
    asked = {name: column[:12] for name, column in data.train.items()}
    translated = {
        "user_index": users[asked["user_index"]].astype(np.int32),
        "history": items[asked["history"]].astype(np.int32),
        "item_index": items[asked["item_index"]].astype(np.int32),
    }

    def score(model, batch):
        output = model(tensors(batch))
        return output["rating"].numpy() if isinstance(output, dict) else output.numpy()

    expected = score(old, asked)
    assert np.abs(score(new, translated) - expected).max() > 1e-3
    warm_start(new, old, item_rows, user_rows)
    np.testing.assert_allclose(score(new, translated), expected, rtol=1e-4, atol=1e-5)
    unknown = {**asked, "user_index": np.zeros(12, np.int32)}
    newcomer = {**translated, "user_index": np.full(12, NEW.space.num_users - 1, np.int32)}
    np.testing.assert_allclose(score(new, newcomer), score(old, unknown), rtol=1e-4, atol=1e-5)
    item = len(NEW.ids) - 1
    features = {"genre": NEW.genre[[item] * 3], "text_vector": NEW.text_vectors[[item] * 3]}
    if hasattr(old, "candidate_from_features"):
        by_text = old.candidate_from_features(tensors(features))
        np.testing.assert_allclose(
            new.candidate_embeddings(tf.constant([item] * 3)), by_text, rtol=1e-4, atol=1e-5
        )


def test_old_rows_by_hand():
    np.testing.assert_array_equal(old_rows(["", "c", "a", "x"], ["", "a", "b", "c"]), [0, 3, 1, -1])


def test_models_of_other_shapes_are_refused():
    rows = np.arange(len(NEW.ids)), np.arange(NEW.space.num_users)
    with pytest.raises(ValueError, match="same configuration"):
        warm_start(two_tower(NEW), two_tower(NEW, dim=8), *rows)
    with pytest.raises(ValueError, match="same configuration"):
        warm_start(two_tower(NEW), two_tower(NEW, hidden=(8,)), *rows)


@pytest.mark.parametrize("width", [3, 5, 8])
def test_factors_initialise_an_embedding_and_keep_who_is_near(width):
    layer = tf_keras.layers.Embedding(12, 5)
    layer(tf.constant([0]))
    size = np.sqrt(np.mean(layer.embeddings.numpy() ** 2))
    factors = np.random.default_rng(0).normal(size=(12, 3)) @ np.random.default_rng(1).normal(size=(3, width))
    initialise_embedding(layer, factors)
    now = layer.embeddings.numpy()
    assert np.sqrt(np.mean(now**2)) == pytest.approx(size, rel=1e-4)
    cosine = lambda x: x @ x.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=1))  # noqa: E731
    np.testing.assert_allclose(cosine(now), cosine(factors), atol=1e-4)
    with pytest.raises(ValueError, match="one row per embedding row"):
        initialise_embedding(layer, factors[:5])


def test_ids_start_from_text_where_there_is_any():
    config = dataclasses.replace(RETRIEVAL, tower=dataclasses.replace(RETRIEVAL.tower, id_start="text"))
    started = two_tower(NEW, config).item_tower.id_embedding.embeddings.numpy()
    vectors = np.asarray(NEW.text_vectors, np.float64)
    assert started.std() == pytest.approx(0.02, rel=0.1)  # as large as it would be by chance
    gram = vectors @ vectors.T
    np.testing.assert_allclose(started @ started.T * gram[1, 1] / (started[1] @ started[1]), gram, atol=1e-4)
    plain = planted(num_users=30, circles=4, text=False)
    assert np.isfinite(two_tower(plain, config).item_tower.id_embedding.embeddings.numpy()).all()
