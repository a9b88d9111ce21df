"""Every metric beside the ranking ones: in its range for any input, and as independent libraries have it."""

import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from tfrec_fusion.metrics import beyond_accuracy, bootstrap
from tfrec_fusion.metrics.classification import classification_report
from tfrec_fusion.metrics.pointwise import auc, log_losses, per_user_auc, per_user_ndcg, placements

SCORE = st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0])
EXAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), SCORE, st.integers(0, 4)), min_size=1, max_size=40
)


def columns(examples):
    return (np.array(column) for column in zip(*examples, strict=True))


@given(EXAMPLES)
def test_figures_of_examples_agree_with_scikit_learn_ties_included(examples):
    row, click, score, rating = columns(examples)
    areas, gains = per_user_auc(row, click, score), per_user_ndcg(row, rating, score)
    assert len(areas) == len(gains) == row.max() + 1
    for user in range(row.max() + 1):
        own = row == user
        if len(np.unique(click[own])) == 2:
            assert areas[user] == pytest.approx(sklearn.metrics.roc_auc_score(click[own], score[own]))
        else:
            assert np.isnan(areas[user])
        if own.sum() and len(np.unique(rating[own])) > 1:
            assert gains[user] == pytest.approx(sklearn.metrics.ndcg_score([rating[own]], [score[own]]))
        else:
            assert np.isnan(gains[user])
    if len(np.unique(click)) == 2:
        expected = sklearn.metrics.roc_auc_score(click, score)
        assert auc(click, score) == pytest.approx(expected)
        assert placements(click, score)[click > 0].mean() == pytest.approx(expected)
    probability = np.clip(score, 1e-7, 1 - 1e-7)
    expected = sklearn.metrics.log_loss(click, probability, labels=[0, 1])
    assert log_losses(click, score).mean() == pytest.approx(expected, rel=1e-6)


def test_an_order_that_cannot_be_wrong_is_not_right_either():
    """A single example, and examples that are all alike, once counted as 1.0000 [1.0000, 1.0000]."""
    result = per_user_ndcg(np.array([0, 1, 1, 2, 2]), np.array([5, 4, 4, 1, 2]), np.array([1, 2, 3, 1, 2.0]))
    np.testing.assert_array_equal(np.isnan(result), [True, True, False])
    assert result[2] == 1


@given(EXAMPLES, st.integers(0, 39))
def test_a_score_that_is_no_number_leaves_its_person_without_figures(examples, place):
    user, click, score, rating = columns(examples)
    score[place % len(score)] = np.nan
    owner = user[place % len(score)]
    for result in (per_user_auc(user, click, score), per_user_ndcg(user, rating, score)):
        assert np.isnan(result[owner])
        known = result[~np.isnan(result)]
        assert ((known >= 0) & (known <= 1)).all()
    assert np.isnan(auc(click, score))


def test_of_nobody_there_are_no_figures():
    nothing = np.zeros(0)
    assert len(per_user_auc(np.zeros(0, int), nothing, nothing)) == 0
    assert len(per_user_ndcg(np.zeros(0, int), nothing, nothing)) == 0
    assert np.isnan(auc(nothing, nothing))


@given(
    st.lists(st.lists(st.integers(-1, 9), min_size=4, max_size=4), min_size=1, max_size=8),
    st.lists(st.integers(0, 50), min_size=10, max_size=10),
    st.integers(1, 20),
)
def test_what_lies_beyond_accuracy_stays_in_its_range(lists, counts, users):
    """Repeats in lists, empty positions, and items chosen more often than there are users."""
    recommended, counts = np.array(lists), np.array(counts)
    vectors = np.random.default_rng(0).normal(size=(10, 3)) * (counts > 5)[:, None]
    relevant = [row[:2] for row in lists]
    ranges = {
        "coverage": (beyond_accuracy.coverage(recommended, 10), 0, 1),
        "gini": (beyond_accuracy.gini(recommended, 10), 0, 1),
        "novelty": (beyond_accuracy.novelty(recommended, counts), 0, np.inf),
        "novelty by users": (beyond_accuracy.novelty(recommended, counts, users), 0, np.inf),
        "diversity": (beyond_accuracy.intra_list_diversity(recommended, vectors), 0, 2),
        "serendipity": (beyond_accuracy.serendipity(recommended, relevant, counts, users), 0, 1),
    }
    for name, (value, low, high) in ranges.items():
        assert np.isnan(value) or low <= value <= high, name
    shown = recommended[recommended >= 0]
    if len(shown):
        times = np.bincount(shown, minlength=10)
        differences = np.abs(times[:, None] - times).mean() / (2 * times.mean())
        assert ranges["gini"][0] == pytest.approx(differences)


def test_a_repetition_in_a_list_is_no_second_hit():
    result = beyond_accuracy.serendipity(np.array([[1, 1]]), [[1]], np.array([0, 1]), num_users=2)
    assert result == 0.25


def test_more_items_than_there_are_is_an_error():
    for call in (beyond_accuracy.coverage, beyond_accuracy.gini):
        with pytest.raises(ValueError, match="3 items of 2"):
            call(np.array([[0, 1, 2]]), 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_classification_agrees_with_scikit_learn(pairs):
    labels, predictions = columns(pairs)
    ours = classification_report(labels, predictions, names=list("abcd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sklearn.metrics.classification_report(
            labels, predictions, labels=range(4), target_names=list("abcd"), output_dict=True, zero_division=0
        )
    for ours_name, name in (
        *zip("abcd", "abcd", strict=True),
        ("macro", "macro avg"),
        ("weighted", "weighted avg"),
    ):
        for ours_kind, kind in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert ours[ours_name][ours_kind] == pytest.approx(theirs[name][kind]), (name, kind)
            assert 0 <= ours[ours_name][ours_kind] <= 1
    assert ours["accuracy"]["f1"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))


@given(st.lists(st.one_of(st.floats(-10, 10), st.just(np.nan)), min_size=1, max_size=60))
def test_an_interval_lies_within_the_draws(draws):
    draws = np.array(draws)
    low, high = bootstrap.interval(draws)
    known = draws[~np.isnan(draws)]
    if not len(known):
        assert np.isnan([low, high]).all()
        return
    assert known.min() <= low <= high <= known.max()
    expected = np.percentile(known, [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, atol=1e-9)


def test_the_interval_of_a_mean_is_about_scipys():
    values = np.random.default_rng(0).exponential(size=200)
    sums = bootstrap.group_sums(np.arange(200), np.stack([values, np.ones(200)], 1))
    draws = bootstrap.resample(sums, samples=4000)
    ours = bootstrap.interval(draws[:, 0] / draws[:, 1])
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=0)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.02)
