"""What a model must show: planted cases through the gate, thresholds, and mistakes in the configuration."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2

from pipeline.components.evaluation_examples import evaluation_schema
from pipeline.config.pipeline_config import ConfigError, EvaluationConfig
from pipeline.evaluation.extractors import custom_extractors
from pipeline.evaluation.gates import check_names, ranking_eval_config, retrieval_eval_config
from pipeline.evaluation.ranking import RankingCombiner
from pipeline.evaluation.retrieval import RetrievalCombiner
from pipeline.evaluation.slices import PREFIX
from pipeline.evaluation.verdict import describe_failure, judge
from tests.pipeline.planted_gate import CASES, plant, save, serialised

CONFIG = EvaluationConfig(k=(10,), slices=("item_activity",), baselines={"popularity": "beat"})


def inputs(row):
    features = {"user_id": [row["user"].encode()], "baseline_popularity_rank": [row["popularity"]]}
    return metric_types.StandardMetricInputs(
        {
            "features": {name: np.array(value) for name, value in features.items()},
            "predictions": {
                "candidate": {"rank": np.array([row["candidate"]])},
                "baseline": {"rank": np.array([row["blessed"]])},
            },
        }
    )


def verdict(rows, part):
    """TFMA's own validation of one slice's figures."""
    combiner = RetrievalCombiner([10], ["popularity"], "candidate", "baseline")
    accumulator = combiner.create_accumulator()
    for row in rows:
        accumulator = combiner.add_input(accumulator, combiner.pack(inputs(row)))
    metrics = combiner.extract_output(accumulator)
    config = tfma.utils.update_eval_config_with_defaults(
        retrieval_eval_config(CONFIG), has_baseline=True, rubber_stamp=True
    )
    result = metrics_validator.validate_metrics((part, metrics), config)
    return [
        failure.metric_key.name for entry in result.metric_validations_per_slice for failure in entry.failures
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_right_for_twenty_seeds(case):
    expected = {"better": (False, False), "worse": (True, True), "worse for cold items": (False, True)}[case]
    for seed in range(20):
        rows = plant(case, seed)
        overall = verdict(rows, ())
        cold = verdict([row for row in rows if row["cold"]], ((PREFIX + "item_activity", "cold"),))
        common = verdict([row for row in rows if not row["cold"]], ((PREFIX + "item_activity", "common"),))
        refused = bool(overall), bool(overall + cold + common)
        # What is worse for cold items alone may or may not show overall; it must show in their slice, and
        # only there.
        if case == "worse for cold items":
            assert cold == ["ndcg@10_change_most"], seed
            assert common == [], seed
            assert refused[1], seed
        else:
            assert refused == expected, (seed, overall, cold, common)
        if case == "worse":
            assert "ndcg@10_change_high" in overall, seed


def reasons(combiner, config, elements):
    """Why TFMA's own validation refuses a model without a predecessor, in words."""
    accumulator = combiner.create_accumulator()
    for element in elements:
        accumulator = combiner.add_input(accumulator, combiner.pack(element))
    figures = combiner.extract_output(accumulator)
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
    result = metrics_validator.validate_metrics(((), figures), config)
    names = {key.name: value for key, value in figures.items()}
    return [
        describe_failure(failure, names)
        for entry in result.metric_validations_per_slice
        for failure in entry.failures
    ]


def asked(user, rank, popularity):
    features = {"user_id": np.array([user]), "baseline_popularity_rank": np.array([popularity])}
    return metric_types.StandardMetricInputs(
        {"features": features, "predictions": {"rank": np.array([rank])}}
    )


def clicked(user, click, score):
    features = {"user_id": np.array([user]), "click": np.array([click])}
    return metric_types.StandardMetricInputs(
        {"features": features, "predictions": {"click": np.array([score])}}
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("one user", "ndcg@10 cannot be told from popularity's: 1 users are too few"),
        ("nobody", "ndcg@10_gain_over_popularity_low is not a number: nobody could be judged"),
        ("scores", "the model gives 15 held-out items a score that is not a number"),
        ("baseline", "ndcg@10_gain_over_popularity_low is not a number: no rank .* of popularity is there"),
    ],
)
def test_bad_input_to_the_retrieval_gate_is_refused_in_words(given, expected):
    users = [b"u%d" % number for number in range(1 if given == "one user" else 15)]
    rank = {"nobody": np.nan, "scores": np.inf}.get(given, 1.0)
    elements = [asked(user, rank, np.nan if given == "baseline" else 9.0) for user in users]
    result = reasons(RetrievalCombiner([10], ["popularity"]), retrieval_eval_config(CONFIG), elements)
    assert any(re.search(expected, reason) for reason in result), result


@pytest.mark.parametrize(
    ("clicks", "score", "expected"),
    [
        ([1.0] * 20, 0.5, "auc is not a number: all test interactions have the same label"),
        ([0.0, 1.0] * 10, np.nan, "auc is not a number: .* or the model's scores are no numbers"),
        ([], 0.5, "auc is not a number: nobody could be judged"),
    ],
)
def test_bad_input_to_the_ranking_gate_is_refused_in_words(clicks, score, expected):
    elements = [clicked(b"u%d" % number, click, score) for number, click in enumerate(clicks)]
    config = ranking_eval_config(CONFIG, has_rating=False)
    result = reasons(RankingCombiner(has_rating=False), config, elements)
    assert any(re.search(expected, reason) for reason in result), result


