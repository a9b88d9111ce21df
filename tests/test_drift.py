"""Drift since a model was trained: distances by hand, planted changes that are found, and chance that is
not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.in_memory import drift, updating
from tfrec_fusion.in_memory.fitted import fit_models

DAY = 86_400
CONFIG = from_dict(
    RecommenderConfig,
    {
        "text": None,
        "ranking": None,
        "retrieval": {
            "tower": {"dim": 4, "history_encoder": "mean", "dropout": 0.0},
            "training": {"epochs": 1, "batch_size": 64, "refit": False},
            "collaborative_dim": 0,
            "content_dim": 0,
        },
    },
)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.data())
def test_the_divergence_is_scipys(first, data):
    second = data.draw(st.lists(st.integers(0, 50), min_size=len(first), max_size=len(first)))
    if sum(first) and sum(second):
        found = drift.divergence(np.array(first), np.array(second))
        assert found == pytest.approx(jensenshannon(first, second, 2) ** 2, abs=1e-9)
        assert 0 <= found <= 1
    assert drift.divergence(np.array([1, 0]), np.array([0, 7])) == 1


def write(folder, days, changed=40, items=20, users=40):
    """Nothing changes until day `changed`: then a device comes that nobody had, a shelf is chosen that was
    rare, and half of the users are new. Day 34 is missing, and rows stand in no order."""
    rng = np.random.default_rng(0)
    rows = []
    for day in range(days):
        late = day >= changed
        for user in range(users) if day != 34 else ():
            item = rng.integers(16, 20) if late and rng.random() < 0.9 else rng.integers(items)
            who = f"n{user}" if late and user % 2 else f"u{user}"
            rows.append(
                (who, f"i{item}", DAY * day + 3600 + user, "watch" if late else "phone", rng.normal())
            )
    frame = pd.DataFrame(rows, columns=["who", "what", "at", "device", "stars"])
    frame.sample(frac=1, random_state=0).to_csv(folder / "choices.csv", index=False)
    shelves = [f"shelf {number // 4}" for number in range(items)]
    pd.DataFrame({"what": [f"i{number}" for number in range(items)], "shelf": shelves}).to_csv(
        folder / "items.csv", index=False
    )
    return Tables(
        Interactions(str(folder / "choices.csv"), "who", "what", "at", "stars", context=("device",)),
        Items(str(folder / "items.csv"), "what", categories=("shelf",)),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of thirty days, and when its training ended."""
    folder = tmp_path_factory.mktemp("choices")
    return folder, updating.base_of(fit_models(write(folder, 30), CONFIG), 30 * DAY * 10**9 - 1)


def test_a_planted_change_is_found_and_chance_is_not(base):
    folder, model = base
    tables = write(folder, 45)
    found = drift.measure(model, tables, CONFIG, periods=14)
    assert found.rows == 30 * 40 and len(found.periods) == 14
    # They end at the last choice, so each is a little longer than a day.
    assert all(abs(one.start - DAY * (30 + day)) < DAY / 20 for day, one in enumerate(found.periods))
    quiet, missing, late = found.periods[1], found.periods[4], found.periods[-1]
    assert quiet.rows == 40 and quiet.new_users == 0 and max(quiet.distances.values()) < 0.15
    assert (missing.rows, missing.users, missing.ndcg, missing.distances) == (0, 0, None, {})
    assert late.new_users == pytest.approx(0.5) and late.distances["context_device"] > 0.9
    assert late.distances["item_shelf"] > 0.2 > late.distances["rating"]
    assert all(0 <= one.ndcg_low <= one.ndcg <= one.ndcg_high <= 1 for one in found.periods if one.ndcg)
    reasons = found.reasons(max_distance=0.2)
    assert reasons[0].startswith("context_device: distance ")
    assert not any("rating" in reason for reason in reasons) and found.reasons() == []
    worse = dataclasses.replace(late, ndcg=0.0, ndcg_low=0.0, ndcg_high=0.0)
    first = dataclasses.replace(quiet, ndcg=0.5, ndcg_low=0.4, ndcg_high=0.6)
    (reason,) = drift.Drift(9, (first, missing, worse)).reasons(max_drop=0.1)
    assert "0.0000 in the newest period, 0.5000 in the first" in reason


def test_what_cannot_be_measured_says_so(base):
    folder, model = base
    with pytest.raises(ConfigError, match="no choice that is newer"):
        drift.measure(model, write(folder, 30), CONFIG)
    with pytest.raises(ConfigError, match="at least one period"):
        drift.measure(model, write(folder, 31), CONFIG, periods=0)
