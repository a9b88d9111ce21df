"""A judged model fitted to all rows: what it learns, what stays, and when it is not used."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import RANKING, RETRIEVAL, catalogue
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training import refitting
from tfrec_fusion.training.batches import batches
from tfrec_fusion.training.recipes import TrainingData, train_ranking, train_retrieval
from tfrec_fusion.training.sequences import Sequences

DATA = planted(num_users=160, circles=3, cold=True)
TRAINING = TrainingConfig(epochs=2, batch_size=32, learning_rate=1e-2)


def profiles(seen, **features):
    """Users 1, 2, … with what each chose."""
    splits = np.concatenate([[0, 0], np.cumsum([len(items) for items in seen])])
    items = np.concatenate([np.array(some, np.int32) for some in seen])
    index = features.pop("user_index", np.arange(len(seen) + 1, dtype=np.int32))
    ids = np.array(["", *(f"u{row}" for row in range(1, len(seen) + 1))], object)
    none = np.zeros(len(splits), np.int64)
    return Profiles(ids, {"user_index": index, **features}, items[:0], none, 5, items, splits)


def planted_data():
    """The walks' last steps, half of them validation, half test."""
    half = np.arange(len(DATA.test["item_index"])) % 2 == 0
    parts = {
        "train": DATA.train,
        "validation": {name: values[half] for name, values in DATA.test.items()},
        "test": {name: values[~half] for name, values in DATA.test.items()},
    }
    last = np.argsort(DATA.test["user_index"])
    walks = [
        [*DATA.test["history"][row][DATA.test["history"][row] > 0], DATA.test["item_index"][row]]
        for row in last
    ]
    return TrainingData(
        DATA.space,
        catalogue(DATA),
        lambda split, batch_size, shuffle: batches(parts[split], batch_size, shuffle),
        {"rating": "rating", "click": "binary"},
        users=profiles(walks),
    )


def test_windows_cover_every_item_of_every_user_about_once():
    seen = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [5], []]
    sequences = Sequences.read(profiles(seen), (), [])
    assert sequences.counts(10).tolist() == [0, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    expected = {(user, item) for user, items in enumerate(seen, 1) for item in items}
    rows, items = sequences.matrix(10).nonzero()
    assert set(zip(sequences.columns["user_index"], sequences.items, strict=True)) == expected
    assert len(rows) == len(items) == 10
    epoch_of = sequences.windows(3, batch_size=2, seed=0)
    for epoch in range(4):
        learned = []
        for batch in epoch_of(epoch).as_numpy_iterator():
            assert batch["history"].shape[1] == 3
            names = ("user_index", "history", "item_index")
            for user, history, item in zip(*(batch[name] for name in names), strict=True):
                whole = [*history[history > 0], item]
                place = seen[user - 1].index(item)
                assert whole == seen[user - 1][max(0, place - 3) : place + 1]
                # A padded history is complete, and its first item is learned too.
                learned += [(user, some) for some in (whole if history[0] == 0 else whole[1:])]
        assert set(learned) == expected
        # The first window is shortened by a random number of items, which are learned twice.
        assert len(learned) - len(expected) <= 2


def test_what_was_disliked_is_met_and_no_choice():
    """Item 2 was disliked by both; the second user's history is full and holds the newest choices alone."""
    seen, history = [[1, 2, 3], [1, 2, 3, 4]], [[1, 3], [3, 4]]
    users = dataclasses.replace(
        profiles(seen),
        history_items=np.array([1, 3, 3, 4], np.int32),
        history_splits=np.array([0, 0, 2, 4]),
        history_length=3,
    )
    rows = {"user_index": np.array([1, 1, 2, 2, 2]), "item_index": np.array([1, 3, 1, 3, 4])}
    assert Sequences.read(users, (), [rows]).items.tolist() == [*seen[0], *seen[1]]
    # With room left in a history, it is all that a user chose.
    assert Sequences.read(users, (), [rows], with_dislikes=True).items.tolist() == [*history[0], *history[1]]
    full = dataclasses.replace(users, history_length=2)
    found = Sequences.read(full, (), [rows], with_dislikes=True)
    assert found.items.tolist() == [1, 3, 1, 3, 4] and found.splits.tolist() == [0, 0, 2, 5]
    assert found.columns["user_index"].tolist() == [1, 1, 2, 2, 2]


def test_weights_and_context_come_from_the_rows():
    rows = {
        "user_index": np.array([1, 2, 1], np.int32),
        "item_index": np.array([4, 4, 3], np.int32),
        "weight": np.array([3.0, 1.0, 7.0], np.float32),
        "device": np.array([1, 2, 3], np.int32),
    }
    sequences = Sequences.read(profiles([[3, 4], [4]]), ["device"], [rows])
    assert sequences.columns["weight"].tolist() == [7, 3, 1]
    assert sequences.columns["device"].tolist() == [3, 1, 2]
    np.testing.assert_allclose(sequences.matrix(5).toarray()[:, 3:].sum(0), [3, 3])
    (batch,) = sequences.windows(2, batch_size=9, seed=0)(0).as_numpy_iterator()
    row = list(batch["user_index"]).index(1)
    assert batch["history_weight"][row].tolist() == [0, 7]


def test_users_come_in_the_same_order_however_they_were_read():
    one = profiles([[1, 2], [3], [4, 5]])
    turned = profiles([[4, 5], [3], [1, 2]], user_index=np.array([0, 3, 2, 1], np.int32))
    turned = dataclasses.replace(turned, ids=np.array(["", "u3", "u2", "u1"], object))
    first, second = (Sequences.read(users, (), []) for users in (one, turned))
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.columns["user_index"], second.columns["user_index"])


