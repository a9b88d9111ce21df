"""Widths of the solved parts: chosen by validation, bounded by memory, kept in checkpoints."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, batches, tensors, two_tower
from tfrec_fusion.config import ConfigError, RetrievalConfig, from_dict
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.hybrid.blend_fitting import HybridEstimator
from tfrec_fusion.models.hybrid.blend_rows import Rows
from tfrec_fusion.models.hybrid.blend_solving import Choices
from tfrec_fusion.models.hybrid.choosing import (
    LEAST,
    MOST_CONTENT,
    MOST_NUMBERS,
    Question,
    affordable,
    content_settings,
    content_widths,
    factors_settings,
    simplest,
)
from tfrec_fusion.models.hybrid.estimators import CollaborativeFactors, ContentFactors, Spectrum

DATA = planted(num_users=120, circles=4)


def clubs(num_clubs, seed=0):
    """Each user belongs to a club of six items and chose five of them: rank `num_clubs`, and no less."""
    rng = np.random.default_rng(seed)
    club = rng.integers(0, num_clubs, 40 * num_clubs)
    chosen = np.stack([rng.permutation(6) for _ in club]) + 6 * club[:, None] + 1
    rows = np.repeat(np.arange(len(club)), 4)
    ones = np.ones(len(rows), np.float32)
    shape = (len(club), 6 * num_clubs + 1)
    matrix = scipy.sparse.csr_matrix((ones, (rows, chosen[:, :4].ravel())), shape)
    asked = Rows(
        {"history": chosen[:, :4].astype(np.int32), "item_index": chosen[:, 4].astype(np.int32)},
        np.ones(len(club)),
    )
    return matrix, asked


@pytest.mark.parametrize("solver", ["exact", "iterated"])
def test_the_spectrum_is_that_of_a_singular_value_decomposition(monkeypatch, solver):
    if solver == "iterated":
        monkeypatch.setattr("tfrec_fusion.models.hybrid.estimators.EXACT", 0)
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 12)) @ np.diag(0.5 ** np.arange(12)) @ rng.normal(size=(12, 50))
    for matrix in (dense, dense.T):
        found = Spectrum(5).fit(scipy.sparse.csr_matrix(matrix))
        _, values, right = np.linalg.svd(matrix)
        np.testing.assert_allclose(found.squares, values[:5] ** 2, rtol=1e-3)
        cosines = np.abs(np.sum(found.vectors * right[:5].T, 0))
        np.testing.assert_allclose(cosines, 1, atol=1e-3)


def test_directions_that_are_not_there_are_zeros():
    found = Spectrum(4).fit(scipy.sparse.csr_matrix(np.ones((9, 6))))
    assert found.squares[0] == pytest.approx(54)
    assert not found.squares[1:].any() and not found.vectors[:, 1:].any()
    assert Spectrum(4).fit(scipy.sparse.csr_matrix((9, 6))).vectors.shape == (6, 0)


def test_as_many_factors_as_there_are_clubs():
    """With fewer factors than clubs some clubs look alike; more than that tell nothing."""
    matrix, rows = clubs(20)
    known, spectrum = np.arange(1, matrix.shape[1]), Spectrum(80).fit(matrix)
    question = Question.draw(rows, known, matrix.shape[1], np.random.default_rng(0))
    counts = np.full(matrix.shape[1], 9)
    assert factors_settings(question, spectrum, counts, (4, 10, 20, 80)).width == 20


def test_what_the_towers_know_the_factors_need_not_tell():
    matrix, rows = clubs(20)
    known, spectrum = np.arange(1, matrix.shape[1]), Spectrum(80).fit(matrix)

    def towers(asked, candidates):
        return ((candidates - 1) // 6 == (asked.target[:, None] - 1) // 6).astype(np.float32)

    question = Question.draw(rows, known, matrix.shape[1], np.random.default_rng(0), towers)
    assert question.towers.shape == question.allowed.shape
    counts = np.full(matrix.shape[1], 9)
    assert factors_settings(question, spectrum, counts, (4, 10, 20, 80)).width == 4


def test_noise_gets_the_smallest_width():
    rng = np.random.default_rng(1)
    matrix = scipy.sparse.csr_matrix((rng.random((300, 80)) < 0.05).astype(np.float32))
    history = np.stack([rng.choice(79, 5, replace=False) + 1 for _ in range(200)]).astype(np.int32)
    rows = Rows({"history": history[:, :4], "item_index": history[:, 4]}, np.ones(200))
    question = Question.draw(rows, np.arange(1, 80), 80, rng)
    spectrum = Spectrum(64).fit(matrix)
    assert factors_settings(question, spectrum, np.full(80, 9), (8, 32, 64)).width == 8


def test_the_simplest_within_a_standard_error_is_taken():
    losses = {1: np.array([2.0, 2.0]), 2: np.array([1.05, 1.0]), 3: np.array([1.0, 1.04])}
    weight = np.array([0.5, 0.5])
    assert simplest(losses.__getitem__, (1, 2, 3), weight) == 2
    assert simplest(losses.__getitem__, (3,), weight) == 3


def test_losses_are_negative_log_likelihoods():
    scores = np.array([[[1.0], [0.0], [5.0]]], np.float32)
    choices = Choices(scores, np.array([0]), np.array([[True, True, False]]), np.ones(1))
    np.testing.assert_allclose(choices.losses(np.array([2.0])), np.log(1 + np.exp(-2)), rtol=1e-6)


def test_what_was_chosen_before_is_no_candidate_again():
    matrix, rows = clubs(3)
    question = Question.draw(rows, np.arange(1, matrix.shape[1]), matrix.shape[1], np.random.default_rng(0))
    assert question.allowed[np.arange(len(question.target)), question.target].all()
    assert (~question.allowed).sum(1).tolist() == [4] * len(question.target)


@pytest.mark.parametrize("items", [50, 5000, 200_000, 3_000_000])
def test_widths_stay_within_memory_and_rank(items):
    matrix = scipy.sparse.csr_matrix((1000, items))
    widths = affordable(matrix)
    assert widths == sorted(set(widths)) and widths[-1] <= min(items, 1000) - 1
    assert all(width <= LEAST or width * items <= MOST_NUMBERS for width in widths)
    assert all(width <= LEAST or width * items <= MOST_CONTENT for width in content_widths(384, items))


def test_narrowed_content_is_the_leading_components():
    text = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    text[3] = 0
    content = ContentFactors(5).fit(text)
    narrow = content.narrowed(2)
    np.testing.assert_allclose(np.abs(narrow.axes), np.abs(ContentFactors(2).fit(text).axes), atol=1e-4)
    vectors = narrow.transform(text)
    assert vectors.shape == (40, 2) and not vectors[3].any()
    np.testing.assert_allclose(np.linalg.norm(np.delete(vectors, 3, 0), axis=1), 1, rtol=1e-5)


def fitted(**changes):
    model = two_tower(DATA, dataclasses.replace(RETRIEVAL, **changes))
    validation = {name: values[:90] for name, values in DATA.test.items()}
    HybridEstimator().fit(model, batches(DATA.train, 64), batches(validation, 64))
    return model


def scores(model):
    return (model.query_embeddings(tensors(DATA.test)) @ tf.transpose(model.candidate_embeddings())).numpy()


def test_a_checkpoint_holds_the_widths(tmp_path):
    model = fitted()
    assert model.blend.factors_dim >= 16 and model.blend.content_dim > 0
    tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    again = two_tower(DATA)
    assert again.blend.factors_dim == 0
    read = tf.train.Checkpoint(model=again).read(str(tmp_path / "weights"))
    read.expect_partial().assert_existing_objects_matched()
    assert again.blend.widths == model.blend.widths
    np.testing.assert_allclose(scores(again), scores(model), atol=1e-6)


def test_widths_that_are_given_are_kept():
    model = fitted(collaborative_dim=5, content_dim=0)
    assert (model.blend.factors_dim, model.blend.content_dim) == (5, 0)
    with pytest.raises(ValueError, match="same configuration"):
        two_tower(DATA, dataclasses.replace(RETRIEVAL, collaborative_dim=6)).blend.start_from(
            model.blend, np.arange(len(DATA.ids)), model.item_tower.values()
        )


def test_the_graph_knows_the_width_of_a_vector():
    model = fitted()
    ask = tf.function(model.query_embeddings)
    batch = tensors({name: values[:3] for name, values in DATA.test.items()})
    assert ask.get_concrete_function(batch).output_shapes[1] == model.blend.width
    np.testing.assert_allclose(ask(batch), model.query_embeddings(batch), atol=1e-6)


def test_factors_narrower_than_the_spectrum_are_those_of_a_narrower_one():
    matrix, _ = clubs(8)
    wide = CollaborativeFactors(6).fit_spectrum(Spectrum(20).fit(matrix))
    narrow = CollaborativeFactors(6).fit(matrix)
    np.testing.assert_allclose(wide.gain, narrow.gain, rtol=1e-5)
    np.testing.assert_allclose(wide.leverage, narrow.leverage, atol=1e-2)


@pytest.mark.parametrize("value", [-3, "wide", 1.5])
def test_other_widths_are_refused(value):
    with pytest.raises(ConfigError, match="collaborative_dim"):
        from_dict(RetrievalConfig, {"collaborative_dim": value})
    assert from_dict(RetrievalConfig, {"collaborative_dim": "auto", "content_dim": 0}).content_dim == 0


def test_content_with_a_ridge_is_a_ridge_regression_on_the_texts():
    """The score of an item for one of another is `t_i (C + l)^-1 t_j`, both sides of length 1."""
    rng = np.random.default_rng(3)
    text = (rng.normal(size=(200, 6)) * [4, 2, 1, 1, 0.5, 0.2]).astype(np.float32)
    content = ContentFactors(6, ridge=2).fit(text)
    centred = text - text.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    covariance = centred.T @ centred / len(text)
    ridge = np.sort(np.linalg.eigvalsh(covariance))[::-1][2]
    expected = centred @ np.linalg.inv(covariance + ridge * np.eye(6)) @ centred.T
    own = np.sqrt(np.diag(expected))
    vectors = content.transform(text)
    np.testing.assert_allclose(vectors @ vectors.T, expected / np.outer(own, own), atol=1e-4)
    narrow, wide = ContentFactors(6).fit(text).narrowed(4, 2), content.transform(text)[:, :4]
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(narrow.transform(text)), np.abs(wide), atol=1e-4)


def test_a_direction_that_all_texts_share_is_told_from_what_users_choose_by():
    """Texts vary most where nobody looks: with a ridge the direction that decides counts."""
    rng = np.random.default_rng(4)
    taste = rng.integers(0, 2, 101) * 2.0 - 1
    loud = rng.normal(size=(101, 39)) * np.append([4, 2, 2], np.full(36, 0.1))
    text = np.concatenate([loud, 0.4 * taste[:, None]], 1).astype(np.float32)
    liked = np.flatnonzero(taste[1:] > 0) + 1
    chosen = np.stack([rng.permutation(liked)[:5] for _ in range(150)]).astype(np.int32)
    rows = Rows({"history": chosen[:, :4], "item_index": chosen[:, 4]}, np.ones(150))
    question = Question.draw(rows, np.arange(1, 101), 101, rng)
    width, ridge = content_settings(question, text.__getitem__, ContentFactors(40).fit(text), (40,))
    assert width == 40 and ridge == 4


def test_the_newest_count_more_where_taste_moves_on_and_all_alike_where_it_does_not():
    """A history of 4 items of one club and 2 of another; the next is of the newer, or of the more."""
    matrix, _ = clubs(8)
    rng, size = np.random.default_rng(5), (matrix.shape[1] - 1) // 8
    old, new = rng.integers(0, 8, 200), rng.integers(0, 8, 200)
    kept = old != new

    def of(club, count):
        return np.stack([1 + size * one + rng.permutation(size)[:count] for one in club[kept]]).astype(
            np.int32
        )

    spectrum, counts = Spectrum(8).fit(matrix), np.full(matrix.shape[1], 9)
    for newer, later in ((True, new), (False, old)):
        history = np.concatenate([of(old, 4), of(new, 2)], 1)
        rows = Rows({"history": history, "item_index": of(later, 1)[:, 0]}, np.ones(kept.sum()))
        again = (rows.batch["history"] == rows.target[:, None]).any(1)
        question = Question.draw(
            rows.take(~again), np.arange(1, matrix.shape[1]), matrix.shape[1], np.random.default_rng(0)
        )
        recency = factors_settings(question, spectrum, counts, (8,)).recency
        assert recency > 0 if newer else recency == 0


def test_items_that_many_chose_are_damped_where_few_items_take_the_most():
    """Users of four clubs choose among all items, their club's five times as often, each item by its rank in
    its club to a power: so a logit is the club's and the item's, added."""
    rng, clubs_of, size = np.random.default_rng(3), 4, 30
    club = rng.integers(0, clubs_of, 400)
    share = np.tile((1.0 + np.arange(size)) ** -1.2, clubs_of)
    share = share * np.where(np.repeat(np.arange(clubs_of), size) == club[:, None], 5.0, 1.0)
    chosen = np.stack([rng.choice(len(row), 9, replace=False, p=row / row.sum()) for row in share]) + 1
    ones = np.ones(len(club) * 8, np.float32)
    places = (np.repeat(np.arange(len(club)), 8), chosen[:, :8].ravel())
    matrix = scipy.sparse.csr_matrix((ones, places), (len(club), 1 + clubs_of * size))
    counts = np.asarray(matrix.sum(0)).ravel().astype(np.int64)
    rows = Rows(
        {"history": chosen[:, :8].astype(np.int32), "item_index": chosen[:, 8].astype(np.int32)},
        np.ones(len(club)),
    )
    question = Question.draw(rows, np.arange(1, matrix.shape[1]), matrix.shape[1], rng)
    damping = factors_settings(question, Spectrum(8).fit(matrix), counts, (8,)).damping
    assert damping > 0


def test_divided_by_what_it_takes_of_itself_and_by_its_share():
    matrix = scipy.sparse.csr_matrix(np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]], np.float32))
    factors, counts = CollaborativeFactors(2).fit(matrix), np.array([0, 3, 2, 0])
    np.testing.assert_allclose(factors.divisor(counts, 0), 1 - factors.leverage, rtol=1e-6)
    wanted = (1 - factors.leverage[1:3]) * np.sqrt(np.array([3, 2]) / 2.5)
    np.testing.assert_allclose(factors.divisor(counts, 0.5)[1:3], wanted, rtol=1e-6)
    assert (factors.divisor(np.zeros(4, np.int64), 0.5) > 0).all()
