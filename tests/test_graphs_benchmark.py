"""The comparison of graphs asks alike with and without them, and counts as the textbook does."""

import numpy as np
import pandas as pd

from benchmarks.graphs import gains
from benchmarks.planted_graphs import planted


def test_noise_changes_the_edges_alone():
    told, noise = (planted(noise, users=60, items=40, groups=4, choices=6) for noise in (False, True))
    pd.testing.assert_frame_equal(told.interactions, noise.interactions)
    assert told.liked == noise.liked
    group = {user: frozenset(items) for user, items in told.liked.items()}
    same = [
        np.mean([group[one] == group[other] for one, other in data.user_edges.itertuples(index=False)])
        for data in (told, noise)
    ]
    assert same[0] == 1
    assert same[1] < 0.5
    assert not set(told.new_items) & set(told.interactions.item_id)
    assert not set(told.new_users) & set(told.interactions.user_id)


def test_gains_by_hand():
    ndcg, recall = gains([["a", "b", "c"], []], [{"b", "d"}, {"a"}])
    np.testing.assert_allclose(ndcg, [(1 / np.log2(3)) / (1 + 1 / np.log2(3)), 0])
    np.testing.assert_allclose(recall, [0.5, 0])
