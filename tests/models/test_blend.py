"""The blend against NumPy: what each part scores, what its weights are worth, and that nothing trained is
touched."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, batches, catalogue, hit_rates, tensors, two_tower
from tfrec_fusion.config import Feature
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.metrics.ranks import tie_order
from tfrec_fusion.models.design_matrix import MOST_COLUMNS
from tfrec_fusion.models.hybrid import blend_fitting
from tfrec_fusion.models.hybrid.blend import Blend
from tfrec_fusion.models.hybrid.blend_rows import Rows
from tfrec_fusion.models.hybrid.blend_solving import (
    SMALLEST_WEIGHT,
    Choices,
    FoldedRidge,
    logistic_weights,
    mixtures,
    offset_for_share,
    simplest_of_the_highest,
    without_parts,
)
from tfrec_fusion.models.hybrid.blend_weights import PARTS
from tfrec_fusion.models.hybrid.estimators import CollaborativeFactors
from tfrec_fusion.training.fitting import fit

DATA = planted(num_users=120, circles=4, cold=True)


def halves(columns, seed=0):
    """One half of the rows to weigh the parts by, the other to judge."""
    chosen = np.random.default_rng(seed).random(len(columns["item_index"])) < 0.5
    return [{name: values[rows] for name, values in columns.items()} for rows in (chosen, ~chosen)]


@pytest.fixture(scope="module")
def blended():
    """A model whose towers learned nothing and read less of a history than its blend, which is weighed."""
    space = dataclasses.replace(DATA.space, history_length=2)
    model = two_tower(dataclasses.replace(DATA, space=space))
    validation, _ = halves(DATA.test)
    blend_fitting.HybridEstimator().fit(model, batches(DATA.train, 64), batches(validation, 64))
    return model


def test_with_all_singular_vectors_it_is_ease_but_for_the_items_own_weight():
    rng = np.random.default_rng(0)
    met = (rng.random((40, 12)) < 0.3).astype(np.float64)
    ease = CollaborativeFactors(11).fit(scipy.sparse.csr_matrix(met))
    squares = np.linalg.svd(met, compute_uv=False)[:11] ** 2
    penalty = np.median(squares)
    # Steck's closed form, on the interactions without their last singular direction.
    left, values, right = np.linalg.svd(met, full_matrices=False)
    met = (left[:, :11] * values[:11]) @ right[:11]
    inverse = np.linalg.inv(met.T @ met + penalty * np.eye(12))
    weights = -inverse / np.diag(inverse)
    found = (ease.vectors * ease.gain) @ (ease.vectors / (1 - ease.leverage)[:, None]).T
    off = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose(found[off], weights[off], rtol=1e-3, atol=1e-5)


def test_more_singular_vectors_than_there_are_are_zeros():
    ease = CollaborativeFactors(8).fit(scipy.sparse.csr_matrix(np.eye(3)))
    assert ease.vectors.shape == (3, 8)
    assert not ease.vectors[:, 2:].any()
    assert not CollaborativeFactors(2).fit(scipy.sparse.csr_matrix((3, 4))).vectors.any()


def test_weights_are_those_that_made_the_choices():
    rng = np.random.default_rng(1)
    true = np.array([1.5, 0.0, 0.7])
    scores = rng.normal(size=(4000, 30, 3)).astype(np.float32)
    allowed = rng.random((4000, 30)) < 0.9
    noisy = np.where(allowed, scores @ true + rng.gumbel(size=(4000, 30)), -np.inf)
    choices = Choices(scores, noisy.argmax(1), allowed, np.full(4000, 1 / 4000))
    found, loss = logistic_weights(choices, ridge=0.0)
    np.testing.assert_allclose(found, [1.5, SMALLEST_WEIGHT, 0.7], atol=0.06)
    assert loss < np.log(30)


def test_what_is_predicted_without_a_fold_never_saw_it():
    rng = np.random.default_rng(2)
    inputs, outputs = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    folds = np.arange(50) % 5
    ridge = FoldedRidge(5, 4, 2)
    ridge.add(folds[:20], inputs[:20], outputs[:20])
    ridge.add(folds[20:], inputs[20:], outputs[20:])
    rest = folds != 3
    wanted = np.linalg.solve(inputs[rest].T @ inputs[rest] + 2.0 * np.eye(4), inputs[rest].T @ outputs[rest])
    np.testing.assert_allclose(ridge.solve(2.0, without=3), wanted)


def test_a_gain_is_that_of_the_rank_among_what_was_allowed():
    scores = np.array([[[3.0], [2.0], [1.0], [2.0]]] * 3, np.float32)
    allowed = np.array([[True] * 4, [False, True, True, True], [True] * 4])
    choices = Choices(scores, np.array([0, 2, 1]), allowed, np.full(3, 1 / 3))
    # First; third once the best is out; of second and third the one that the shuffle puts first.
    ties = tie_order(4)
    third = 2 if ties[1] < ties[3] else 3
    np.testing.assert_allclose(choices.gains(np.array([2.0])), 1 / np.log2([2, 4, 1 + third]))


def test_one_part_alone_counts_until_others_are_seen_to_help():
    """Of two parts the second tells what is chosen; then it says nothing."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(600, 40, 2)).astype(np.float32)
    shares, weight = (0.0, 0.5, 1.0), np.full(600, 1 / 600)
    for told_by, expected in ((1, [0.02, 1.0]), (0, [1.0, 0.02])):
        chosen = (scores[..., told_by] + 0.5 * rng.gumbel(size=(600, 40))).argmax(1)
        choices = Choices(scores, chosen, np.ones((600, 40), bool), weight)
        blended = mixtures(choices, np.array([0.0, 1.0]), 0, shares)
        found = simplest_of_the_highest(choices, blended)
        np.testing.assert_allclose(found * scores.std((0, 1)), expected, atol=0.02)


