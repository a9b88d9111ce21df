"""Friendships as interactions, by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.edges import Edges
from tfrec_fusion.datasets.friends import friend_tables
from tfrec_fusion.datasets.splits import temporal_cutoffs
from tfrec_fusion.datasets.tables import Items


def written(folder, rows):
    path = folder / "friends.csv"
    pd.DataFrame(rows, columns=["source", "target"]).to_csv(path, index=False)
    return [Edges(str(path))]


def test_an_edge_is_two_choices_of_one_moment_and_each_chose_themselves_before(tmp_path):
    tables = friend_tables(written(tmp_path, [("a", "b"), ("b", "a"), ("c", "a")]), str(tmp_path / "work"))
    rows = pd.read_parquet(tables.interactions.path)
    own, chosen = (rows[(rows["user_id"] == rows["friend_id"]) == same] for same in (True, False))
    pairs = dict(zip(zip(chosen["user_id"], chosen["friend_id"], strict=True), chosen["time"], strict=True))
    assert set(pairs) == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    assert pairs["a", "b"] == pairs["b", "a"] != pairs["a", "c"] == pairs["c", "a"]
    assert sorted(own["user_id"]) == ["a", "b", "c"]
    assert own["time"].max() < chosen["time"].min()
    assert sorted(pd.read_parquet(tables.items.path)["user_id"]) == ["a", "b", "c"]
    assert tables.interactions.weight is None


def test_a_split_by_time_holds_out_both_directions(tmp_path):
    rows = [(f"u{one}", f"u{other}") for one in range(20) for other in range(one)]
    tables = friend_tables(written(tmp_path, rows), str(tmp_path / "work"))
    chosen = pd.read_parquet(tables.interactions.path).query("user_id != friend_id")
    cutoffs = temporal_cutoffs([(time, 2) for time in chosen["time"].unique()], 0.1, 0.1)
    sides = {}
    for user, time, friend in zip(chosen["user_id"], chosen["time"], chosen["friend_id"], strict=True):
        sides.setdefault(frozenset((user, friend)), set()).add(sum(time >= start for start in cutoffs))
    assert all(len(splits) == 1 for splits in sides.values())
    assert {next(iter(splits)) for splits in sides.values()} == {0, 1, 2}


def test_edges_to_users_that_are_not_listed_are_too_many(tmp_path):
    pd.DataFrame({"id": ["a", "b"]}).to_csv(tmp_path / "users.csv", index=False)
    listed = Items(str(tmp_path / "users.csv"), "id")
    edges = written(tmp_path, [("a", "b"), ("a", "x")])
    with pytest.raises(ConfigError, match=r"At most 5.0%.*Received: 1 of 2, such as unknown user: a x"):
        friend_tables(edges, str(tmp_path / "work"), listed, max_reject_share=0.05)
    tables = friend_tables(edges, str(tmp_path / "work"), listed, max_reject_share=0.5)
    assert tables.items == listed


def test_weights_of_edges_are_weights_of_choices(tmp_path):
    path = tmp_path / "friends.csv"
    pd.DataFrame({"source": ["a"], "target": ["b"], "calls": [7]}).to_csv(path, index=False)
    tables = friend_tables([Edges(str(path), weight="calls")], str(tmp_path / "work"))
    rows = pd.read_parquet(tables.interactions.path)
    assert tables.interactions.weight == "weight"
    assert rows.set_index(["user_id", "friend_id"])["weight"].to_dict() == {
        ("a", "a"): 1, ("b", "b"): 1, ("a", "b"): 7, ("b", "a"): 7
    }  # fmt: skip
