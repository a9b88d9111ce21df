"""The comparison of recommendations asks what it says that it asks."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.peak_memory import FORGET, forget_peak, peak_megabytes
from benchmarks.quality import FIGURES, judge, summary
from benchmarks.quality_data import Protocol
from benchmarks.quality_models import FUSED, reranked
from benchmarks.quality_ratings import HISTORY, Ratings
from tfrec_fusion.config import Feature, FeatureSpace

ITEMS = 200


class Catalogue:
    """As much of one as is asked for."""

    counts = np.full(ITEMS + 1, 7)

    def __len__(self):
        return ITEMS + 1


def protocol(users=3):
    """Everybody met items 1 to 5 and chose item 10."""
    test = {
        "user_index": np.arange(users, dtype=np.int32),
        "history": np.tile(np.arange(1, 6, dtype=np.int32), (users, 1)),
        "item_index": np.full(users, 10, np.int32),
    }
    data = types.SimpleNamespace(catalogue=Catalogue(), test=test)
    seen = [np.arange(1, 6, dtype=np.int32)] * users
    return Protocol(data, np.arange(users), seen, [np.array([10])] * users, np.arange(ITEMS + 1) > 0)


def falling(positions):
    """Item 1 is the best, then item 2, …"""
    return np.tile(-np.arange(ITEMS + 1.0), (len(positions), 1))


def test_what_was_met_is_not_asked_for():
    result = judge(falling, protocol())
    # Items 6, 7, 8 and 9 come before it.
    np.testing.assert_allclose(result["ndcg@10"], 1 / np.log2(6))
    assert np.isnan(result["cold ndcg@10"]).all()
    np.testing.assert_allclose(result["light ndcg@10"], result["ndcg@10"])
    assert np.isnan(result["ndcg@10 with repeats"]).all()


def test_what_was_met_may_be_asked_for_beside():
    asked = dataclasses.replace(protocol(), also_repeats=True)
    asked.data.catalogue.counts = np.where(np.arange(ITEMS + 1) == 10, 2, 7)
    result = judge(falling, asked)
    np.testing.assert_allclose(result["ndcg@10"], 1 / np.log2(6))
    np.testing.assert_allclose(result["ndcg@10 with repeats"], 1 / np.log2(11))
    np.testing.assert_allclose(result["rare recall@10"], 1)


def test_the_best_of_the_retrieval_are_put_in_the_rankings_order():
    ranker = types.SimpleNamespace(
        item_tower=types.SimpleNamespace(values=lambda rows: {"item_index": rows}),
        # The higher its index the better: of the hundred best, 6 to 105, the last.
        score_features=lambda batch: {"click": tf.cast(batch["item_index"], tf.float32)},
    )
    asked = protocol()
    scores = reranked(falling, ranker, asked, "click", 1.0)(np.arange(3))
    open_to = scores[0].copy()
    open_to[:6] = -np.inf
    order = np.argsort(-open_to)
    assert order[:100].tolist() == list(range(105, 5, -1))
    assert order[100:195].tolist() == list(range(106, ITEMS + 1))


def test_the_interval_is_that_of_the_difference_to_the_best_peer():
    rng = np.random.default_rng(0)
    ours, best, worse = rng.random(500) + 0.3, rng.random(500), rng.random(500) - 0.5
    rows = {name: {"seconds": 1.0, "megabytes": 1.0, "settings": ""} for name in ("a", "b", FUSED)}
    for name, values in (("a", best), ("b", worse), (FUSED, ours)):
        rows[name] |= dict.fromkeys(FIGURES, values)
    result = summary({name: [row] for name, row in rows.items()})["ndcg@10 against the best peer"]
    assert result["best peer"] == "a"
    error = np.std(ours - best) / np.sqrt(500)
    assert abs(result["difference"] - (ours - best).mean()) < 1e-9
    low, high = result["interval"]
    np.testing.assert_allclose(high - low, 2 * 1.96 * error, rtol=0.1)


def test_histories_of_ratings_hold_training_alone_and_not_the_item_in_question():
    none = np.zeros(0)
    data = Ratings(
        FeatureSpace(num_users=3, num_items=9, user_features=(Feature("age", "number"),)),
        catalogue=None,
        user=np.array([1, 1, 1, 2, 1], np.int32),
        item=np.array([5, 6, 7, 8, 4], np.int32),
        rating=np.arange(5, dtype=np.float32),
        users={"age": np.array([0, 0.5, -1], np.float32)},
        order=np.array([4, 1, 0, 2, 3]),
        train=np.array([0, 1, 3, 4]),
        validation=none,
        test=np.array([2]),
    )
    result = data.columns(np.array([1, 2, 3]))
    assert result["history"].shape == (3, HISTORY)
    assert result["history"][:, -3:].tolist() == [[0, 4, 5], [4, 6, 5], [0, 0, 0]]
    assert result["age"].tolist() == [0.5, 0.5, -1] and result["rating"].tolist() == [1, 2, 3]
    assert data.triples(np.array([2])).tolist() == [[1, 7, 2]]
    assert dataclasses.replace(data, order=np.arange(5)).columns(np.array([2]))["history"][
        0, -3:
    ].tolist() == [
        5,
        6,
        4,
    ]


@pytest.mark.skipif(not FORGET.exists(), reason=f"{FORGET} is Linux's: elsewhere a peak is kept")
def test_a_peak_that_is_forgotten_does_not_count():
    block = np.ones(60_000_000)
    high = peak_megabytes()
    assert high > block.nbytes / 2**20
    del block
    forget_peak()
    assert peak_megabytes() < high - 300
