"""A model that learns on: what it carries over, what it learns, and when it is not pushed."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrec_fusion.config import ConfigError, RankingConfig, TextConfig, from_dict
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.statistics import grown
from tfrec_fusion.in_memory import comparing, storage, updating
from tfrec_fusion.in_memory.fitted import fit_models
from tfrec_fusion.models.dislikes import Dislikes

CONFIG = from_dict(
    RecommenderConfig,
    {
        "text": None,
        "ranking": None,
        "retrieval": {
            "tower": {"dim": 8, "history_encoder": "mean", "dropout": 0.0},
            "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01},
            "collaborative_dim": 4,
        },
    },
)


def write_choices(folder, days, items=24, users=30):
    """Everybody stays with one of two shelves; a new item and a new user come with the later days."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{2 * rng.integers(items // 2 - (day < 20)) + user % 2}", 86_400 * day + user)
        for day in range(days) for user in range(users - (day < 20))
    ]  # fmt: skip
    pd.DataFrame(rows, columns=["who", "what", "at"]).to_csv(folder / "choices.csv", index=False)
    shelves = ["odd" if number % 2 else "even" for number in range(items)]
    shelves[-1] = "new shelf" if days > 20 else shelves[-1]
    frame = pd.DataFrame({"what": [f"i{number}" for number in range(items)], "shelf": shelves})
    frame.to_csv(folder / "items.csv", index=False)
    items_table = Items(str(folder / "items.csv"), "what", categories=("shelf",))
    return Tables(Interactions(str(folder / "choices.csv"), "who", "what", "at"), items_table)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A model of twenty days."""
    folder = tmp_path_factory.mktemp("choices")
    return folder, fit_models(write_choices(folder, 20), CONFIG)


def test_an_update_starts_where_the_earlier_model_was(earlier, tmp_path):
    folder, fitted = earlier
    until = 86_400 * 16 * 10**9 + 5 * 10**9  # training's last moment: 80 % of the twenty days
    base = updating.base_of(fitted, until)
    tables = write_choices(folder, 30)
    result = updating.update(base, tables, CONFIG, replay=0.25, epochs=1)
    assert (result.new_items, result.new_users) == (0, 1)
    assert 200 < result.new_rows < 300 and 0.1 < result.replayed_rows / 465 < 0.4
    assert result.until > until
    # A category that is new stands after those that were known.
    assert list(result.fitted.catalogue.names["item_categorical__shelf"]) == [
        *fitted.catalogue.names["item_categorical__shelf"], "new shelf"]  # fmt: skip
    compared = result.comparison
    assert 0 <= compared.before <= 1 and 0 <= compared.after <= 1
    assert compared.low <= compared.after - compared.before <= compared.high
    # What it was saved as goes on.
    storage.save(result.fitted, tmp_path / "state", {"until": result.until})
    again, more = storage.load(tmp_path / "state")
    with pytest.raises(updating.NothingNew, match="Append some"):
        updating.update(updating.base_of(again, more["until"]), tables, CONFIG)


def test_without_a_step_the_towers_are_the_earlier_ones(earlier, monkeypatch):
    """Ids move to other rows and vocabularies grow; what was known has the vectors that it had."""
    folder, fitted = earlier
    seen = {}

    def untouched(data, config, start, recent):
        from tfrec_fusion.models.build import build_two_tower
        from tfrec_fusion.training.recipes import Trained

        model = build_two_tower(config, data.space, data.catalogue, None)
        before = model.tower_candidates().numpy()
        start(model)
        seen.update(before=before, after=model.tower_candidates().numpy(), ids=data.catalogue.ids)
        return Trained(model, None, data.catalogue)

    monkeypatch.setattr(updating, "continue_retrieval", untouched)
    updating.update(updating.base_of(fitted, 0), write_choices(folder, 24), CONFIG)
    old = dict(zip(fitted.catalogue.ids, fitted.retrieval.tower_candidates().numpy(), strict=True))
    for item, vector, before in zip(seen["ids"][1:], seen["after"][1:], seen["before"][1:], strict=True):
        if item != "i23":  # it stands on a shelf that was not known
            np.testing.assert_allclose(vector, old[item], rtol=1e-5, atol=1e-6)
            assert np.abs(before - old[item]).max() > 1e-3


def write_ratings(folder, days, items=16, users=20):
    """Users rate their shelf 4 to 5 and dislike the other one with 1; from day 20 on, on a new device."""
    rng = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{(item := rng.integers(items))}", 86_400 * day + 60 * user + turn,
         4 + (item < 4) if item % 2 == user % 2 else 1, "watch" if day >= 20 else "phone")
        for day in range(days) for user in range(users) for turn in range(2)
    ]  # fmt: skip
    pd.DataFrame(rows, columns=["who", "what", "at", "stars", "device"]).to_csv(
        folder / "ratings.csv", index=False
    )
    pd.DataFrame({"what": [f"i{item}" for item in range(items)]}).to_csv(folder / "items.csv", index=False)
    return Tables(
        Interactions(
            str(folder / "ratings.csv"), "who", "what", "at", "stars", context=("device",), dislikes_below=3
        ),
        Items(str(folder / "items.csv"), "what"),
    )


def test_the_ranking_model_and_dislikes_are_learned_on_too(tmp_path, monkeypatch):
    rated = dataclasses.replace(
        CONFIG,
        retrieval=dataclasses.replace(CONFIG.retrieval, dislike_weight=0.5),
        ranking=from_dict(RankingConfig, {"tower": {"dim": 4, "history_encoder": "mean"}, "hidden": [4],
                                          "training": {"epochs": 1, "batch_size": 64}, "rating_dim": 2}),
    )  # fmt: skip
    fitted = fit_models(write_ratings(tmp_path, 16), rated)
    base = updating.base_of(fitted, 86_400 * 12 * 10**9)
    assert base.ranking is fitted.ranking
    disliked = []
    beside = Dislikes.beside

    def look(self, epochs):
        rows = np.concatenate([batch["item_index"].numpy() for batch in self._rows()])
        disliked.append(len(rows))
        return beside(self, epochs)

    monkeypatch.setattr(Dislikes, "beside", look)
    result = updating.update(base, write_ratings(tmp_path, 26), rated, replay=0.0, epochs=1)
    # Days 12 to 20 are new in training; half of the rows are dislikes, and none of the older ones is learned.
    assert result.replayed_rows == 0 and 100 < result.new_rows < 220 and 100 < disliked[0] < 220
    # The new device was not known to either earlier model, and both were asked.
    assert result.ranking.figure == "rmse" and 0 < result.ranking.after < 3 > result.ranking.before > 0
    assert result.ranking.low <= result.ranking.after - result.ranking.before <= result.ranking.high
    assert result.fitted.kinds == ["recommender", "retrieval", "ranking"] and result.fitted.head
    storage.save(result.fitted, tmp_path / "state", {})
    again = updating.base_of(storage.load(tmp_path / "state")[0], 0)
    for old, new in zip(result.fitted.ranking.weights, again.ranking.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_errors_of_two_ranking_models_by_hand():
    """Of four ratings of two users; an item that the earlier model does not know is its row 0."""

    class Says:
        rated, query_features = "rating", ()

        def __init__(self, values):
            self.values = tf.constant(values)

        def __call__(self, columns):
            return {"rating": tf.gather(self.values, columns["item_index"])}

    columns = {
        "user_index": np.array([1, 1, 2, 2], np.int32),
        "history": np.zeros([4, 1], np.int32),
        "item_index": np.array([1, 2, 3, 1], np.int32),
        "rating": np.array([4, 3, 5, np.nan], np.float32),
    }
    data = types.SimpleNamespace(test=columns, users=np.array([0, 0, 1, 1]))
    one = comparing.compare_ranking(
        Says([1.0, 3.0, 4.0]), Says([0.0, 4.0, 4.0, 4.0]), data, np.array([0, 1, 2, -1]), np.arange(3)
    )
    assert one.before == pytest.approx(np.sqrt((1 + 1 + 16) / 3))
    assert one.after == pytest.approx(np.sqrt((0 + 1 + 1) / 3))
    assert one.users == 2 and one.reasons(0.0) == []
    nobody = {name: values[3:] for name, values in columns.items()}
    data = types.SimpleNamespace(test=nobody, users=np.array([1]))
    (reason,) = comparing.compare_ranking(Says([1.0]), Says([1.0]), data, np.arange(4), np.arange(3)).reasons(
        0.1
    )
    assert "nobody in the newest window" in reason


def test_a_model_that_is_surely_worse_is_not_pushed():
    worse = comparing.Comparison(100, 0.5, 0.3, -0.25, -0.15, "ndcg@10")
    (reason,) = worse.reasons(0.005)
    assert "0.3000, before 0.5000" in reason
    assert worse.reasons(None) == []
    assert comparing.Comparison(5, 0.5, 0.3, -0.6, 0.2, "ndcg@10").reasons(0.005) == []  # nobody can tell
    assert comparing.Comparison(100, 0.9, 0.8, -0.2, -0.1, "rmse").reasons(0.0) == []  # less is better
    assert (
        "higher by more than 0.05" in comparing.Comparison(100, 0.9, 1.1, 0.1, 0.3, "rmse").reasons(0.05)[0]
    )


def test_what_cannot_be_updated_says_so(earlier):
    folder, fitted = earlier
    trained = dataclasses.replace(CONFIG, text=TextConfig("x", stage="full"))
    with pytest.raises(ConfigError, match="`text.stage: frozen`"):
        updating.update(updating.base_of(fitted, 0), write_choices(folder, 24), trained)


def test_a_grown_vocabulary_by_hand():
    assert grown([b"b", b"c", b"a"], [b"a", b"x"]) == [b"a", b"x", b"b", b"c"]
    assert grown([b"b", b"c"], [b"a", b"x"], 3) == [b"a", b"x", b"b"]
    assert grown([b"b"], [b"a", b"x"], 1) == [b"a", b"x"]


@pytest.mark.slow
def test_the_prequential_benchmark_judges_all_three_ways_on_one_window(tmp_path):
    from benchmarks.prequential import run
    from pipeline.config.pipeline_config import DataConfig, PipelineConfig

    tables = write_choices(tmp_path, 30)
    config = PipelineConfig(
        "choices",
        DataConfig(interactions=tables.interactions, items=tables.items),
        root=str(tmp_path / "runs"),
        text=None,
        retrieval=CONFIG.retrieval,
    )
    first, second = run(config, 2, tmp_path)
    assert (first["interactions"], second["interactions"]) == (660, 880)  # of 880, from half of them on
    for row in (first, second):
        assert all(0 <= value <= 1 for value in row["ndcg@10"].values()) and row["users"] > 0
        assert row["seconds"]["update"] > 0 and row["seconds"]["full"] > 0
