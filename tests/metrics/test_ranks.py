"""The core of all ranking metrics: its rules by hand, and for any input against oracles and an independent
library."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.metrics import accuracy
from tfrec_fusion.metrics.ranks import (
    first_choices,
    gain,
    mean_of_known,
    next_item_ranks,
    per_user_figures,
    stands_before,
    target_ranks,
    tie_order,
)

NAMES = ("recall", "precision", "hit_rate", "ndcg", "mrr", "map")
ITEMS = st.integers(-1, 7)
LISTS = st.lists(st.lists(ITEMS, min_size=0, max_size=6), min_size=1, max_size=5)


def by_definition(listed, relevant, k):
    """One query's metrics, item by item."""
    right = {item for item in relevant if item >= 0}
    if not right:
        return dict.fromkeys(NAMES, np.nan)
    hits, seen = [], set()
    for item in [*listed, *[-1] * k][:k]:
        hits.append(item in right and item not in seen)
        seen.add(item)
    ranks = [position for position, hit in enumerate(hits, 1) if hit]
    ideal = sum(1 / np.log2(1 + position) for position in range(1, min(len(right), k) + 1))
    return {
        "recall": len(ranks) / len(right),
        "precision": len(ranks) / k,
        "hit_rate": float(bool(ranks)),
        "ndcg": sum(1 / np.log2(1 + rank) for rank in ranks) / ideal,
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum(position / rank for position, rank in enumerate(ranks, 1)) / len(right),
    }


def padded(lists):
    width = max(map(len, lists), default=0)
    return np.array([[*row, *[-1] * (width - len(row))] for row in lists], np.int64).reshape(
        len(lists), width
    )


@given(LISTS, st.data(), st.integers(1, 12))
def test_list_metrics_are_those_of_the_definition_for_any_input(lists, data, k):
    """Repeats in lists and among what is relevant, padding anywhere, nothing listed, nothing relevant, `k`
    beyond all."""
    relevant = [data.draw(st.lists(ITEMS, max_size=6)) for _ in lists]
    result = accuracy.ranking_metrics(padded(lists), relevant, (k,))
    for row, (listed, right) in enumerate(zip(lists, relevant, strict=True)):
        for name, value in by_definition(listed, right, k).items():
            own = result[f"{name}@{k}"][row]
            assert own == pytest.approx(value, abs=1e-12, nan_ok=True), name
            assert np.isnan(own) or 0 <= own <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 12))
def test_figures_of_ranks_are_those_of_the_lists(choices, k):
    """A choice is a user and an item; a user's ranks are one shuffle of the items, and repeats count
    once."""
    users, items = np.array(choices).T
    shuffles = np.random.default_rng(0).permuted(np.tile(np.arange(10), (4, 1)), axis=1)
    ranks = np.argsort(shuffles, 1)[users, items] + 1.0
    expected = np.unique(users)
    lists = accuracy.ranking_metrics(shuffles[expected], [items[users == user] for user in expected], (k, 10))
    for named in (None, items):
        result = per_user_figures(users, ranks, [k], named)
        for name in NAMES:
            np.testing.assert_allclose(result[f"{name}@{k}"], lists[f"{name}@{k}"], atol=1e-12)
        np.testing.assert_allclose(result["mrr"], lists["mrr@10"])


RANKS = st.one_of(st.just(np.inf), st.integers(1, 5).map(float), st.integers(1, 2**30).map(float))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), RANKS), min_size=1, max_size=30))
def test_figures_stay_in_their_range_whatever_the_ranks(choices):
    """Also where two items of a user have one rank, as with lists that context changes."""
    users, items, ranks = (np.array(column) for column in zip(*choices, strict=True))
    for named in (None, items):
        for name, values in per_user_figures(users, ranks, [1, 3, 10], named).items():
            assert len(values) == len(np.unique(users))
            assert ((values >= 0) & (values <= 1)).all(), name


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan, -np.inf, np.inf]), min_size=2, max_size=8),
    st.integers(0, 5),
)
def test_ranks_are_places_in_the_sorted_list_and_lists_agree(scores, seed):
    scores, ties = np.array([scores]), tie_order(len(scores), seed)
    order = sorted(
        (item for item, score in enumerate(scores[0]) if score > -np.inf),
        key=lambda item: (-scores[0, item], ties[item]),
    )
    expected = [order.index(item) + 1 if item in order else np.inf for item in range(scores.shape[1])]
    results = [target_ranks(scores, np.array([item]), ties)[0] for item in range(scores.shape[1])]
    assert results == expected
    if not np.isnan(scores).any():
        size = scores.shape[1]
        (listed,) = accuracy.rank_scores(lambda rows: scores[rows], 1, size, k=size, seed=seed)
        assert listed.tolist() == order + [-1] * (size - len(order))


