"""The Evaluators' figures by hand, against the library and against independent libraries, and on bad
input."""

import numpy as np
import pytest
import sklearn.metrics
from tensorflow_model_analysis.metrics import metric_types

from pipeline.evaluation.figures import Certainty
from pipeline.evaluation.ranking import RankingCombiner
from pipeline.evaluation.retrieval import TOP, RetrievalCombiner, per_user_figures
from tfrec_fusion.metrics import accuracy, beyond_accuracy


def random_ranks(seed, user_ids=40, items=300):
    """Distinct ranks within each user, as held-out items of one ranking have."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 25, user_ids)
    users = np.repeat(np.arange(user_ids), counts)
    ranks = np.concatenate([rng.choice(np.arange(1, items + 1), count, replace=False) for count in counts])
    order = rng.permutation(len(users))
    return users[order], ranks[order].astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_ranx(seed):
    import ranx

    users, ranks = random_ranks(seed)
    qrels = {str(user): {} for user in set(users)}
    run = {str(user): {f"d{rank}": 1000.0 - rank for rank in range(1, 301)} for user in set(users)}
    for user, rank in zip(users, ranks, strict=True):
        qrels[str(user)][f"d{int(rank)}"] = 1
    ours = per_user_figures(users, ranks, [5, 20, 100])
    names = {"recall": "recall", "hit_rate": "hit_rate", "ndcg": "ndcg", "map": "map"}
    for k in (5, 20, 100):
        for name, theirs in names.items():
            expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), f"{theirs}@{k}")
            assert ours[f"{name}@{k}"].mean() == pytest.approx(expected, abs=1e-6), (name, k)
    assert ours["mrr"].mean() == pytest.approx(
        ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), "mrr"), abs=1e-6
    )


def test_figures_agree_with_the_library():
    users, ranks = random_ranks(5)
    ours = per_user_figures(users, ranks, [5, 100])
    lists = np.tile(np.arange(300), (40, 1))
    relevant = [ranks[users == user].astype(int) - 1 for user in range(40)]
    theirs = accuracy.ranking_metrics(lists, relevant, ks=(5, 100, 300))
    for k in (5, 100):
        for name in ("recall", "hit_rate", "ndcg", "map"):
            np.testing.assert_allclose(ours[f"{name}@{k}"], theirs[f"{name}@{k}"], atol=1e-9)
    np.testing.assert_allclose(ours["mrr"], theirs["mrr@300"], atol=1e-9)


def test_figures_by_hand():
    figures = per_user_figures(np.array([7, 7, 9]), np.array([3.0, 1.0, 4.0]), [3])
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


def ranked(user, rank, popular=1.0, top=range(1, TOP + 1), unexpected=1.0, novelty=1.0, diversity=1.0):
    results = {"user_id": user, "baseline_popularity_rank": popular}
    return element(
        results,
        rank=rank,
        top=list(top),
        unexpected=unexpected,
        novelty=novelty,
        diversity=diversity,
        catalogue_size=40,
    )


def combine(combiner, elements, parts=3):
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for position, element in enumerate(elements):
        accumulators[position % parts] = combiner.add_input(
            accumulators[position % parts], combiner.pack(element)
        )
    merged = combiner.compact(combiner.merge_accumulators(accumulators))
    result = combiner.extract_output(merged)
    assert set(result) == set(combiner.keys())
    return {key.name: value for key, value in result.items() if key.model_name != "baseline"}


SURE = Certainty(min_users=2)


def test_the_gain_is_the_difference_and_unknown_items_do_not_count():
    elements = [ranked(b"u", 1, 5), ranked(b"v", 20, 1), ranked(b"v", float("nan"), float("nan"))]
    result = combine(RetrievalCombiner([10], ["popularity"], certainty=SURE), elements)
    assert result["users"] == 2
    assert result["held_out_items"] == 2
    assert result["ndcg@10"] == pytest.approx(0.5)
    assert result["popularity_ndcg@10"] == pytest.approx((1 / np.log2(6) + 1) / 2)
    gain = result["ndcg@10"] - result["popularity_ndcg@10"]
    assert result["ndcg@10_gain_over_popularity"] == pytest.approx(gain)
    # With two users a sample is one of them twice or both: the extremes are the users themselves.
    low, high = sorted([1 - 1 / np.log2(6), 0 - 1])
    assert result["ndcg@10_gain_over_popularity_low"] == pytest.approx(low)
    assert result["ndcg@10_gain_over_popularity_high"] == pytest.approx(high)


def test_lists_beyond_accuracy_agree_with_the_library():
    rng = np.random.default_rng(0)
    tops = rng.permuted(np.tile(np.arange(1, 41), (30, 1)), axis=1)[:, :TOP]
    tops[3, 6:] = 0  # a short list
    bits, spread, unexpected = rng.random(30), rng.random(30), rng.random(60)
    spread[4] = np.nan  # a list of one item has no distances
    users = np.repeat(np.arange(30), 2)
    ranks = rng.integers(1, 30, 60).astype(float)
    elements = [
        ranked(str(user).encode(), rank, 1, tops[user], surprise, bits[user], spread[user])
        for user, rank, surprise in zip(users, ranks, unexpected, strict=True)
    ]
    result = combine(RetrievalCombiner([10], ["popularity"]), elements)
    lists = np.where(tops > 0, tops, -1)
    assert result["coverage@10"] == pytest.approx(beyond_accuracy.coverage(lists, 40), abs=1e-6)
    assert result["gini@10"] == pytest.approx(beyond_accuracy.gini(lists, 40), abs=1e-6)
    assert result["novelty@10"] == pytest.approx(bits.mean(), abs=1e-6)
    assert result["diversity@10"] == pytest.approx(np.nanmean(spread), abs=1e-6)
    expected = sum(value for value, rank in zip(unexpected, ranks, strict=True) if rank <= 10) / 10 / 30
    assert result["serendipity@10"] == pytest.approx(expected, abs=1e-6)
    for name in ("novelty@10", "diversity@10", "serendipity@10"):
        assert result[f"{name}_low"] < result[name] < result[f"{name}_high"]
    # The interval of a mean over users is about two standard errors to both sides.
    reach = 1.96 * bits.std() / np.sqrt(30)
    assert result["novelty@10_high"] - result["novelty@10_low"] == pytest.approx(2 * reach, rel=0.15)


def test_changes_beyond_accuracy_are_paired_differences_over_people():
    rng = np.random.default_rng(0)
    before, spread = rng.uniform(5, 9, 60), rng.uniform(0.3, 0.6, 60)
    elements = []
    for user in range(60):
        lists = {"rank": 3.0, "top": list(range(1, TOP + 1)), "unexpected": 0.5, "catalogue_size": 40}
        answers = {
            "candidate": {**lists, "novelty": before[user] - 0.5, "diversity": spread[user]},
            "baseline": {**lists, "novelty": before[user], "diversity": spread[user], "rank": 30.0},
        }
        elements.append(
            metric_types.StandardMetricInputs(
                {
                    "features": {"user_id": [f"u{user}".encode()], "baseline_popularity_rank": [1.0]},
                    "predictions": {
                        name: {key: np.array([value]) for key, value in answer.items()}
                        for name, answer in answers.items()
                    },
                }
            )
        )
    result = combine(RetrievalCombiner([10], ["popularity"], "candidate", "baseline"), elements)
    # Everybody's list is half a bit less novel: however different users are, that is certain.
    for end in ("", "_low", "_high", "_least", "_most"):
        assert result[f"novelty@10_change{end}"] == pytest.approx(-0.5, abs=1e-5)
        assert result[f"diversity@10_change{end}"] == pytest.approx(0, abs=1e-6)
        assert result[f"serendipity@10_change{end}"] == pytest.approx(0.05, abs=1e-6)


def gathered(combiner, elements):
    accumulator = combiner.create_accumulator()
    for entry in elements:
        accumulator = combiner.add_input(accumulator, combiner.pack(entry))
    return accumulator


def test_memory_is_bounded_by_one_list_a_person(monkeypatch):
    import pipeline.evaluation.retrieval as module

    monkeypatch.setattr(module, "MOST_LISTS", 10)
    combiner = RetrievalCombiner([10], ["popularity"])
    accumulator = gathered(
        combiner, [ranked(f"u{number % 5}".encode(), 1.0 + number) for number in range(500)]
    )
    assert len(accumulator[1]) <= 20 * module.LIST_TYPE.itemsize
    assert len(accumulator[0]) == 500 * combiner.row_type.itemsize


@pytest.mark.parametrize("kind", ["retrieval", "ranking"])
def test_of_more_interactions_than_are_wanted_some_people_count_with_all_of_theirs(kind):
    """Whatever the order and however the parts were cut before."""
    rng = np.random.default_rng(0)
    users = rng.permutation(np.repeat(np.arange(200), 5))
    combiner = (
        RetrievalCombiner([10], ["popularity"], most=100)
        if kind == "retrieval"
        else RankingCombiner(has_rating=False, most=100)
    )
    elements = [
        ranked(str(user).encode(), float(position + 1))
        if kind == "retrieval"
        else rated(str(user).encode(), 1, 0.5)
        for position, user in enumerate(users)
    ]
    results = []
    for parts in (1, 7):
        order = rng.permutation(len(elements))
        accumulators = [
            gathered(combiner, [elements[position] for position in order[part::parts]])
            for part in range(parts)
        ]
        for entry in accumulators:
            buffer = entry[0] if kind == "retrieval" else entry
            assert len(buffer) <= 2 * 100 * combiner.row_type.itemsize
        merged = combiner.merge_accumulators(accumulators)
        results.append({key.name: value for key, value in combiner.extract_output(merged).items()})
    assert results[0]["users"] == 20
    assert results[0]["example_count"] == 100
    np.testing.assert_equal(results[0], results[1])


def test_a_slice_without_usable_items_has_no_figures_and_says_so():
    result = combine(RetrievalCombiner([10], ["popularity"]), [ranked(b"u", float("nan"), float("nan"))])
    assert result["users"] == 0
    assert np.isnan(result["ndcg@10"])


def test_one_person_is_too_few_to_be_sure_of_anything():
    result = combine(RetrievalCombiner([10], ["popularity"]), [ranked(b"u", 1, 5), ranked(b"u", 3, 1)])
    assert result["users"] == 1
    assert result["ndcg@10"] > 0
    assert result["ndcg@10_gain_over_popularity_low"] == -np.inf
    assert result["ndcg@10_high"] == np.inf


def test_scores_that_are_no_numbers_are_misses_and_counted():
    result = combine(RetrievalCombiner([10], ["popularity"]), [ranked(b"u", np.inf, 5), ranked(b"v", 1, 1)])
    assert result["items_without_score"] == 1
    assert result["recall@10"] == 0.5
    assert result["mrr"] == 0.5


def rated(user, click, click_score, label=0.0, rating=0.0, biases=0.0):
    features = {"user_id": user, "click": click, "label": label}
    return element(features, click=click_score, rating=rating, baseline_rating=biases)


def test_rmse_gain_by_hand():
    result = combine(
        RankingCombiner(has_rating=True),
        [rated(b"u", 1, 0.5, 4, 3, 2), rated(b"v", 0, 0.5, 2, 2, 2)],
    )
    assert result["rmse"] == pytest.approx(np.sqrt(0.5))
    assert result["mae"] == pytest.approx(0.5)
    assert result["rmse_gain_over_biases"] == pytest.approx(np.sqrt(2) - np.sqrt(0.5))


def test_choices_without_a_grade_are_in_no_figure_of_grades():
    rng = np.random.default_rng(0)
    users = [b"u%d" % (row % 5) for row in range(60)]
    graded = [
        rated(user, int(rng.integers(2)), float(rng.uniform(0.1, 0.9)), *rng.integers(1, 6, 3).astype(float))
        for user in users
    ]
    ungraded = [rated(user, 1, 0.7, np.nan, 9.0, 9.0) for user in [*users[:9], b"new"]]
    expected, results = (
        combine(RankingCombiner(has_rating=True), rows) for rows in (graded, graded + ungraded)
    )
    for name in ("rmse", "mae", "baseline_rmse", "rmse_gain_over_biases", "user_ndcg"):
        assert results[name] == pytest.approx(expected[name], abs=1e-9), name
    assert results["users"] == 6 and np.isfinite(results["log_loss"])
    alone = combine(RankingCombiner(has_rating=True), ungraded)
    assert np.isnan(alone["rmse"]) and np.isnan(alone["user_ndcg"]) and np.isfinite(alone["log_loss"])


@pytest.mark.parametrize("seed", range(3))
def test_ranking_figures_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 15, 400)
    clicks = rng.integers(0, 2, 400)
    # Rounded, so that some are tied; as float32, which is what models answer with.
    scores = rng.uniform(0.05, 0.95, 400).round(2).astype(np.float32).astype(np.float64)
    labels, ratings = rng.integers(1, 6, 400), rng.uniform(1, 5, 400).astype(np.float32).astype(np.float64)
    elements = [
        rated(str(user).encode(), *values)
        for user, *values in zip(users, clicks, scores, labels, ratings, strict=True)
    ]
    result = combine(RankingCombiner(has_rating=True), elements)
    user_ids = [users == user for user in np.unique(users)]
    expected = {
        "auc": sklearn.metrics.roc_auc_score(clicks, scores),
        "user_auc": np.mean([sklearn.metrics.roc_auc_score(clicks[own], scores[own]) for own in user_ids]),
        "log_loss": sklearn.metrics.log_loss(clicks, scores),
        "calibration": scores.sum() / clicks.sum(),
        "rmse": np.sqrt(sklearn.metrics.mean_squared_error(labels, ratings)),
        "mae": sklearn.metrics.mean_absolute_error(labels, ratings),
        "user_ndcg": np.mean([sklearn.metrics.ndcg_score([labels[own]], [ratings[own]]) for own in user_ids]),
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


def test_intervals_of_order_are_those_of_drawing_people():
    """AUC and each user's own order, computed anew for every draw of users, spread as the intervals
    say."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(60), 25)
    lean = rng.uniform(-1, 1, 60)[users]  # users differ, so that drawing interactions would promise too much
    clicks = (rng.normal(size=1500) + lean > 0).astype(int)
    scores = {
        name: (1 / (1 + np.exp(-(0.7 * clicks + 0.3 * lean + noise * rng.normal(size=1500))))).round(3)
        for name, noise in (("candidate", 0.7), ("baseline", 0.9))
    }
    elements = [
        metric_types.StandardMetricInputs(
            predictions={name: np.array([values[row]], np.float32) for name, values in scores.items()},
            features={"user_id": np.array([b"%d" % user]), "click": np.array([clicks[row]])},
        )
        for row, user in enumerate(users)
    ]
    combiner = RankingCombiner(has_rating=False, model="candidate", blessed="baseline")
    result = combine(combiner, elements)

    rows = [np.flatnonzero(users == user) for user in range(60)]
    draws: dict[str, list] = {name: [] for name in ("auc", "auc_change", "user_auc", "user_ndcg")}
    own = {
        name: [sklearn.metrics.roc_auc_score(clicks[r], values[r]) for r in rows]
        for name, values in scores.items()
    }
    order = [sklearn.metrics.ndcg_score([clicks[r]], [scores["candidate"][r]]) for r in rows]
    for _ in range(600):
        user_ids = rng.integers(0, 60, 60)
        drawn = np.concatenate([rows[user] for user in user_ids])
        areas = [sklearn.metrics.roc_auc_score(clicks[drawn], values[drawn]) for values in scores.values()]
        draws["auc"].append(areas[0])
        draws["auc_change"].append(areas[0] - areas[1])
        draws["user_auc"].append(np.mean([own["candidate"][user] for user in user_ids]))
        draws["user_ndcg"].append(np.mean([order[user] for user in user_ids]))
    for name, values in draws.items():
        low, high = np.quantile(values, [0.025, 0.975])
        wide = high - low
        assert result[f"{name}_low"] == pytest.approx(low, abs=0.15 * wide), name
        assert result[f"{name}_high"] == pytest.approx(high, abs=0.15 * wide), name


