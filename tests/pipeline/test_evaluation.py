"""The Evaluators' figures against an independent library, slices, and thresholds."""

import numpy as np
import pytest
import ranx
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2

from pipeline.config import ConfigError, EvaluationConfig
from pipeline.evaluation import (
    GainCombiner,
    RankCombiner,
    per_person_figures,
    ranking_eval_config,
    retrieval_eval_config,
)


def random_ranks(seed, people=40, items=300):
    """Distinct ranks within each person, as held-out items of one ranking have."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 25, people)
    users = np.repeat(np.arange(people), counts)
    ranks = np.concatenate([rng.choice(np.arange(1, items + 1), count, replace=False) for count in counts])
    order = rng.permutation(len(users))
    return users[order], ranks[order].astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_ranx(seed):
    users, ranks = random_ranks(seed)
    qrels = {str(user): {} for user in set(users)}
    run = {str(user): {f"d{rank}": 1000.0 - rank for rank in range(1, 301)} for user in set(users)}
    for user, rank in zip(users, ranks, strict=True):
        qrels[str(user)][f"d{int(rank)}"] = 1
    ours = per_person_figures(users, ranks, [5, 20, 100])
    names = {"recall": "recall", "hit_rate": "hit_rate", "ndcg": "ndcg"}
    for k in (5, 20, 100):
        for name, theirs in names.items():
            expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), f"{theirs}@{k}")
            assert ours[f"{name}@{k}"].mean() == pytest.approx(expected, abs=1e-6), (name, k)
    assert ours["mrr"].mean() == pytest.approx(
        ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), "mrr"), abs=1e-6
    )


def test_figures_by_hand():
    figures = per_person_figures(np.array([7, 7, 9]), np.array([3.0, 1.0, 4.0]), [3])
    ideal = 1 + 1 / np.log2(3)
    assert figures["ndcg@3"].tolist() == pytest.approx([(1 + 1 / np.log2(4)) / ideal, 0])
    assert figures["recall@3"].tolist() == [1, 0]
    assert figures["map@3"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 0])
    assert figures["mrr"].tolist() == [1, 0.25]


def element(features, **predictions):
    """What TFMA hands to a combiner for one example."""
    arrays = {name: np.array([value]) for name, value in predictions.items()}
    return metric_types.StandardMetricInputs(
        {"features": {name: np.array([value]) for name, value in features.items()}, "predictions": arrays}
    )


def ranked(user, rank, popular):
    return element({"user_id": user}, rank=rank, popularity_rank=popular)


def combine(combiner, elements, parts=3):
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for place, element in enumerate(elements):
        accumulators[place % parts] = combiner.add_input(accumulators[place % parts], element)
    return {
        key.name: value
        for key, value in combiner.extract_output(combiner.merge_accumulators(accumulators)).items()
    }


def test_the_gain_is_the_difference_and_unknown_items_do_not_count():
    elements = [ranked(b"u", 1, 5), ranked(b"v", 20, 1), ranked(b"v", float("nan"), float("nan"))]
    found = combine(RankCombiner([10], ""), elements)
    assert found["people"] == 2
    assert found["held_out_items"] == 2
    assert found["ndcg@10"] == pytest.approx(0.5)
    assert found["popularity_ndcg@10"] == pytest.approx((1 / np.log2(6) + 1) / 2)
    assert found["ndcg@10_gain_over_popularity"] == pytest.approx(
        found["ndcg@10"] - found["popularity_ndcg@10"]
    )
    assert set(found) == set(RankCombiner([10], "").names())


def test_a_slice_without_usable_items_has_no_figures_and_says_so():
    found = combine(RankCombiner([10], ""), [ranked(b"u", float("nan"), float("nan"))])
    assert found["people"] == 0
    assert np.isnan(found["ndcg@10"])


def test_rmse_gain_by_hand():
    rated = [
        element({"label": 4}, rating=3, baseline_rating=2),
        element({"label": 2}, rating=2, baseline_rating=2),
    ]
    found = combine(GainCombiner(""), rated)
    assert found["rmse"] == pytest.approx(np.sqrt(0.5))
    assert found["rmse_gain_over_biases"] == pytest.approx(np.sqrt(2) - np.sqrt(0.5))


@pytest.mark.parametrize("kind", ["retrieval", "ranking", "clicks"])
def test_every_threshold_is_on_a_figure_that_is_computed(kind):
    """A threshold whose key nobody computes fails every model; TFMA tells keys apart by more than the name."""
    if kind == "retrieval":
        config = retrieval_eval_config(EvaluationConfig(thresholds={"recall@100": 0.2}))
    else:
        config = ranking_eval_config(EvaluationConfig(), has_rating=kind == "ranking")
    thresholds = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    assert thresholds, "an Evaluator without thresholds never blesses"
    computed = {
        key
        for metric in metric_specs.to_computations(list(config.metrics_specs), config)
        for key in metric.keys
    }
    plain = {key for key in thresholds if not key.is_diff}
    assert plain
    assert plain <= computed


def test_a_threshold_on_an_unknown_figure_is_an_error():
    with pytest.raises(ConfigError, match="names `recal@10`, which is not computed"):
        retrieval_eval_config(EvaluationConfig(thresholds={"recal@10": 0.2}))


def test_thresholds_judge_all_examples_together():
    config = retrieval_eval_config(EvaluationConfig())
    for thresholds in config.metrics_specs[0].per_slice_thresholds.values():
        assert list(thresholds.thresholds[0].slicing_specs) == [config_pb2.SlicingSpec()]