def test_a_part_that_says_nothing_is_left_out_though_likelihood_would_weigh_it():
    """The last part is popularity, the first noise, which few rows seem to like by chance."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(300, 60, 3)).astype(np.float32)
    weight = np.full(300, 1 / 300)
    for told_by, left_out in ((2, [0, 1]), (0, [])):
        chosen = (scores[..., told_by] + rng.gumbel(size=(300, 60))).argmax(1)
        choices = Choices(scores, chosen, np.ones((300, 60), bool), weight)
        likeliest = logistic_weights(choices)[0]
        fewer = without_parts(choices, [0])
        assert fewer[0] == 0 and fewer[2] > 0
        popular = mixtures(choices, likeliest, 2, (0.0,))
        found = simplest_of_the_highest(choices, [*popular, fewer, likeliest])
        smallest = found * scores.std((0, 1)) <= SMALLEST_WEIGHT * 1.001
        assert smallest[left_out].all()
        assert not smallest[told_by]
        # What is served is then no worse than that part alone.
        alone = np.eye(3)[told_by]
        assert weight @ choices.gains(found) >= 0.97 * (weight @ choices.gains(alone))


def test_rows_beside_others_are_half_of_the_whole():
    one = Choices(np.zeros((2, 3, 1)), np.array([0, 1]), np.ones((2, 3), bool), np.array([0.25, 0.75]))
    other = Choices(np.ones((1, 3, 1)), np.array([2]), np.ones((1, 3), bool), np.array([1.0]))
    both = one.beside(other)
    np.testing.assert_allclose(both.weight, [0.125, 0.375, 0.5])
    assert both.target.tolist() == [0, 1, 2] and both.scores.shape == (3, 3, 1)


def test_what_is_taken_as_chosen_is_not_in_the_history():
    history = np.array([[0, 4, 5, 6], [1, 2, 3, 4], [0, 0, 0, 7]], np.int32)
    rows = Rows({"history": history, "item_index": np.array([9, 9, 9], np.int32)}, np.ones(3))
    found = rows.choosing(np.array([5, 8, 7], np.int32))
    # Of the last nothing is left that could tell of the choice.
    assert found.batch["history"].tolist() == [[0, 0, 4, 6], [1, 2, 3, 4]]
    assert found.target.tolist() == [5, 8]


def test_large_vocabularies_share_columns():
    features = [Feature("brand", "categorical", 3 * MOST_COLUMNS), Feature("theme", "categories", 20)]
    blend = Blend(catalogue(DATA), features, 8)
    most = MOST_COLUMNS // 2
    values = {
        "item_index": tf.constant([1, 2, 3]),
        "brand": tf.constant([0, 5, most + 5]),
        "theme": tf.constant([[0, 0], [3, 0], [3, 4]]),
        "text_vector": tf.zeros([3, blend.text_dim]),
    }
    side = blend.side(values).numpy()
    assert side.shape == (3, blend.text_dim + most + 20 + 1)
    assert side[:, blend.text_dim + 5].tolist() == [0, 1, 1] and not side[0, :-1].any()
    assert side[:, blend.text_dim + most + 3].tolist() == [0, 1, 0.5]


def test_the_offset_gives_the_wanted_share():
    rng = np.random.default_rng(3)
    new, old, weight = rng.normal(size=(6, 3)), rng.normal(size=(6, 9)), np.full(6, 1 / 6)
    offset = offset_for_share(new, old, weight, 0.2)
    mass = np.exp(new + offset).sum(1)
    assert np.mean(mass / (mass + np.exp(old).sum(1))) == pytest.approx(0.2, abs=1e-6)


def test_scores_are_the_weighted_sum_of_the_parts(blended):
    """One dot product of served vectors against each part worked out by hand."""
    blend = blended.blend
    batch = {name: values[:7] for name, values in DATA.test.items()}
    batch["history"] = batch["history"].copy()
    batch["history"][3] = 0
    items = blended.candidate_embeddings().numpy()
    scores = blended.query_embeddings(tensors(batch)).numpy() @ items.T
    tower = blended.tower_queries(tensors(batch)).numpy() @ blended.tower_candidates().numpy().T
    met = np.zeros((DATA.train["user_index"].max() + 1, len(DATA.ids)))
    met[DATA.train["user_index"], DATA.train["item_index"]] = 1
    ease = CollaborativeFactors(blend.factors_dim).fit(scipy.sparse.csr_matrix(met[1:]))
    known = DATA.counts > 0
    popularity = np.where(known, np.log1p(DATA.counts) - np.log1p(DATA.counts[known]).mean(), 0)
    divisor = (1 - ease.leverage) * np.maximum(DATA.counts / DATA.counts[known].mean(), 1e-9) ** (
        blend.weights_decided.damping
    )
    root, query_weights = blend.item_weights.numpy(), blend.query_weights.numpy()
    for row in range(7):
        history = batch["history"][row][batch["history"][row] > 0]
        # Of people nothing is known of, and of the others.
        weights = dict(zip(PARTS, query_weights[int(len(history) > 0), :5] * root, strict=True))
        wanted = weights["tower"] * tower[row] + weights["popularity"] * popularity
        if len(history):
            for part, recency in {"recent": blend.recency.numpy(), "factors": 0.0}.items():
                counted = np.arange(len(history), 0, -1.0) ** -recency
                query = counted @ ease.vectors[history] * ease.gain
                wanted += weights[part] * (ease.vectors @ query) / np.linalg.norm(query) / divisor
            text = DATA.text_vectors - blend.text_mean.numpy()
            content = text @ blend.text_to_content.numpy()
            content /= np.linalg.norm(content, axis=1, keepdims=True)
            query = content[history].sum(0)
            wanted += weights["content"] * (content @ query) / np.linalg.norm(query)
        # A query is scaled to length 1, which changes no order.
        scale = scores[row, known] @ wanted[known] / (wanted[known] @ wanted[known])
        np.testing.assert_allclose(scores[row, known], scale * wanted[known], rtol=1e-3, atol=1e-4)


def test_the_tower_reads_the_newest_and_what_stands_beside_it_all(blended):
    blend, batch = blended.blend, tensors({name: values[:9] for name, values in DATA.test.items()})
    assert batch["history"].shape[1] > 2
    newest = {**batch, "history": batch["history"][:, -2:]}
    wide, narrow = (blended.query_parts(some).numpy() for some in (batch, newest))
    np.testing.assert_allclose(wide[:, : blend.dim], narrow[:, : blend.dim], atol=1e-6)
    np.testing.assert_allclose(wide[:, : blend.dim], blended.tower_queries(batch), atol=1e-6)
    assert (np.abs(wide - narrow)[:, blend.dim :].max(1) > 1e-3).all()
    losses = [blended.compute_loss(some).numpy() for some in (batch, newest)]
    assert losses[0] == losses[1]


def test_vectors_given_or_made_are_the_same(blended):
    batch = tensors({name: values[:9] for name, values in DATA.test.items()})
    every = blended.candidate_embeddings()
    np.testing.assert_allclose(
        blended.query_embeddings(batch), blended.query_embeddings(batch, items=every), rtol=1e-4, atol=1e-5
    )
    rows = np.array([0, 5, 2, *DATA.cold_items[:2]], np.int32)
    np.testing.assert_allclose(
        blended.candidate_embeddings(tf.constant(rows)), every.numpy()[rows], atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(blended.query_embeddings(batch), axis=1), 1, rtol=1e-5)


def test_an_item_training_never_saw_is_what_its_text_says_in_the_catalogue_or_not(blended):
    cold = DATA.cold_items.astype(np.int32)
    features = {"genre": DATA.genre[cold], "text_vector": DATA.text_vectors[cold]}
    np.testing.assert_allclose(
        blended.candidate_from_features(tensors(features)),
        blended.candidate_embeddings(tf.constant(cold)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_parts_are_worth_something_where_the_towers_learned_nothing(blended):
    _, judged = halves(DATA.test)
    judged = {
        name: values[~np.isin(judged["item_index"], DATA.cold_items)] for name, values in judged.items()
    }
    before = hit_rates(two_tower(DATA, dataclasses.replace(RETRIEVAL, collaborative_dim=0)), judged, 3).mean()
    after = hit_rates(blended, judged, 3).mean()
    # Whoever walks a circle is left three of its items.
    assert before < 0.3 and after > 0.8


def test_towers_that_learned_nothing_have_no_say_about_new_items(blended):
    share = blended.blend.new_item_weights / blended.blend.item_weights
    np.testing.assert_allclose(share[PARTS.index("tower")], blend_fitting.NEGLIGIBLE, rtol=1e-4)


@pytest.mark.slow
def test_trained_towers_are_not_made_worse():
    """Among items that they were trained with: how new ones stand beside these is told by few rows here."""
    trained = DATA.counts > 0
    validation, judged = halves(DATA.test)
    judged = {name: values[trained[judged["item_index"]]] for name, values in judged.items()}
    assert len(judged["item_index"]) >= 30
    rates = []
    for dim in (0, 64):
        model = two_tower(
            DATA, dataclasses.replace(RETRIEVAL, collaborative_dim=dim), history_encoder="transformer"
        )
        fit(model, batches(DATA.train, 64), batches(validation, 64), RETRIEVAL.training, progress=False)
        rates.append(hit_rates(model, judged, 1, trained).mean())
    assert rates[0] > 0.9
    assert rates[1] > rates[0] - 0.05


def test_training_is_the_same_with_and_without_it():
    weights = []
    for dim in (0, 64):
        config = dataclasses.replace(RETRIEVAL, collaborative_dim=dim)
        model = two_tower(DATA, config, history_encoder="mean")
        training = dataclasses.replace(config.training, epochs=2)
        fit(model, batches(DATA.train, 64).take(4), None, training, progress=False)
        weights.append([weight.numpy() for weight in model.trainable_weights])
    for without, beside in zip(*weights, strict=True):
        np.testing.assert_array_equal(without, beside)


def test_too_little_validation_leaves_the_towers_alone():
    model = two_tower(DATA)
    few = {name: values[: blend_fitting.ENOUGH_ROWS - 1] for name, values in DATA.test.items()}
    batch = tensors(few)
    before = (model.query_embeddings(batch) @ tf.transpose(model.candidate_embeddings())).numpy()
    blend_fitting.HybridEstimator().fit(model, batches(DATA.train, 64), batches(few, 8))
    after = (model.query_embeddings(batch) @ tf.transpose(model.candidate_embeddings())).numpy()
    np.testing.assert_array_equal(before, after)
    tower = model.tower_queries(batch).numpy() @ model.tower_candidates().numpy().T
    order = np.argsort(-tower, 1)
    np.testing.assert_array_less(np.diff(np.take_along_axis(after, order, 1), axis=1), 1e-5)


def test_candidates_are_sampled_where_the_catalogue_is_large(monkeypatch):
    monkeypatch.setattr(blend_fitting, "LEAST_ROWS", 20)
    monkeypatch.setattr(blend_fitting, "SCORES", 400)
    model = two_tower(DATA)
    validation, judged = halves(DATA.test)
    blend_fitting.HybridEstimator().fit(model, batches(DATA.train, 64), batches(validation, 64))
    assert not np.array_equal(model.blend.query_weights[0], [1, 0, 0, 0, 1])
    assert np.isfinite(model.query_embeddings(tensors(judged))).all()


def test_a_new_item_is_predicted_by_ridge_regression(blended):
    """What is predicted of a new item is a ridge regression's over the items that are known."""
    blend = blended.blend
    known = np.flatnonzero(DATA.counts[1:]) + 1
    side = blend.side(blended.item_tower.values()).numpy().astype(np.float64)
    vectors = blended.candidate_embeddings().numpy()
    scale = np.repeat(blend.new_item_weights.numpy(), blend.widths)
    found = vectors[DATA.cold_items][:, :-1] / scale
    tower = blended.tower_candidates().numpy()
    root = np.sqrt(DATA.counts / DATA.counts[known].mean()) - 1
    factors = blend.factors.numpy() / blend.divisor.numpy()[:, None]
    learned = np.concatenate([tower, factors, root[:, None]], 1)[known]
    kept = [slice(0, blend.dim + blend.factors_dim), slice(-1, None)]
    found = np.concatenate([found[:, part] for part in kept], 1)
    gram, products = side[known].T @ side[known], side[known].T @ learned
    errors = []
    for ridge in blend_fitting.RIDGES:
        wanted = side[DATA.cold_items] @ np.linalg.solve(gram + ridge * np.eye(len(gram)), products)
        errors.append(np.abs(found - wanted).max())
    assert min(errors) < 1e-3


def test_people_of_whom_nothing_is_known_get_what_is_popular_where_nothing_else_helps(blended):
    batch = tensors({name: values[:1] for name, values in DATA.test.items()})
    batch["history"] = tf.zeros_like(batch["history"])
    known = np.flatnonzero(DATA.counts)
    scores = (blended.query_embeddings(batch) @ tf.transpose(blended.candidate_embeddings())).numpy()[
        0, known
    ]
    popular = np.log1p(DATA.counts[known])
    assert np.corrcoef(scores, popular)[0, 1] > 0.9