@pytest.mark.parametrize("seed", range(3))
def test_clicks_are_held_against_how_often_items_are_chosen(seed):
    """Both areas as scikit-learn computes them, ties and all."""
    rng = np.random.default_rng(seed)
    clicks, rate = rng.integers(0, 2, 200), rng.integers(0, 6, 200)
    scores = (0.3 * clicks + rng.random(200)).round(2)
    elements = [
        element(
            {"user_id": b"%d" % (row % 40), "click": clicks[row]}, click=scores[row], baseline_click=rate[row]
        )
        for row in range(200)
    ]
    result = combine(RankingCombiner(has_rating=False), elements)
    areas = [sklearn.metrics.roc_auc_score(clicks, values) for values in (scores, rate)]
    assert result["baseline_auc"] == pytest.approx(areas[1], abs=1e-6)
    assert result["auc_gain_over_click_rate"] == pytest.approx(areas[0] - areas[1], abs=1e-6)
    assert (
        result["auc_gain_over_click_rate_low"]
        <= areas[0] - areas[1]
        <= result["auc_gain_over_click_rate_high"]
    )


def test_equal_labels_have_no_auc_but_everything_else():
    result = combine(RankingCombiner(has_rating=False), [rated(b"u", 1, 0.5), rated(b"v", 1, 0.25)])
    assert np.isnan(result["auc"])
    assert np.isnan(result["user_auc"])
    assert result["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    assert result["calibration"] == pytest.approx(0.375)


@pytest.mark.parametrize("blessed", [None, "baseline"])
def test_the_only_output_of_a_model_without_ratings_is_unwrapped(blessed):
    """TFMA hands on `{"click": scores}` of a model as bare scores where there is no second output."""
    elements = []
    for user, click, score in ((b"u", 1, 0.5), (b"v", 0, 0.25)):
        scores = np.array([score], np.float32)
        elements.append(
            metric_types.StandardMetricInputs(
                predictions={"candidate": scores, "baseline": scores},
                features={"user_id": np.array([user]), "click": np.array([click])},
            )
        )
    result = combine(RankingCombiner(has_rating=False, model="candidate", blessed=blessed), elements)
    assert result["auc"] == 1.0
    assert result["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


def test_predictions_that_are_no_numbers_make_no_figures():
    result = combine(
        RankingCombiner(has_rating=True), [rated(b"u", 1, np.nan, 4, np.nan), rated(b"v", 0, 0.5, 2, 2)]
    )
    for name in ("auc", "log_loss", "rmse", "rmse_gain_over_biases"):
        assert np.isnan(result[name]), name


@pytest.mark.parametrize("blessed", [None, "baseline"])
def test_further_labels_have_figures_where_they_are_known(blessed):
    """By scikit-learn, over the rows of which a label is known."""
    rng = np.random.default_rng(0)
    kept, kept_scores = rng.integers(0, 2, 200).astype(np.float32), rng.uniform(0.1, 0.9, 200)
    minutes, predicted = rng.uniform(0, 90, 200), rng.uniform(0, 90, 200).astype(np.float32)
    kept_scores, minutes = kept_scores.round(1).astype(np.float32), minutes.astype(np.float32)
    kept[::5] = minutes[::3] = np.nan
    elements = []
    for row in range(200):
        features = {"user_id": b"u%d" % (row % 20), "click": row % 2,
                    "label__kept": kept[row], "label__minutes": minutes[row]}  # fmt: skip
        own = {"click": 0.5, "kept": kept_scores[row], "minutes": predicted[row]}
        models = {"candidate": own, "baseline": {**own, "kept": 0.5}}
        values = [{key: np.array([value]) for key, value in some.items()} for some in (features, own)]
        both = {model: {key: np.array([value]) for key, value in some.items()}
                for model, some in models.items()}  # fmt: skip
        elements.append(metric_types.StandardMetricInputs(
            {"features": values[0], "predictions": both if blessed else values[1]}
        ))  # fmt: skip
    labels = {"kept": "binary", "minutes": "rating"}
    name = "candidate" if blessed else ""
    result = combine(RankingCombiner(False, name, blessed, labels=labels), elements)
    known, rated = ~np.isnan(kept), ~np.isnan(minutes)
    error = minutes[rated] - predicted[rated]
    expected = {
        "auc_of_kept": sklearn.metrics.roc_auc_score(kept[known], kept_scores[known]),
        "log_loss_of_kept": sklearn.metrics.log_loss(kept[known], kept_scores[known]),
        "rmse_of_minutes": np.sqrt(np.mean(error.astype(np.float64) ** 2)),
        "mae_of_minutes": np.mean(np.abs(error)),
    }
    for figure, value in expected.items():
        assert result[figure] == pytest.approx(value, rel=1e-5), figure
        assert result[f"{figure}_low"] <= value <= result[f"{figure}_high"]
    if blessed:
        assert result["auc_of_kept_change"] == pytest.approx(expected["auc_of_kept"] - 0.5, rel=1e-5)
    without = combine(RankingCombiner(False, name, blessed), elements)
    np.testing.assert_equal({figure: result[figure] for figure in without}, without)


def bought(user, item, rank, popular=1.0):
    features = {"user_id": user, "item_id": item, "baseline_popularity_rank": popular}
    lists = {"top": list(range(1, TOP + 1)), "unexpected": 1.0, "novelty": 1.0, "diversity": 1.0}
    return element(features, rank=rank, catalogue_size=40, **lists)


def test_an_item_that_was_bought_several_times_is_held_out_once():
    once = [bought(b"u", b"tea", 2, 1), bought(b"u", b"pot", 40, 3), bought(b"v", b"tea", np.inf, 2)]
    several = [*once, once[0], once[0], once[2]]
    plain, repeated = (combine(RetrievalCombiner([10], ["popularity"]), rows) for rows in (once, several))
    assert plain.pop("example_count") == 3
    assert repeated.pop("example_count") == 6
    np.testing.assert_equal(repeated, plain)
    assert plain["held_out_items"] == 3
    assert plain["items_without_score"] == 1
    assert plain["serendipity@10"] == pytest.approx(0.1 / 2)


def test_figures_stay_in_range_where_context_changes_a_persons_lists():
    """Two items, each first in the list of its own moment; one of them twice, at other ranks."""
    elements = [bought(b"u", b"tea", 1), bought(b"u", b"pot", 1), bought(b"u", b"pot", 7)]
    result = combine(RetrievalCombiner([10], ["popularity"]), elements)
    assert result["held_out_items"] == 2
    assert 0 < result["ndcg@10"] <= 1
    assert result["recall@10"] == 1
