"""Ranking and accuracy metrics: by hand, and against ranx on random data."""

import numpy as np
import pytest

from tfrec_fusion.metrics import accuracy


def test_rank_catalogue_excludes_and_orders():
    queries, items = (
        np.array([[1.0, 0.0], [0.0, 1.0]]),
        np.array([[9.0, 9.0], [1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]),
    )
    allowed = np.array([False, True, True, True])
    ranked = accuracy.rank_catalogue(queries, items, [[3], []], k=3, allowed=allowed)
    np.testing.assert_array_equal(ranked, [[2, 1, -1], [1, 2, 3]])


def test_ranking_does_not_depend_on_batches():
    rng = np.random.default_rng(0)
    queries, items = rng.integers(0, 2, (37, 4)), rng.integers(0, 2, (61, 4))
    exclude = [rng.choice(61, rng.integers(0, 5), replace=False) for _ in queries]
    once = accuracy.rank_catalogue(queries, items, exclude, k=20)
    np.testing.assert_array_equal(once, accuracy.rank_catalogue(queries, items, exclude, k=20, batch_size=5))


def test_ties_follow_the_shuffle_and_not_the_id():
    scores = lambda rows: np.zeros((len(rows), 1000))  # noqa: E731
    ranked = accuracy.rank_scores(scores, 2, 1000, k=10, seed=3)
    np.testing.assert_array_equal(ranked[0], ranked[1])
    assert len(set(ranked[0])) == 10
    # Ten random ids of a thousand average 500; the ten lowest would average 4.5.
    assert 200 < ranked[0].mean() < 800
    np.testing.assert_array_equal(ranked, accuracy.rank_scores(scores, 2, 1000, k=10, seed=3))
    assert (ranked != accuracy.rank_scores(scores, 2, 1000, k=10, seed=4)).any()


def test_partial_ranking_agrees_with_sorting_everything():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 6, (30, 40)).astype(np.float32)
    ranked = accuracy.rank_scores(lambda rows: scores[rows], 30, 40, k=15, seed=1)
    shuffle = np.random.default_rng(1).permutation(40)
    for row in range(30):
        expected = shuffle[np.argsort(-scores[row][shuffle], kind="stable")][:15]
        np.testing.assert_array_equal(ranked[row], expected)


def test_metrics_by_hand():
    ranked = np.array([[5, 7, 2, 9], [1, 2, 3, -1]])
    values = accuracy.ranking_metrics(ranked, [[7, 9, 4], [8]], ks=(2, 4))
    gain = 1 / np.log2(3)
    expected = {
        "recall@2": [1 / 3, 0],
        "precision@4": [2 / 4, 0],
        "hit_rate@2": [1, 0],
        "mrr@4": [1 / 2, 0],
        "map@4": [(1 / 2 + 2 / 4) / 3, 0],
        "ndcg@2": [gain / (1 + gain), 0],
        "ndcg@4": [(gain + 1 / np.log2(5)) / (1 + gain + 1 / 2), 0],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(values[name], numbers, err_msg=name)


def test_queries_without_relevant_items_do_not_count():
    ranked = np.array([[1, 2], [3, 4]])
    values = accuracy.ranking_metrics(ranked, [[1], []], ks=(2,))
    assert all(np.isnan(entries[1]) and not np.isnan(entries[0]) for entries in values.values())
    assert accuracy.evaluate(ranked, [[1], []], ks=(2,))["ndcg@2"] == 1


def test_agrees_with_ranx():
    """Also where an item is said to be relevant twice, and where `k` is above the catalogue."""
    ranx = pytest.importorskip("ranx")
    rng = np.random.default_rng(0)
    scores = rng.random((40, 200))
    relevant = [rng.choice(200, rng.integers(1, 15)) for _ in range(40)]
    ranked = accuracy.rank_scores(lambda rows: scores[rows], 40, 200, k=300)
    qrels = ranx.Qrels({f"q{q}": {f"d{i}": 1 for i in items} for q, items in enumerate(relevant)})
    run = ranx.Run({f"q{q}": {f"d{i}": float(scores[q, i]) for i in range(200)} for q in range(40)})
    names = {
        "recall": "recall",
        "precision": "precision",
        "hit_rate": "hit_rate",
        "ndcg": "ndcg",
        "mrr": "mrr",
        "map": "map",
    }
    ours = accuracy.evaluate(ranked, relevant, ks=(5, 50, 300))
    theirs = ranx.evaluate(qrels, run, [f"{name}@{k}" for name in names.values() for k in (5, 50, 300)])
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_streaming_mean_equals_one_pass():
    rng = np.random.default_rng(0)
    ranked, relevant = (
        rng.permuted(np.tile(np.arange(20), (30, 1)), axis=1),
        list(rng.integers(0, 20, (30, 1))),
    )
    mean = accuracy.StreamingMean()
    for start in range(0, 30, 7):
        mean.update(accuracy.ranking_metrics(ranked[start : start + 7], relevant[start : start + 7]))
    assert mean.result() == pytest.approx(accuracy.evaluate(ranked, relevant, ks=(10,)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy.rank_catalogue(np.ones((1, 2)), np.ones((3, 2)), k=0), "`k` must be at least 1"),
        (lambda: accuracy.rank_catalogue(np.ones((1, 2)), np.ones((3, 2)), [[], []]), "one entry per query"),
        (lambda: accuracy.rank_catalogue(np.full((1, 2), np.nan), np.ones((3, 2))), "Scores must be numbers"),
        (lambda: accuracy.ranking_metrics(np.ones((2, 3), int), [[1]]), "one entry per query"),
    ],
)
def test_errors_name_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
