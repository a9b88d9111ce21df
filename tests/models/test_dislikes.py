"""Dislikes: rows with a low label are no choices, and make an item and its like less likely for a user."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.models.planted_models import RANKING, RETRIEVAL, TOWER, batches, catalogue, tensors
from tfrec_fusion import Recommender, losses
from tfrec_fusion.config import ConfigError, TrainingConfig
from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.training.recipes import TrainingData, train_ranking, train_retrieval

RATED = Interactions("x", "user", "item", "time", label="stars", time_format="s", dislikes_below=3)


def test_a_label_below_the_threshold_is_a_dislike_and_none_is_a_choice():
    rows = pd.DataFrame(
        {"user": list("aaaa"), "item": list("wxyz"), "time": [1, 2, 3, 4], "stars": [2.9, 3, None, 5]}
    )
    events = read_events(rows, RATED)
    assert events.weights.tolist() == [-1, 1, 1, 1] and events.good.all()
    weighed = dataclasses.replace(RATED, weight="plays")
    events = read_events(rows.assign(plays=[4, 2, 3, 0]), weighed)
    assert events.weights.tolist() == [-4, 2, 3, 0]
    assert read_events(rows, dataclasses.replace(RATED, dislikes_below=None)).weights.tolist() == [1] * 4
    items = Items("y")
    assert (
        Tables(RATED, items).shows
        and not Tables(dataclasses.replace(RATED, dislikes_below=None), items).shows
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "`interactions.dislikes_below` needs `interactions.label`"),
        ({"dislikes_below": float("nan")}, "dislikes_below"),
        ({"outcomes": {"clicked": 1}}, "Received: `dislikes_below` beside it"),
        ({"outcomes": {"clicked": 1}, "dislikes_below": 0.0}, "Received: `dislikes_below` beside it"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(RATED, **changes)


def test_the_loss_is_minus_the_logarithm_of_what_the_softmax_leaves():
    rng = np.random.default_rng(0)
    query, pool = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    ids, valid, temperature = np.array([2, 5, 0]), np.array([False, True, True, True, False, True]), 0.5
    log_q = rng.normal(size=6)
    found = losses.not_to_recommend(
        tf.constant(query, tf.float32), tf.constant(pool[ids], tf.float32), tf.constant(pool, tf.float32),
        disliked_ids=tf.constant(ids), pool_ids=tf.range(6, dtype=tf.int64), pool_log_q=tf.constant(log_q),
        valid=tf.constant(valid), temperature=temperature,
    )  # fmt: skip
    for row, item in enumerate(ids):
        scores = np.exp(query[row] @ pool.T / temperature - log_q)
        own = np.exp(query[row] @ pool[item] / temperature)
        others = scores[valid & (np.arange(6) != item)].sum()
        assert found.numpy()[row] == pytest.approx(-np.log(1 - own / (own + others)), rel=1e-4)


@pytest.fixture(scope="module")
def planted(data):
    """Users who choose items of circle 1 or 2 by turns, and half of whom dislike some of circle 3.

    Circle 3 is as popular with all others, and nobody's history tells who dislikes it but the user's id."""
    rng = np.random.default_rng(1)
    genre = np.asarray(data.genre)
    of = {circle: np.flatnonzero(genre == circle) for circle in (1, 2, 3)}
    rows = []
    for user in range(1, 20):
        hates = user % 2 == 0
        history = [0] * 3
        for _ in range(4):
            pool = np.concatenate([of[1], of[2]] if hates else [of[1], of[2], of[3]])
            item = rng.choice(pool)
            rows.append((user, item, list(history), 1.0))
            history = [*history[1:], item]
        if hates:
            rows += [(user, item, list(history), -1.0) for item in of[3][:3]]
    user, item, history, chosen = zip(*rows, strict=True)
    columns = {
        "user_index": np.array(user, np.int32),
        "item_index": np.array(item, np.int32),
        "history": np.array(history, np.int32),
        "chosen": np.array(chosen, np.float32),
        "exposure": np.ones(len(rows), np.float32),
    }
    return columns, of


def fitted(data, columns, **changes):
    config = dataclasses.replace(
        RETRIEVAL,
        tower=dataclasses.replace(TOWER, user_id=True),
        training=TrainingConfig(epochs=12, batch_size=32, learning_rate=1e-2, seed=5, average=False),
        collaborative_dim=0,
        content_dim=0,
        **changes,
    )
    counts = np.bincount(columns["item_index"][columns["chosen"] > 0], minlength=len(data.ids))
    items = dataclasses.replace(catalogue(data, text=False), counts=counts)
    space = dataclasses.replace(data.space, text_dim=None, history_length=3)
    held = {name: values[columns["chosen"] > 0][:32] for name, values in columns.items()}

    def of_split(split, size, shuffle):
        return batches(columns if split == "train" else held, size)

    return train_retrieval(TrainingData(space, items, of_split), config).model


def scores(model, columns):
    """Scores of all items for each user, by their newest history."""
    last = {int(user): row for row, user in enumerate(columns["user_index"])}
    rows = [last[user] for user in sorted(last)]
    asked = {name: columns[name][rows] for name in ("user_index", "history")}
    queries = model.query_embeddings(tensors(asked)).numpy()
    return queries @ model.candidate_embeddings().numpy().T


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"negatives": 8}])
def test_a_dislike_lowers_that_item_and_its_like_for_the_user(data, planted, changes):
    columns, of = planted
    without, with_them = (
        scores(fitted(data, columns, dislike_weight=weight, **changes), columns) for weight in (0.0, 5.0)
    )
    others = np.concatenate([of[1], of[2]])
    hates = np.arange(1, 20) % 2 == 0

    def margin(found, items):
        return (found[:, items].mean(1) - found[:, others].mean(1))[hates].mean()

    assert margin(with_them, of[3][:3]) < margin(without, of[3][:3]) - 0.1
    assert margin(with_them, of[3][3:]) < margin(without, of[3][3:]) - 0.02  # never seen by who dislikes them
    # Who likes them still does.
    likes = with_them[~hates][:, of[3]].mean() - with_them[~hates][:, others].mean()
    assert likes > margin(with_them, of[3])


def test_dislikes_that_no_table_names_are_told(data, planted):
    columns = {name: values for name, values in planted[0].items() if name not in ("chosen", "exposure")}
    with pytest.raises(ConfigError, match="`retrieval.dislike_weight` needs rows that are dislikes"):
        train_retrieval(
            TrainingData(data.space, catalogue(data), lambda *_, **__: batches(columns, 32)),
            dataclasses.replace(RETRIEVAL, dislike_weight=1.0),
        )


@pytest.mark.slow
def test_training_without_a_single_dislike_trains_on_choices(data, planted):
    columns, _ = planted
    kept = columns["chosen"] > 0
    alone = {name: values[kept] for name, values in columns.items()}
    plain, asked = (fitted(data, alone, dislike_weight=weight) for weight in (0.0, 1.0))
    np.testing.assert_array_equal(scores(plain, alone), scores(asked, alone))


def clicks(data, columns):
    """Probabilities `[users, N + 1]` of a ranking model that learned the columns, by their newest history."""
    columns = {**columns, "click": (columns["chosen"] > 0).astype(np.float32)}
    config = dataclasses.replace(
        RANKING,
        training=TrainingConfig(epochs=6, batch_size=32, learning_rate=2e-2, seed=5, average=False),
    )
    space = dataclasses.replace(data.space, text_dim=None, history_length=3)

    def of_split(split, size, shuffle):
        return batches(columns, size)

    items = catalogue(data, text=False)
    model = train_ranking(TrainingData(space, items, of_split, {"click": "binary"}), config).model
    last = {int(user): row for row, user in enumerate(columns["user_index"])}
    rows = np.repeat([last[user] for user in sorted(last)], len(data.ids))
    asked = {name: columns[name][rows] for name in ("user_index", "history")}
    asked["item_index"] = np.tile(np.arange(len(data.ids), dtype=np.int32), len(last))
    return model(tensors(asked))["click"].numpy().reshape(len(last), -1)


@pytest.mark.slow
def test_a_dislike_lowers_that_item_and_its_like_in_ranking(data, planted):
    columns, of = planted
    kept = columns["chosen"] > 0
    without, with_them = (
        clicks(data, some) for some in ({name: values[kept] for name, values in columns.items()}, columns)
    )
    hates = np.arange(1, 20) % 2 == 0

    def mean(found, items):
        return found[hates][:, items].mean()

    for items in (of[3][:3], of[3][3:]):  # of the others nobody said anything
        assert mean(with_them, items) < mean(without, items) - 0.05
    # Who likes them still does, more than those who do not.
    assert with_them[~hates][:, of[3]].mean() > mean(with_them, of[3]) + 0.1


def test_a_recommender_fitted_with_dislikes_never_offers_them_and_is_refitted():
    """Users choose on one of two shelves, and rate two of the other with 1."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(24):
        own, other = (rng.permutation(np.arange(100 + side, 120, 2)) for side in (user % 2, 1 - user % 2))
        chosen = [(item, 5.0) for item in own[:6]]
        chosen[3:3] = [(item, 1.0) for item in other[:2]]
        rows += [(user, item, stars, 1000 * step + user) for step, (item, stars) in enumerate(chosen)]
    films = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    named = {
        "user": "user_id",
        "item": "item_id",
        "time": "timestamp",
        "label": "rating",
        "dislikes_below": 3,
    }
    model = Recommender(
        seed=1, epochs=2, verbose=0, ranking=None, data={"interactions": named},
        split={"method": "leave_last_out"},
        retrieval={"tower": {"dim": 8, "history_encoder": "mean"}, "dislike_weight": 0.5},
    ).fit(films)  # fmt: skip
    fitted = model._state
    assert fitted.judged is not None and fitted.judged.retrieval is not fitted.retrieval
    choices = films[films.rating >= 3]
    # Counts and histories of what is served hold choices alone.
    assert fitted.catalogue.counts.sum() == len(choices)
    assert len(fitted.known.profiles.history_items) == len(choices)
    offered = model.recommend(list(range(24)), k=12)
    for user, items in offered.groupby("user_id")["item_id"]:
        assert not set(items.astype(int)) & set(films[films.user_id == int(user)].item_id)
