"""Cases about figures that cannot be true."""

import collections

import numpy as np
import pytest

from pipeline.config.pipeline_config import load_config
from tests.cases.reading import choices, needs_cases, tables
from tfrec_fusion.datasets.splits import Event, cutoffs_of, in_order, split_user
from tfrec_fusion.metrics.accuracy import rank_scores, ranking_metrics
from tfrec_fusion.metrics.ranks import per_user_figures

pytestmark = needs_cases


@pytest.mark.parametrize(
    ("ranks", "ndcg", "recall"),
    [
        ([1], 1.0, 1.0),
        ([1, 1], 1.0, 1.0),
        ([1] * 5, 1.0, 1.0),
        ([2, 2, 2, 40], 0.38685, 0.5),
        ([2, 40], 0.38685, 0.5),
    ],
)
def test_an_item_that_was_bought_again_is_relevant_once(ranks, ndcg, recall):
    """The lists of "report-16"'s case2.py, with the NDCG that it states."""
    for items in (None, np.unique(ranks, return_inverse=True)[1]):
        found = per_user_figures(np.full(len(ranks), 7), np.array(ranks, float), [10], items)
        assert found["ndcg@10"] == pytest.approx(ndcg, abs=1e-5) and found["recall@10"] == recall
        assert all(np.all((values >= 0) & (values <= 1)) for values in found.values())


@pytest.mark.parametrize(
    ("ranked", "relevant", "k", "recall", "ndcg"),
    [
        ([1, 2], [1, 1, 2], 2, 1.0, 1.0),
        ([1, 1], [1, 2], 2, 0.5, 0.6131),
        ([1, 1], [1], 2, 1.0, 1.0),
        ([1, 2, 3], [1, 2, 3], 2, 2 / 3, 1.0),
        ([1, 2], [], 2, np.nan, np.nan),
        ([-1, -1], [-1], 2, np.nan, np.nan),
        ([1, 2], [2], 5, 1.0, 0.6309),
    ],
)
def test_a_list_counts_an_item_once(ranked, relevant, k, recall, ndcg):
    """The lists of report-16's case.py."""
    found = ranking_metrics(np.array([ranked]), [np.array(relevant, np.int64)], [k])
    assert found[f"recall@{k}"] == pytest.approx([recall], nan_ok=True)
    assert found[f"ndcg@{k}"] == pytest.approx([ndcg], abs=1e-4, nan_ok=True)
    assert all(not np.any(values > 1) for values in found.values())


def test_ties_infinities_and_exclusions_in_a_ranking():
    endless = rank_scores(lambda rows: np.array([[np.inf, 1.0, -np.inf]] * len(rows)), 1, 3, k=3)
    assert endless.tolist() == [[0, 1, -1]]
    nothing = rank_scores(lambda rows: np.zeros((len(rows), 3)), 1, 3, [np.array([0, 1, 2])], k=3)
    assert nothing.tolist() == [[-1, -1, -1]]
    tied = [
        rank_scores(lambda rows: np.zeros((len(rows), 9)), 1, 9, k=1, seed=seed)[0, 0] for seed in range(60)
    ]
    assert len(set(tied)) > 4


def test_what_was_bought_three_times_is_held_out_three_times_and_counts_once(opened):
    """The whole run's figures come from these rows: `ndcg@10` was 1.1152."""
    opened("report-16")
    read = tables("repeats.yaml")
    rows, _ = choices(read)
    config = load_config("repeats.yaml").split
    cutoffs = cutoffs_of((time for _, _, time in rows), config.validation, config.test)
    people = collections.defaultdict(list)
    for user, item, time in rows:
        people[user].append(Event(time, item))
    users, items = [], []
    for user, events in people.items():
        kept, duplicates = in_order(user, events)
        assert not duplicates
        for example in split_user(kept, "temporal", cutoffs, 10):
            if example.split == "test":
                users.append(user)
                items.append(example.event.item)
    assert len(users) == 269  # of 270 the first is where validation ends
    codes = np.unique(items, return_inverse=True)[1]
    found = per_user_figures(np.array(users), np.ones(len(users)), [10], codes)
    assert set(found["ndcg@10"]) == set(found["map@10"]) == {1.0}
