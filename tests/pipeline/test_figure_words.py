"""What summary, report and card say of figures: signs, verbs, slices, and figures that cannot be trusted."""

import dataclasses
import types

import pytest
from tensorflow_model_analysis.proto import validation_result_pb2

from pipeline.config.pipeline_config import DataConfig, EvaluationConfig, PipelineConfig, SplitConfig
from pipeline.evaluation.verdict import describe_failure, describe_success
from pipeline.evaluation.wording import (
    difference,
    doubtful_cutoffs,
    doubtful_figures,
    doubtful_texts,
    telling_slices,
)
from pipeline.report.page import history_words, metric_names, slice_rows
from tfrec_fusion.datasets.tables import Interactions, Items

BETTER = {
    "ndcg@10": 0.3,
    "ndcg@10_gain_over_als": 0.0648,
    "ndcg@10_gain_over_als_low": 0.0512,
    "ndcg@10_gain_over_als_high": 0.079,
    "rmse": 0.9,
    "rmse_gain_over_biases": 0.02,
    "rmse_gain_over_biases_low": 0.01,
    "rmse_gain_over_biases_high": 0.03,
}


def test_what_is_clearly_better_beats_whatever_was_demanded():
    checked = [("ndcg@10_gain_over_als_high", False), ("rmse_gain_over_biases", False)]
    checked.append(("rmse_gain_over_biases_high", False))
    assert describe_success({"overall": BETTER}, checked) == [
        "ndcg@10 0.3000 beats ALS: +0.0648 [+0.0512, +0.0790]",
        "rmse 0.9000 beats user and item biases: -0.0200 [-0.0300, -0.0100]",
    ]
    unsure = BETTER | {"ndcg@10_gain_over_als": 0.001, "ndcg@10_gain_over_als_low": -0.01}
    (words,) = describe_success({"overall": unsure}, checked[:1])
    assert words == "ndcg@10 0.3000 is no worse than ALS: +0.0010 [-0.0100, +0.0790]"


def test_a_gain_of_an_error_is_shown_as_less_of_it():
    assert difference("rmse", "biases", BETTER) == "-0.0200 [-0.0300, -0.0100]"
    assert difference("rmse", "biases", {"rmse_gain_over_biases": -0.5}) == "+0.5000"
    assert difference("ndcg@10", "popularity", BETTER) == "unknown"
    failure = validation_result_pb2.ValidationFailure()
    failure.metric_key.name = "rmse_gain_over_biases"
    failure.metric_value.double_value.value = -0.5
    words = describe_failure(failure, {"rmse_gain_over_biases": -0.5, "users": 30})
    assert words == "rmse does not beat user and item biases: +0.5000 over 30 users"


SLICES = {
    "overall": {"example_count": 90, "users": 30, "ndcg@10": 0.5},
    "script=Latin": {"example_count": 90, "users": 30, "ndcg@10": 0.5},
    "script=none": {"example_count": 0, "users": 0, "ndcg@10": 0.5},
    "user_activity=light": {"example_count": 40, "users": 9, "ndcg@10": 0.4},
}


def run_of(metrics, k=(10,)):
    config = types.SimpleNamespace(evaluation=EvaluationConfig(k=k), baselines=("popularity",))
    return types.SimpleNamespace(config=config, summary={"retrieval": {"metrics": metrics}})


def test_slices_that_hold_all_or_nothing_are_not_shown():
    assert list(telling_slices(SLICES)) == ["overall", "user_activity=light"]
    assert [row["name"] for row in slice_rows(run_of(SLICES), "retrieval")] == [
        "overall",
        "user_activity=light",
    ]
    change = [("ndcg@10_change_high", False)]
    assert "nor in any of 1 slices" in describe_success(SLICES, change)[0]


@pytest.mark.parametrize(("held_out", "shown"), [(30, False), (45, True)])
def test_the_hit_rate_is_not_shown_where_it_is_the_recall(held_out, shown):
    overall = {"users": 30, "held_out_items": held_out}
    assert ("hit_rate@10" in metric_names(run_of({"overall": overall}))) == shown


def test_figures_that_are_too_good_to_be_true_are_pointed_at():
    (words,) = doubtful_figures({"ndcg@10": 0.92, "popularity_ndcg@10": 0.1})
    assert words.startswith("ndcg@10 0.9200 is too good to be true")
    (words,) = doubtful_figures({"ndcg@10": 0.97, "popularity_ndcg@10": 0.95})
    assert "popularity alone reaches 0.9500" in words
    assert "auc 0.9990" in doubtful_figures({"auc": 0.999})[0]
    assert "rmse 0.0100" in doubtful_figures({"rmse": 0.01, "baseline_rmse": 0.9})[0]
    assert not doubtful_figures({"ndcg@10": 0.4, "auc": 0.8, "rmse": 0.9, "baseline_rmse": 0.95})


def test_texts_with_a_handful_of_values_and_cutoffs_beyond_the_catalogue_are_pointed_at():
    (words,) = doubtful_texts({"distinct_texts": 2}, 1000)
    assert words.startswith("1,000 items have 2 different texts")
    assert not doubtful_texts({"distinct_texts": 900}, 1000)
    assert not doubtful_texts(None, 1000)
    assert not doubtful_texts({"distinct_texts": 3}, 4)
    assert doubtful_cutoffs((10, 100), 16) == [
        "recall@100 cannot miss: the catalogue has 16 items. Set lower cut-offs, `evaluation.k`"
    ]
    assert not doubtful_cutoffs((10,), 16)


def test_a_history_without_times_is_in_no_order():
    assert history_words(49, True) == "history, the last 8 of 49"
    assert history_words(49, False) == "history, 8 of 49 in no order"
    assert history_words(8, False) == "history"


def test_without_times_there_is_no_period():
    data = DataConfig(interactions=Interactions("a.csv", "user", "item", None), items=Items("b.csv", "item"))
    config = PipelineConfig("shop", data, split=SplitConfig(method="leave_last_out"))
    assert not config.has_times
    assert "period" not in config.evaluation.slices
    timed = dataclasses.replace(data, interactions=Interactions("a.csv", "user", "item", "time"))
    assert "period" in PipelineConfig("shop", timed).evaluation.slices