def test_an_empty_slice_refuses_nothing_that_was_better_before():
    for combiner, config in (
        (RetrievalCombiner([10], ["popularity"], "candidate", "baseline"), retrieval_eval_config(CONFIG)),
        (RankingCombiner(True, "candidate", "baseline"), ranking_eval_config(CONFIG, has_rating=True)),
    ):
        config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=True, rubber_stamp=True)
        part = ((PREFIX + "item_activity", "cold"),)
        figures = combiner.extract_output(combiner.create_accumulator())
        result = metrics_validator.validate_metrics((part, figures), config)
        assert not result.metric_validations_per_slice


def test_a_slice_of_one_person_refuses_nothing():
    """Whatever happened to them: one user is no evidence."""
    row = plant("worse", 0)[0] | {"candidate": 400.0, "blessed": 1.0}
    assert verdict([row], ((PREFIX + "item_activity", "cold"),)) == []


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("candidate", "blessed"):
        save(name, str(folder / name))
    return folder


def through_tfma(config, models, rows, folder, blessed=True):
    """What TFX's Evaluator does with an evaluation's configuration, models and Examples."""
    path = str(folder / "examples.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for row in rows:
            writer.write(serialised(row))
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=blessed, rubber_stamp=True)
    shared = [
        tfma.default_eval_shared_model(
            str(models / {"baseline": "blessed"}.get(spec.name, "candidate")),
            model_name=spec.name,
            eval_config=config,
        )
        for spec in config.model_specs
    ]
    shared = shared if len(shared) > 1 else shared[0]
    tfma.run_model_analysis(
        extractors=custom_extractors(shared, config, None),
        eval_shared_model=shared,
        eval_config=config,
        data_location=path,
        output_path=str(folder / "out"),
        schema=evaluation_schema(["item_activity"], ["popularity"], has_label=False),
    )
    return judge(str(folder / "out"))


@pytest.mark.slow
def test_the_real_gate_refuses_what_is_worse_for_cold_items_alone(models, tmp_path):
    result = through_tfma(retrieval_eval_config(CONFIG), models, plant("worse for cold items", 0), tmp_path)
    assert not result["blessed"]
    cold = [reason for reason in result["reasons"] if reason.startswith("item_activity=cold")]
    assert len(cold) == 1
    assert "ndcg@10 is significantly worse than the last blessed model's: -0." in cold[0]
    assert not any(reason.startswith("item_activity=common") for reason in result["reasons"])
    assert result["metrics"]["item_activity=cold"]["ndcg@10_change"] < -0.05


@pytest.mark.slow
def test_the_real_gate_blesses_what_is_better_and_a_first_model(models, tmp_path):
    settings = dataclasses.replace(
        CONFIG, changes={"mrr": 0.01, "coverage@10": 0.5}, thresholds={"gini@10": 0.999}
    )
    result = through_tfma(retrieval_eval_config(settings), models, plant("better", 0), tmp_path)
    assert result["blessed"], result["reasons"]
    assert any("beats popularity: +0." in reason for reason in result["reasons"])
    (shown,) = [reason for reason in result["reasons"] if reason.startswith("not significantly worse")]
    for figure in ("ndcg@10 +0.", "mrr +0.", "coverage@10 +0.0000"):
        assert figure in shown
    shown = tfma.view.render_slicing_metrics(
        tfma.load_eval_result(str(tmp_path / "out"), model_name="candidate"),
        slicing_column="slice_item_activity",
    )
    sizes = {row["slice"]: row["metrics"][""][""]["example_count"]["doubleValue"] for row in shown.data}
    assert set(sizes) == {"slice_item_activity:cold", "slice_item_activity:common"}
    assert sum(sizes.values()) == 400
    assert shown.config == {"weightedExamplesColumn": "example_count"}
    json.dumps(shown.data, allow_nan=False)  # what is sent to a browser must be strict JSON
    first = tmp_path / "first"
    first.mkdir()
    missing = dataclasses.replace(settings, slice_thresholds={"item_activity=rare": {"recall@10": 0.1}})
    result = through_tfma(retrieval_eval_config(missing), models, plant("better", 0), first, blessed=False)
    assert not result["blessed"]
    assert result["reasons"] == [
        "item_activity=rare: no test interaction belongs to this slice, which a threshold is set for"
    ]
    assert set(result["metrics"]) == {"overall", "item_activity=cold", "item_activity=common"}
    assert result["metrics"]["overall"]["coverage@10"] == pytest.approx(10 / 500)


