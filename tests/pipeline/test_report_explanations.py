"""The report's first lines, its explanations, fusion weights and comparisons, of parts made by hand."""

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from pipeline.callbacks.fusion_weights import weights_by_count
from pipeline.config.pipeline_config import flat_settings, load_config
from pipeline.report.comparison import different_settings, paired_figures, settings_of
from pipeline.report.explaining import part_shares
from pipeline.report.headline import best_baseline, headline, reference_baseline
from pipeline.report.page import slice_rows
from pipeline.report.run_files import Item
from tests.models.planted_models import two_tower
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.serving.client.explanations import Explanation

FIGURES = {
    "ndcg@10": 0.2,
    "ndcg@10_low": 0.18,
    "ndcg@10_high": 0.22,
    "popularity_ndcg@10": 0.1,
    "ndcg@10_gain_over_popularity": 0.1,
    "ndcg@10_gain_over_popularity_low": 0.08,
    "ndcg@10_gain_over_popularity_high": 0.12,
    "als_ndcg@10": 0.19,
    "ndcg@10_gain_over_als": 0.01,
    "ndcg@10_gain_over_als_low": -0.01,
    "ndcg@10_gain_over_als_high": 0.03,
    "example_count": 30.0,
    "users": 30.0,
}


def run(tmp_path, **changes):
    """A run's summary, with a slice that holds nobody's choice in its lists."""
    config = load_config("movielens_100k", [f"root={tmp_path}"])
    config = dataclasses.replace(config, data=dataclasses.replace(config.data))
    overall = {**FIGURES, **changes}
    nobody = {**overall, "ndcg@10": 0.0, "example_count": 7.0, "users": 7.0}
    sizes = {
        "users/all": 30,
        "items/all": 12,
        **{f"interactions/{one}": 100 for one in ("train", "validation", "test")},
    }
    retrieval = {
        "metrics": {"overall": overall, "item_activity=new": nobody},
        "pushed": "",
        "advice": ["train longer"],
    }
    summary = {"data": {"splits": sizes}, "retrieval": retrieval}
    stand_in = types.SimpleNamespace(config=config, summary=summary, kinds=("retrieval",))
    stand_in.folder = lambda output: str(tmp_path)
    return stand_in


def test_the_first_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.report.headline.statistics.time_span",
        lambda folder, split: (f"2020-0{len(split) % 9}-01", "2021-01-01"),
    )
    first = headline(run(tmp_path))
    assert first.data == "30 users, 12 items, 300 interactions, 2020-01-01 to 2021-01-01"
    assert (first.value, first.baseline, first.baseline_value, first.good) == (0.2, "ALS", 0.19, False)
    assert first.verdict == "Not shown to be better than the best baseline, ALS."
    assert first.to_do == ["retrieval was not pushed: train longer"]
    assert headline(run(tmp_path, **{"ndcg@10_gain_over_als_low": 0.001})).verdict.startswith("Better than")
    worse = {"ndcg@10_gain_over_als_low": -0.03, "ndcg@10_gain_over_als_high": -0.01}
    assert headline(run(tmp_path, **worse)).verdict.startswith("Worse than")


def test_slices_are_held_against_the_baseline_that_was_not_beaten(tmp_path):
    stand_in = run(tmp_path)
    assert best_baseline(stand_in) == reference_baseline(stand_in) == "als"
    rows = {row["name"]: row for row in slice_rows(stand_in, "retrieval")}
    assert rows["overall"]["mark"] == 0.19 and rows["overall"]["gain_low"] == -0.01
    assert rows["item_activity=new"]["zero"] and not rows["overall"]["zero"]
    both = run(tmp_path, **{"ndcg@10_gain_over_popularity_low": -0.1, "ndcg@10_gain_over_als_low": 0.01})
    assert reference_baseline(both) == "popularity"


def explanation(item, **parts):
    return Explanation(item, item, sum(parts.values()), parts, (), {}, {}, {}, "recommended", 1)


def test_what_recommendations_live_from():
    items = {"a": Item("A", 0), "b": Item("B", 100)}
    answers = [[explanation("a", tower=0.0, content=-0.5), explanation("b", tower=0.3, content=0.1)]]
    new, known = part_shares(answers, items)
    assert (new.name, new.items, new.shares) == (
        "never chosen in training",
        1,
        {"tower": 0.0, "content": 1.0},
    )
    assert known.shares == pytest.approx({"tower": 0.75, "content": 0.25})
    assert part_shares([[]], items) == []


def test_fusion_weights_sum_to_one():
    data = planted(num_users=10, circles=2, circle_size=4, walk=3)
    for fusion in ("gated", "attention"):
        found = weights_by_count(two_tower(data, fusion=fusion).item_tower, data.counts)
        assert sum(group["items"] for group in found.values()) == len(data.ids) - 1
        for group in found.values():
            assert set(group["weights"]) == {"id", "features", "text"}
            assert sum(group["weights"].values()) == pytest.approx(1, abs=1e-5)
    assert weights_by_count(two_tower(data, fusion="projection").item_tower, data.counts) == {}


def planted_ranks(*ranks):
    return types.SimpleNamespace(ranks=lambda examples: np.array(ranks, np.float64))


def test_paired_figures_are_those_of_the_evaluator():
    """A user's NDCG is of all that they chose, an item chosen twice counts once, and a user with many
    interactions counts once."""
    chosen = [("a", "x"), ("a", "y"), ("a", "y"), ("b", "z"), ("c", "gone")]
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                    for name, value in (("user_id", user), ("item_id", item))
                }
            )
        )
        for user, item in chosen
    ]
    models = planted_ranks(1, 2, 2, 1, np.nan), planted_ranks(1, 9, 9, 3, 1)
    found, reason = paired_figures(models, examples, (5,))
    assert reason == ""
    mrr, ndcg = found
    best = 1 + 1 / np.log2(3)  # both of a's items first
    assert (ndcg.name, ndcg.first) == ("ndcg@5", 1.0)
    assert ndcg.second == pytest.approx((1 / best + 0.5) / 2)
    assert (mrr.first, mrr.second) == (1.0, pytest.approx((1 + 1 / 3) / 2))
    assert ndcg.difference == pytest.approx(ndcg.first - ndcg.second) and ndcg.low <= ndcg.difference
    nothing = planted_ranks(*[np.nan] * 5)
    assert paired_figures((nothing, nothing), examples, (5,)) == (
        [],
        "none of the items chosen in the test can be recommended by both",
    )


def test_settings_that_differ(tmp_path):
    first, second = (
        load_config("movielens_100k", [f"root={tmp_path}", *more])
        for more in ([], ["text=none", "retrieval.training.epochs=3"])
    )
    # As a summary keeps them, and of the configuration itself.
    kept = json.loads(json.dumps(flat_settings(first)))
    found = {key: (one, other) for key, one, other in different_settings(kept, flat_settings(second))}
    assert found["retrieval.training.epochs"][1] == "3" and ("text", "–", "None") in different_settings(
        kept, flat_settings(second)
    )
    assert all(key.startswith(("text", "retrieval.training.epochs")) for key in found)
    assert different_settings(kept, flat_settings(first)) == []


def test_a_run_is_compared_by_what_it_was_run_with(tmp_path):
    """`--set` of the run counts, and not what the configuration says when the report is asked for."""
    run = types.SimpleNamespace(config=load_config("movielens_100k", [f"root={tmp_path}"]), summary={})
    assert settings_of(run)["retrieval.training.epochs"] == run.config.retrieval.training.epochs
    run.summary["settings"] = {"retrieval.training.epochs": 3}
    assert settings_of(run) == {"retrieval.training.epochs": 3}
