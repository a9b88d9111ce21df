"""A model that learns on: what it carries over, what it learns, and when it is not pushed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tfrec_fusion.config import ConfigError, TextConfig, from_dict
from tfrec_fusion.config.recommender import RecommenderConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.statistics import grown
from tfrec_fusion.in_memory import storage, updating
from tfrec_fusion.in_memory.fitted import fit_models

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

    def untouched(data, config, start, recent, **_):
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


def test_a_model_that_is_surely_worse_is_not_pushed():
    worse = updating.Comparison(100, 0.5, 0.3, -0.25, -0.15, 10)
    (reason,) = worse.reasons(0.005)
    assert "0.3000, before 0.5000" in reason
    assert worse.reasons(None) == []
    assert updating.Comparison(5, 0.5, 0.3, -0.6, 0.2, 10).reasons(0.005) == []  # nobody can tell


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