def test_a_change_counts_if_it_is_significant_where_the_figure_has_an_interval():
    changes = {"novelty@10": 0.5, "gini@10": 0.1, "recall@10": 0.02}
    config = retrieval_eval_config(dataclasses.replace(CONFIG, changes=changes, max_slice_drop=None))
    results = {
        name: entry.threshold.change_threshold.absolute.value
        for name, entries in config.metrics_specs[0].per_slice_thresholds.items()
        for entry in entries.thresholds
        if entry.threshold.HasField("change_threshold")
    }
    assert results == {
        "novelty@10_change_high": -0.5,
        "recall@10_change_high": -0.02,
        "ndcg@10_change_high": -0.005,
        "gini@10": 0.1,
    }
    ranking = ranking_eval_config(
        dataclasses.replace(CONFIG, changes={"mae": 0.1, "auc": 0.02}), has_rating=True
    )
    names = set(ranking.metrics_specs[0].per_slice_thresholds)
    assert {"mae_change_low", "auc_change_high", "rmse_change_low"} <= names


def test_values_and_changes_are_bounded_in_any_slice():
    settings = dataclasses.replace(
        CONFIG,
        slice_thresholds={"item_activity=cold": {"diversity@10": 0.2}, "item_activity": {"gini@10": 0.9}},
        slice_changes={"item_activity=cold": {"serendipity@10": 0.1}},
    )
    check_names(settings, ["popularity"], has_rating=False)
    result = retrieval_eval_config(settings).metrics_specs[0].per_slice_thresholds
    cold = config_pb2.SlicingSpec(feature_values={"slice_item_activity": "cold"})
    (entry,) = result["diversity@10"].thresholds
    assert list(entry.slicing_specs) == [cold]
    assert entry.threshold.value_threshold.lower_bound.value == 0.2
    (entry,) = result["gini@10"].thresholds
    assert list(entry.slicing_specs) == [config_pb2.SlicingSpec(feature_keys=["slice_item_activity"])]
    assert entry.threshold.value_threshold.upper_bound.value == 0.9
    (entry,) = result["serendipity@10_change_high"].thresholds
    assert list(entry.slicing_specs) == [cold]
    assert entry.threshold.change_threshold.absolute.value == -0.1


@pytest.mark.parametrize("kind", ["retrieval", "ranking", "clicks"])
def test_every_threshold_is_on_a_figure_that_is_computed(kind):
    """A threshold whose key nobody computes fails every model; TFMA tells keys apart by more than the
    name."""
    if kind == "retrieval":
        settings = EvaluationConfig(
            thresholds={"recall@100": 0.2}, changes={"coverage@10": 0.1, "novelty@10": 0.5, "recall@100": 0.1}
        )
        config = retrieval_eval_config(settings, ["popularity", "als", "content_knn", "text_none"])
    else:
        config = ranking_eval_config(EvaluationConfig(), has_rating=kind == "ranking")
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=True, rubber_stamp=True)
    expected = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    computed = {
        key
        for metric in metric_specs.to_computations(list(config.metrics_specs), config)
        for key in metric.keys
    }
    computed |= {key.make_diff_key() for key in computed if not key.is_diff}
    expected = {key for key in expected if key.model_name == "candidate"}
    assert any(key.is_diff for key in expected)
    assert any(not key.is_diff for key in expected)
    assert expected <= computed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": {"recal@10": 0.2}}, "names `recal@10`, which is not computed"),
        ({"changes": {"als_mrrr": 0.2}}, "`evaluation.changes` names `als_mrrr`"),
        ({"slice_thresholds": {"theme=War": {"mrr": 0.2}}}, "add the feature to `evaluation.slices`"),
        ({"slice_changes": {"theme": {"mrr": 0.2}}}, "`evaluation.slice_changes` names `theme`, but"),
        ({"slice_changes": {"script": {"mr": 0.2}}}, "`evaluation.slice_changes.script` names `mr`"),
    ],
)
def test_a_threshold_on_an_unknown_figure_or_slice_is_an_error(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_names(EvaluationConfig(**settings), ["popularity"], has_rating=True)


def test_no_threshold_for_a_first_run_is_an_error():
    """TFX would write no blessing at all, and drops thresholds against a model that is not there."""
    settings = EvaluationConfig(baselines={"popularity": "show"})
    with pytest.raises(ConfigError, match="no threshold that a first run can be judged by"):
        retrieval_eval_config(settings)
    assert retrieval_eval_config(dataclasses.replace(settings, thresholds={"mrr": 0.1}))


def test_a_baseline_that_nobody_can_train_is_an_error():
    assert EvaluationConfig(baselines={"als": "off"}).baselines["popularity"] == "beat"
    with pytest.raises(ConfigError, match=r"must be of popularity, repeat, als.*Received: random"):
        EvaluationConfig(baselines={"random": "beat"})


def test_thresholds_judge_all_examples_together():
    config = retrieval_eval_config(CONFIG)
    for name, thresholds in config.metrics_specs[0].per_slice_thresholds.items():
        parts = [spec for entry in thresholds.thresholds for spec in entry.slicing_specs]
        expected = [config_pb2.SlicingSpec(feature_keys=["slice_item_activity"])]
        assert parts == (expected if name.endswith("_most") else [config_pb2.SlicingSpec()]), name