def test_case_of_repeats_by_hand():
    """Bought once, twice and five times at rank 1; one item three times at rank 2 and another once at rank
    40."""
    for ranks in ([1.0], [1.0, 1.0], [1.0] * 5):
        figures = per_user_figures(np.full(len(ranks), 7), np.array(ranks), [5, 10])
        assert figures["ndcg@10"] == figures["map@5"] == figures["recall@10"] == 1
    figures = per_user_figures(np.array([7] * 4), np.array([2.0, 2, 2, 40]), [10])
    assert figures["ndcg@10"][0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert figures["recall@10"] == 0.5
    listed = accuracy.ranking_metrics(np.array([[1, 1]]), [np.array([1])], (2,))
    assert listed["recall@2"] == listed["ndcg@2"] == 1
    assert listed["precision@2"] == 0.5


def test_of_no_queries_and_of_an_empty_catalogue_there_are_no_figures():
    assert np.isnan(accuracy.evaluate(np.zeros((0, 5), int), [], (10,))["ndcg@10"])
    assert accuracy.rank_scores(lambda rows: np.zeros((len(rows), 0)), 3, 0, k=5).shape == (3, 0)


def test_which_choice_of_an_item_counts_depends_neither_on_the_order_nor_on_its_rank():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 50, 400), rng.integers(0, 3, 400)
    ranks = rng.integers(1, 100, (400, 2)).astype(np.float32)
    kept = first_choices(users, items, ranks)
    assert len(kept) == len({*zip(users, items, strict=True)})
    order = rng.permutation(400)
    again = order[first_choices(users[order], items[order], ranks[order])]
    np.testing.assert_array_equal(ranks[kept], ranks[again])
    assert abs(ranks[kept].mean() - ranks.mean()) < 10


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_scores_that_are_all_alike_or_no_numbers_gain_next_to_nothing(value):
    scores = np.full((1000, 1001), value)
    target = np.random.default_rng(0).integers(1, 1001, 1000)
    ranks = next_item_ranks(scores, target, np.zeros((1000, 1), int), tie_order(1001))
    assert gain(ranks, 10).mean() < 0.02


def test_what_was_met_before_cannot_come_next():
    scores = np.array([[9.0, 4, 3, 2], [9, 4, 3, 2], [9, 4, 3, 2]])
    ranks = next_item_ranks(scores, np.array([2, 2, 2]), np.array([[0, 1], [0, 3], [0, 2]]), tie_order(4))
    np.testing.assert_array_equal(ranks, [1, 2, np.nan])
    assert mean_of_known(gain(ranks, 10)) == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_arrays_and_tensors_are_ordered_by_the_same_rule():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    scores = rng.choice([0.0, 1.0, np.nan], (20, 9)).astype(np.float32)
    ties, own = tie_order(9), scores[:, 4:5]
    expected = stands_before(scores, ties, own, ties[4])
    result = stands_before(tf.constant(scores), tf.constant(ties), tf.constant(own), tf.constant(ties)[4])
    np.testing.assert_array_equal(expected, result.numpy())


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_ndcg_agrees_with_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (4, 20))
    labels[:, 0] = 1
    scores = rng.permuted(np.tile(np.arange(20.0), (4, 1)), axis=1)
    ranked = accuracy.rank_scores(lambda rows: scores[rows], 4, 20, k=k)
    ours = accuracy.ranking_metrics(ranked, [np.flatnonzero(row) for row in labels], (k,))[f"ndcg@{k}"]
    theirs = [
        sklearn.metrics.ndcg_score([row], [score], k=k) for row, score in zip(labels, scores, strict=True)
    ]
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: per_user_figures(np.zeros(1), np.array([0.5]), [10]), "whole numbers from 1"),
        (lambda: per_user_figures(np.zeros(1), np.array([np.nan]), [10]), "whole numbers from 1"),
        (lambda: per_user_figures(np.zeros(1), np.ones(1), [0]), "cut-offs from 1"),
        (lambda: accuracy.ranking_metrics(np.ones((1, 1), int), [[1]], [0]), "cut-offs from 1"),
    ],
)
def test_errors_name_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