@pytest.fixture(scope="module")
def retrieval():
    data, config = planted_data(), dataclasses.replace(RETRIEVAL, training=TRAINING)
    return data, config, train_retrieval(data, config)


@pytest.fixture(scope="module")
def refitted(retrieval):
    data, config, trained = retrieval
    before = [weight.numpy().copy() for weight in trained.model.weights]
    refit = refitting.refit_retrieval(trained, data, config)
    for weight, values in zip(trained.model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), values)
    return refit


def test_items_of_validation_and_test_alone_are_known_after_the_refit(retrieval, refitted):
    _, _, trained = retrieval
    assert (trained.catalogue.counts[DATA.cold_items] == 0).all()
    assert (refitted.catalogue.counts[DATA.cold_items] > 0).all()
    assert refitted.catalogue.counts.sum() == len(DATA.train["item_index"]) + len(DATA.test["item_index"])
    for blend, known in ((trained.model.blend, False), (refitted.model.blend, True)):
        assert (blend.known.numpy()[DATA.cold_items] == known).all()
    # Their factors are solved for, as wide as before.
    assert refitted.model.blend.widths == trained.model.blend.widths
    assert np.abs(refitted.model.blend.factors.numpy()[DATA.cold_items]).sum(1).min() > 0


def test_weights_of_parts_stay_as_validation_decided(retrieval, refitted):
    decided, kept = (model.blend.weights_decided for model in (retrieval[2].model, refitted.model))
    for field in dataclasses.fields(decided):
        np.testing.assert_array_equal(getattr(decided, field.name), getattr(kept, field.name))


def test_both_are_held_to_each_other_on_validation(refitted):
    report = refitted.report
    assert report["used"]
    assert report["rows"] == refitted.catalogue.counts.sum()
    assert report["refitted"]["ndcg_10"] >= report["judged"]["ndcg_10"] - 0.05


def test_a_refit_that_went_wrong_is_not_used(retrieval, monkeypatch):
    data, config, trained = retrieval
    monkeypatch.setattr(refitting, "RATE", 300.0)
    monkeypatch.setattr(refitting.HybridEstimator, "refit", lambda *arguments: None)
    config = dataclasses.replace(config)
    refit = refitting.refit_retrieval(trained, data, config)
    assert not refit.report["used"]
    assert "significantly worse than" in refit.report["reason"]
    assert refit.model is trained.model
    assert refit.catalogue is trained.catalogue


def test_without_users_the_way_out_is_named(retrieval):
    data, config, trained = retrieval
    with pytest.raises(ValueError, match="refit: false"):
        refitting.refit_retrieval(trained, dataclasses.replace(data, users=None), config)


def test_the_ranking_model_learns_all_rows_too():
    data, config = planted_data(), dataclasses.replace(RANKING, training=TRAINING)
    trained = train_ranking(data, config)
    refit = refitting.refit_ranking(trained, data, config)
    assert refit.report["used"]
    assert refit.report["rows"] == len(DATA.train["item_index"]) + len(DATA.test["item_index"])
    assert refit.report["refitted"]["error"] <= refit.report["judged"]["error"] + 0.1
    changed = trained.model.item_factors.embeddings - refit.model.item_factors.embeddings
    assert float(tf.reduce_max(tf.abs(tf.gather(changed, DATA.cold_items)))) > 0
    np.testing.assert_array_equal(
        trained.model.rating_factors.weight.numpy(), refit.model.rating_factors.weight.numpy()
    )
