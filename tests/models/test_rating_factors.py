"""Factors of ratings that are solved: against a sampler of the same model, on planted ratings, and beside the
network."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.models.planted_models import RANKING, batches, ranking, tensors
from tfrec_fusion.config import Feature, TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.hybrid.rating_fitting import _user_side
from tfrec_fusion.models.hybrid.rating_solving import VariationalFactors
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.training.fitting import fit

USERS, ITEMS = 200, 120


def made_up(seed=0, dim=2, share=0.3, noise=0.3, side=0.0):
    """Ratings of a known low rank: which are known, all of them without noise, and what is said about
    items."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(ITEMS, 3))
    items = rng.normal(size=(ITEMS, dim)) + side * said @ rng.normal(size=(3, dim))
    exact = 3 + rng.normal(size=(USERS, dim)) @ items.T / np.sqrt(dim)
    exact += 0.5 * rng.normal(size=(USERS, 1)) + 0.5 * rng.normal(size=ITEMS)
    known = rng.random(exact.shape) < share
    known[0] = False
    rows, columns = np.nonzero(known)
    values = exact[known] + noise * rng.normal(size=len(rows))
    return scipy.sparse.csr_matrix((values, (rows, columns)), shape=exact.shape), exact, known, said


def solve(ratings, dim, item_side=None, user_side=None):
    return VariationalFactors(dim).fit(
        ratings,
        np.zeros((ITEMS, 0)) if item_side is None else item_side,
        scipy.sparse.csr_matrix((USERS, 0)) if user_side is None else user_side,
    )


def error(solution, exact, asked):
    users, items = np.nonzero(asked)
    return np.sqrt(np.mean((solution.predict(users, items) - exact[asked]) ** 2))


def test_ratings_of_low_rank_are_completed():
    ratings, exact, known, _ = made_up()
    asked = ~known
    asked[0] = False
    # Noise of .3 on a third of the entries: two factors and a bias of each side are found far more exactly.
    assert error(solve(ratings, 2), exact, asked) < 0.2
    assert np.std(exact[asked]) > 1


def test_needless_factors_do_no_harm():
    ratings, exact, known, _ = made_up()
    asked = ~known
    asked[0] = False
    assert error(solve(ratings, 12), exact, asked) < 1.1 * error(solve(ratings, 2), exact, asked)


