"""Further labels, from a column of the interactions to an answer of `rank`."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.tables import Interactions, Items, Label, Tables
from tfrec_fusion.export.request import RequestError

LABELS = {"again": {"column": "Watched again?"}, "minutes": {"kind": "rating"}}
DATA = {"interactions": {"label": "rating", "labels": LABELS}}
TABLE = Interactions(
    "", "u", "i", None, labels={"again": Label("b", threshold=2), "minutes": Label("m", "rating")}
)
ROWS = pd.DataFrame(
    {"u": list("abcde"), "i": list("vwxyz"), "b": [1, 2, None, 3, 0], "m": ["1.5", "", "x", "3", "4"]}
)


def watched(seed=0):
    """Forty users and 24 items; even items are watched again, and longer."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item}", 1000 * step + user)
        for user in range(40)
        for step, item in enumerate(rng.permutation(24)[:10])
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    number = frame["item"].str[1:].astype(int)
    frame["rating"] = 1 + number % 5
    frame["Watched again?"] = ((number % 2 == 0) ^ (rng.random(len(frame)) < 0.05)).astype(float)
    frame["minutes"] = 30.0 + 60 * (number % 2 == 0)
    frame.loc[::7, ["Watched again?", "minutes"]] = np.nan
    frame["words"] = "so good"
    return frame


def recommender(**changes):
    ranking = {
        "training": {"epochs": 12, "learning_rate": 1e-2, "batch_size": 64, "refit": False},
        "hidden": [16],
        "tower": {"dim": 8},
    }
    return Recommender(
        seed=1,
        verbose=0,
        text="none",
        split={"method": "leave_last_out"},
        retrieval={
            "training": {"epochs": 1, "refit": False},
            "tower": {"dim": 8, "history_encoder": "mean"},
            "collaborative_dim": 0,
        },
        **{"ranking": ranking, "data": DATA, **changes},
    )


def test_cells_become_labels():
    events = read_events(ROWS, TABLE)
    np.testing.assert_array_equal(events.further_labels["again"], [0, 1, np.nan, 1, 0])
    np.testing.assert_array_equal(events.further_labels["minutes"], [1.5, np.nan, np.nan, 3, 4])
    assert events.reason.tolist() == ["", "", "unparsable label 'minutes'", "", ""]


def test_a_column_of_text_is_no_label():
    table = dataclasses.replace(TABLE, labels={"again": Label("u")})
    with pytest.raises(ConfigError, match="must be a column of numbers. Received: 'u', which holds 'a'"):
        read_events(ROWS, table)


@pytest.mark.parametrize(
    "name", ["rating", "click", "history", "known_user", "a__b", "context_a", "1st", "so much"]
)
def test_names_that_stand_for_something_else_are_refused(name):
    with pytest.raises(ConfigError, match=f"Received: '{name}'"):
        Interactions("", labels={name: Label("x")})


def test_what_is_known_before_is_no_label():
    with pytest.raises(ConfigError, match="the column 'device' in both"):
        Interactions("", context=("device",), labels={"far": Label("device")})


def test_tables_agree_on_a_labels_kind():
    shown = Interactions("", outcomes={"c": 1.0}, labels={"again": Label(kind="rating")})
    with pytest.raises(ConfigError, match="Received: 'binary' and 'rating'"):
        _ = Tables(TABLE, Items(""), impressions=shown).labels
    assert Tables(TABLE, Items("")).labels == {"click": "binary", "again": "binary", "minutes": "rating"}


@pytest.fixture(scope="module")
def fitted():
    return recommender().fit(watched())


@pytest.mark.slow
def test_what_was_planted_is_predicted(fitted):
    figures = fitted.evaluate(k=[5])
    assert figures["auc_of_again"] > 0.85
    assert figures["rmse_of_minutes"] < 15
    assert {"rmse", "auc"} <= set(figures)


@pytest.mark.slow
def test_each_label_and_their_weighted_mean_order_candidates(fitted, tmp_path):
    items = [f"i{number}" for number in range(24)]
    ranked = {
        label: fitted.rank("u1", items, label=label).set_index("item_id")["score"]
        for label in ("again", "minutes", "rating", "click")
    }
    weights = {"again": 1, "minutes": 0.5, "rating": 2.5}
    mixed = fitted.rank("u1", items, label_weights=weights).set_index("item_id")["score"]
    again, minutes, rating = (ranked[label] for label in ("again", "minutes", "rating"))
    share = {"again": again, "minutes": (minutes - 30) / 60, "rating": (rating - 1) / 4}
    expected = sum(weight * share[label] for label, weight in weights.items()) / 4
    np.testing.assert_allclose(mixed[items], expected[items], atol=1e-5)
    assert mixed.is_monotonic_decreasing
    fitted.save(tmp_path / "saved")
    again = Recommender.load(tmp_path / "saved").rank("u1", items, label_weights=weights)
    np.testing.assert_allclose(again.set_index("item_id")["score"][items], mixed[items], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"again": 0, "minutes": 0}, "must be more than 0 in sum. Received: again=0 minutes=0"),
        ({"bought": 1}, "LABEL one of click, rating, again, minutes"),
        ({"again": -1}, "N is a number from 0 to 999999. Received: 'again=-1'"),
        (["again"], "Received: 'again'"),
    ],
)
def test_weights_that_cannot_be_are_refused(fitted, weights, message):
    with pytest.raises(RequestError, match=message):
        fitted.rank("u1", ["i1", "i2"], label_weights=weights)


@pytest.mark.parametrize(
    ("labels", "ranking", "message"),
    [
        ({"again": {"column": "seen"}}, {}, "must name a column of the interactions table. Received: 'seen'"),
        ({"again": {"column": "words"}}, {}, "must be a column of numbers. Received: 'words'"),
        ({"long": {"column": "minutes", "threshold": 1e4}}, {}, "must have both yes and no in training"),
        (LABELS, {"label_weights": {"seen": 1}}, "must name labels"),
        (LABELS, {"conversions": ["again"]}, "needs rows that were shown and not chosen"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels, ranking, message):
    changed = recommender(ranking=ranking, data={"interactions": {"label": "rating", "labels": labels}})
    with pytest.raises(ConfigError, match=message):
        changed.fit(watched())
