"""A baseline behind the signatures of the retrieval model orders the catalogue as the baseline itself
does."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from implicit.als import AlternatingLeastSquares

from tests.planted_serving import no_wishes, serving_arguments
from tfrec_fusion.export import base as export
from tfrec_fusion.export import retrieval as export_retrieval
from tfrec_fusion.index import BruteForce
from tfrec_fusion.models import baselines
from tfrec_fusion.models.served_baseline import ServedBaseline

USERS, ITEMS = 40, 25


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    taste = rng.random((USERS, 2)) @ rng.random((2, ITEMS))
    met = (taste > np.quantile(taste, 0.7)).astype(np.float32)
    met[0], met[:, 0] = 0, 0
    return scipy.sparse.csr_matrix(met)


def histories(matrix):
    """Each person's items, twice over: what was met again counts once."""
    rows = [list(row.indices) * 2 for row in matrix]
    width = max(map(len, rows))
    return np.array([[0] * (width - len(row)) + row for row in rows], np.int32)


MODELS = {
    "popularity": lambda: baselines.Popularity(),
    "als": lambda: baselines.ALS(dim=4),
    "content_knn": lambda: baselines.ContentKNN(
        np.concatenate([np.zeros((1, 6)), np.random.default_rng(1).normal(size=(ITEMS - 1, 6))])
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_orders_items_as_the_baseline_does(matrix, name):
    fitted = MODELS[name]().fit(matrix)
    popularity = np.asarray(matrix.sum(0))[0]
    model = ServedBaseline(fitted, popularity)
    queries = model.query_embeddings({"history": tf.constant(histories(matrix))}).numpy()
    vectors = model.candidate_embeddings().numpy()
    scores = queries @ vectors.T
    users = np.flatnonzero(np.diff(matrix.indptr))
    expected = fitted.scores(users)
    if name == "als":
        # What `implicit` itself solves for a user, given these factors.
        solver = AlternatingLeastSquares(factors=4, regularization=0.1, alpha=10.0, use_gpu=False)
        solver.item_factors = fitted.item_factors
        expected = solver.recalculate_user(users, matrix[users]) @ fitted.item_factors.T
    for user, wanted in zip(users, expected, strict=True):
        assert np.corrcoef(scores[user, 1:], np.log1p(wanted[1:]) if name == "popularity" else wanted[1:])[
            0, 1
        ] == pytest.approx(1, abs=1e-4)
    nobody = np.setdiff1d(np.arange(USERS), users)
    assert (np.argsort(-scores[nobody], kind="stable")[:, 0] == popularity.argmax()).all()
    assert np.linalg.norm(queries, axis=1) == pytest.approx(1, abs=1e-5)


def test_other_baselines_are_refused(matrix):
    with pytest.raises(ValueError, match="must be Popularity, ALS or ContentKNN. Received: EASE"):
        ServedBaseline(baselines.EASE().fit(matrix), np.ones(ITEMS))


@pytest.mark.parametrize("name", ["popularity", "als", "content_knn"])
def test_it_is_served_under_the_same_signatures(data, profiles, name, tmp_path):
    arguments = serving_arguments(data, profiles)
    items = dataclasses.replace(arguments[0])
    met = baselines.interaction_matrix(
        np.repeat(np.arange(1, data.space.num_users), 2),
        np.concatenate([row[-2:] for row in data.test["history"]]),
        data.space.num_users,
        len(data.ids),
    )
    maker = {**MODELS, "content_knn": lambda: baselines.ContentKNN(np.asarray(data.text_vectors))}[name]
    model = ServedBaseline(maker().fit(met), np.asarray(met.sum(0))[0])
    index = BruteForce().index(export_retrieval.searchable(model, items)[1:])
    serving = export_retrieval.RetrievalSignatures(model, *arguments, index=index)
    export.save(serving, str(tmp_path / "model"))
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    assert set(signatures) >= {"serving_default", "recommend", "embed_query", "embed_item", "embed_text"}
    empty = tf.zeros([1, 0], tf.string)
    asked = {
        "history": empty,
        "k": tf.constant(5),
        "exclude": empty,
        "include_seen": tf.constant(True),
        "allow": empty,
        "categories": empty,
        "probes": tf.constant(0),
        **no_wishes(),
    }
    for user, text in (("user 3", ""), ("nobody", ""), ("", "space robot"), ("user 3", "paris")):
        found = signatures["recommend"](user_id=tf.constant([user]), text=tf.constant([text]), **asked)
        scores = found["scores"].numpy()[0]
        assert len(set(found["item_ids"].numpy()[0])) == 5
        assert np.isfinite(scores).all()
        assert (np.diff(scores) <= 0).all()