def gibbs(ratings, dim, noise, sweeps=300, seed=0):
    """Bayesian PMF's sampler with fixed hyperparameters (Salakhutdinov and Mnih, 2008): the mean of its
    predictions."""
    rng = np.random.default_rng(seed)
    known = ratings.copy()
    known.data[:] = 1
    centred = ratings.toarray() - ratings.data.mean()
    mask = known.toarray().astype(bool)
    users, items = 0.1 * rng.normal(size=(USERS, dim + 1)), 0.1 * rng.normal(size=(ITEMS, dim + 1))
    total = np.zeros_like(centred)
    for sweep in range(sweeps):
        for own, other, seen, values in ((users, items, mask, centred), (items, users, mask.T, centred.T)):
            design = np.insert(other[:, :-1], dim, 1.0, axis=1)
            for row in range(len(own)):
                there = seen[row]
                met = design[there]
                precision = met.T @ met / noise + np.diag(np.append(np.ones(dim), 4.0))
                target = met.T @ (values[row, there] - other[there, -1]) / noise
                mean = np.linalg.solve(precision, target)
                own[row] = mean + np.linalg.solve(np.linalg.cholesky(precision).T, rng.normal(size=dim + 1))
        if sweep >= sweeps // 3:
            total += users[:, -1:] + items[:, -1] + users[:, :-1] @ items[:, :-1].T
    return ratings.data.mean() + total / (sweeps - sweeps // 3)


@pytest.mark.slow
def test_predictions_are_those_of_a_sampler_of_the_same_model():
    ratings, exact, known, _ = made_up(share=0.15)
    asked = ~known
    asked[0] = False
    sampled = gibbs(ratings, 2, 0.3**2)
    solution = solve(ratings, 2)
    users, items = np.nonzero(asked)
    ours = solution.predict(users, items)
    apart = np.sqrt(np.mean((ours - sampled[asked]) ** 2))
    spread = np.std(sampled[asked])
    assert apart < 0.1 * spread
    assert error(solution, exact, asked) < 1.1 * np.sqrt(np.mean((sampled[asked] - exact[asked]) ** 2))


def test_what_is_said_about_items_speaks_for_those_that_nobody_rated():
    ratings, exact, known, said = made_up(side=1.5)
    known = known.copy()
    known[:, :20] = False
    ratings = ratings.multiply(known).tocsr()
    ratings.eliminate_zeros()
    asked = np.zeros_like(known)
    asked[1:, :20] = True
    without, told = solve(ratings, 2), solve(ratings, 2, said)
    assert error(told, exact, asked) < 0.8 * error(without, exact, asked)
    # And is what the predictor says about an item that came later.
    later = np.append(said[:20], np.ones((20, 1)), 1) @ told.predictor
    np.testing.assert_allclose(later, told.items[:20], atol=1e-5)


def test_features_of_people_speak_for_those_who_rated_little():
    rng = np.random.default_rng(3)
    group = rng.integers(0, 2, USERS)
    taste = np.where(np.arange(ITEMS) % 2 == 0, 1.0, -1.0)
    exact = 3 + np.where(group == 0, 1.0, -1.0)[:, None] * taste
    known = rng.random(exact.shape) < np.where(np.arange(USERS) < 50, 0.01, 0.3)[:, None]
    known[0] = False
    rows, columns = np.nonzero(known)
    values = exact[known] + rng.normal(size=len(rows))
    ratings = scipy.sparse.csr_matrix((values, (rows, columns)), shape=exact.shape)
    hot = scipy.sparse.csr_matrix((np.ones(USERS), (np.arange(USERS), group)), shape=(USERS, 2))
    asked = ~known
    asked[0] = asked[50:] = False
    assert error(solve(ratings, 2, user_side=hot), exact, asked) < 0.6 * error(
        solve(ratings, 2), exact, asked
    )


def test_the_scale_of_ratings_makes_no_difference():
    ratings, _, known, said = made_up()
    other = ratings.copy()
    other.data = 20 * other.data - 7
    users, items = np.nonzero(~known)
    ours, theirs = (solve(data, 3, said).predict(users, items) for data in (ratings, other))
    np.testing.assert_allclose(theirs, 20 * ours - 7, rtol=1e-3, atol=1e-2)


def test_ratings_that_are_all_the_same_are_predicted_so():
    ratings, _, known, _ = made_up()
    ratings.data[:] = 4
    users, items = np.nonzero(~known)
    np.testing.assert_allclose(solve(ratings, 3).predict(users, items), 4, atol=1e-6)


def test_nothing_rated_and_one_rating():
    empty = solve(scipy.sparse.csr_matrix((USERS, ITEMS)), 4)
    assert not empty.users.any() and not empty.items.any()
    one = solve(scipy.sparse.csr_matrix(([4.0], ([3], [5])), shape=(USERS, ITEMS)), 4)
    assert one.predict(np.array([3, 0]), np.array([5, 7])) == pytest.approx([4, 4], abs=0.01)


DATA = planted(num_users=120, circles=4)


def quick(**changes):
    return dataclasses.replace(RANKING, training=TrainingConfig(epochs=2, batch_size=64), **changes)


@pytest.fixture(scope="module")
def fitted():
    model = ranking(DATA, quick())
    fit(model, batches(DATA.train, 64), batches(DATA.test, 64), model_training(), progress=False)
    return model


def model_training():
    return quick().training


def rmse(predictions, data):
    return float(np.sqrt(np.mean((np.asarray(predictions["rating"]) - data["rating"]) ** 2)))


def test_the_weight_is_the_one_with_the_least_error_on_validation(fitted):
    factors = fitted.rating_factors
    found = float(factors.weight.numpy())
    assert 0 < found <= 1
    best = rmse(fitted(tensors(DATA.test)), DATA.test)
    try:
        for other in (0.0, found / 2, min(1.0, found + 0.1)):
            factors.weight.assign(other)
            assert rmse(fitted(tensors(DATA.test)), DATA.test) >= best - 1e-5
    finally:
        factors.weight.assign(found)


@pytest.mark.slow
def test_without_validation_the_network_answers_alone():
    model = ranking(DATA, quick())
    fit(model, batches(DATA.train, 64), None, model_training(), progress=False)
    assert float(model.rating_factors.weight.numpy()) == 0


def test_a_ranking_without_ratings_has_none():
    model = ranking(DATA, quick(), labels={"click": "binary"})
    assert model.rating_factors is None
    assert ranking(DATA, quick(rating_dim=0)).rating_factors is None
    other = ranking(DATA, quick())
    with pytest.raises(ValueError, match="need a label that is a `rating`"):
        Ranking(
            other.item_tower,
            other.query_tower,
            other.head,
            16,
            {"click": "binary"},
            DATA.space.num_users,
            DATA.space.num_items,
            rating_factors=other.rating_factors,
        )


def test_other_labels_are_the_networks_own(fitted):
    before = fitted(tensors(DATA.test))["click"].numpy()
    weight = float(fitted.rating_factors.weight.numpy())
    fitted.rating_factors.weight.assign(0.0)
    after = fitted(tensors(DATA.test))["click"].numpy()
    fitted.rating_factors.weight.assign(weight)
    np.testing.assert_array_equal(before, after)


def test_candidates_by_vector_are_scored_as_the_catalogues_items(fitted):
    few = {name: column[:5] for name, column in DATA.test.items()}
    expected = fitted(tensors(few))["rating"].numpy()
    vectors = fitted.catalogue_vectors()
    batch = tensors({name: few[name] for name in ("user_index", "history", "item_index")})
    found = fitted.score_vectors(
        fitted.recent(batch), tf.gather(vectors, few["item_index"]), tf.gather(vectors, batch["history"])
    )
    np.testing.assert_allclose(found["rating"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_item_that_nobody_rated_is_rated_by_what_is_said_about_it():
    data = planted(num_users=60, circles=4, cold=True)
    model = ranking(data, quick())
    fit(model, batches(data.train, 64), batches(data.test, 64), model_training(), progress=False)
    model.rating_factors.weight.assign(0.5)
    item = int(data.cold_items[0])
    people = {name: data.test[name][:3] for name in ("user_index", "history")}
    features = {"genre": data.genre[[item] * 3], "text_vector": data.text_vectors[[item] * 3]}
    known = model(tensors({**people, "item_index": np.full(3, item, np.int32)}))
    unknown = model.score_features(tensors({**people, **features}))
    assert np.abs(model.rating_factors.items.numpy()[item]).max() > 0.01
    np.testing.assert_allclose(unknown["rating"], known["rating"], rtol=1e-4, atol=1e-4)


def test_people_are_described_by_their_last_example():
    data = planted(num_users=20, circles=2)
    space = dataclasses.replace(
        data.space, user_features=(Feature("country", "categorical", 4), Feature("age", "number"))
    )
    model = ranking(dataclasses.replace(data, space=space), quick())
    seen = {
        "user_index": np.array([3, 1, 3]),
        "country": np.array([1, 2, 3]),
        "age": np.array([0.5, -1, 2], np.float32),
    }
    found = _user_side(model.rating_factors, seen, space.num_users).toarray()
    assert found[3].tolist() == [0, 0, 0, 1, 2] and found[1].tolist() == [0, 0, 1, 0, -1]
    assert not found[[0, 2]].any()
