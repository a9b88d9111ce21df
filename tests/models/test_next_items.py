"""What early stopping watches: NDCG of next items, for any catalogue, in bounded time and memory."""

import dataclasses
import resource
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RETRIEVAL, batches, tensors, two_tower
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.metrics.ranks import per_user_figures
from tfrec_fusion.models import next_items
from tfrec_fusion.models.next_items import NextItems
from tfrec_fusion.training.fitting import fit
from tfrec_fusion.training.history import History

DATA = planted(num_users=60, circles=3)


def rows(count, items, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "history": rng.integers(0, items, (count, width)).astype(np.int32),
        "item_index": rng.integers(1, items, count).astype(np.int32),
    }


def test_it_is_the_ndcg_of_the_lists_that_the_library_makes():
    model = two_tower(DATA)
    sample = model.validation_sample(batches(DATA.test, 7))
    found = model.validation_figures(sample)["ndcg_10"]
    vectors = model.tower_candidates().numpy()
    queries = model.tower_queries(tensors(DATA.test)).numpy()
    ranked = accuracy.rank_catalogue(
        queries, vectors, list(DATA.test["history"]), k=10, allowed=model.sampler.is_candidate.numpy()
    )
    relevant = DATA.test["item_index"][:, None]
    assert found == pytest.approx(accuracy.evaluate(ranked, relevant, (10,))["ndcg@10"], abs=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_equal_scores_and_no_numbers_are_worth_next_to_nothing(value):
    sample = NextItems.sample(batches(rows(500, 2001), 100), 2001)
    queries = lambda batch: tf.fill([len(batch["item_index"]), 2], value)  # noqa: E731
    found = sample.gains(queries, np.ones((2001, 2), np.float32), np.ones(2001, bool)).mean()
    assert found < 0.02


def test_a_sampled_loss_has_its_ndcg_and_early_stopping_watches_it():
    """With more items than negatives the loss says little; NDCG was left out there."""
    config = dataclasses.replace(RETRIEVAL, negatives=5, collaborative_dim=0)
    model = two_tower(DATA, config)
    training = dataclasses.replace(config.training, epochs=3, patience=3)
    history = fit(model, batches(DATA.train, 64), batches(DATA.test, 32), training, progress=False)
    values = history.history["val_ndcg_10"]
    assert len(values) == 3
    assert all(0 <= value <= 1 for value in values)
    assert history.best_epoch == 1 + int(np.argmax(values))
    assert "ndcg_10" not in history.history


def test_where_validation_only_repeats_the_loss_is_watched():
    repeated = {**DATA.test, "item_index": DATA.test["history"][:, -1]}
    model = two_tower(DATA)
    assert model.validation_figures(model.validation_sample(batches(repeated, 32))) == {}
    history = History({"loss": [1.0, 1.0], "val_loss": [3.0, 2.0]})
    assert history.watched(model.monitor) == [-3.0, -2.0]
    history.history["val_ndcg_10"] = [0.2, 0.1]
    assert history.watched(model.monitor) == [0.2, 0.1]


def test_the_sample_is_uniform_bounded_and_the_same_each_time(monkeypatch):
    monkeypatch.setattr(next_items, "LEAST_ROWS", 200)
    columns = {**rows(20_000, 50), "place": np.arange(20_000)}
    columns["history"][:] = 0
    data = batches(columns, 128)
    sample, again = (NextItems.sample(data, next_items.SCORES, seed=3) for _ in range(2))
    assert len(sample) == 200
    np.testing.assert_array_equal(sample.batch["place"], again.batch["place"])
    assert abs(sample.batch["place"].mean() - 10_000) < 1500
    assert len(NextItems.sample(batches(rows(50, 9), 8), 9)) <= 50


def test_fifty_thousand_items_take_bounded_time_and_memory():
    items = 50_001
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(items, 64)).astype(np.float32)
    sample = NextItems.sample(batches(rows(3_000, items), 256), items)
    assert 1_000 <= len(sample) <= 3_000
    table = tf.constant(vectors)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = sample.gains(
        lambda batch: tf.gather(table, batch["item_index"]), vectors, np.ones(items, bool)
    ).mean()
    seconds = time.perf_counter() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert found == 1  # each asks for its own item
    assert seconds < 60
    assert megabytes < 600
    print(f"{len(sample)} rows x {items} items: {seconds:.1f} s, {megabytes:.0f} MB more")


def test_figures_of_an_item_alone_are_its_gain():
    ranks = np.array([1.0, 3, 11])
    assert per_user_figures(np.arange(3), ranks, [10])["ndcg@10"].tolist() == [1, 0.5, 0]
