"""Graphs and friends in a YAML file: paths, tables, findings of `tfrec validate`, and what cannot be used."""

import pathlib

import pandas as pd
import pytest

from pipeline.config.pipeline_config import load_config, tables_of
from pipeline.onboarding.graph_checks import check_graph
from pipeline.runner.forgetting import forget
from tfrec_fusion.config import ConfigError


def written(folder: pathlib.Path, data: str, **edges) -> str:
    for name, rows in edges.items():
        pd.DataFrame(rows, columns=["source", "target"]).to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "x"], "timestamp": [1, 2, 3]}).to_csv(
        folder / "choices.csv", index=False
    )
    pd.DataFrame({"item_id": ["x", "y"]}).to_csv(folder / "items.csv", index=False)
    path = folder / "c.yaml"
    path.write_text(f"name: shop\nroot: {folder}/runs\ntext: none\ndata:\n{data}")
    return str(path)


TABLES = "  interactions: {path: choices.csv}\n  items: {path: items.csv}\n"


def findings(path):
    config = load_config(path)
    return [(found.state, found.about, found.seen) for found in check_graph(tables_of(config), config)]


def test_paths_start_at_the_file_and_validate_counts_edges(tmp_path):
    data = TABLES + "  graph: {users: [{path: friends.csv}], items: [{path: cites.csv}]}\n"
    path = written(tmp_path, data, friends=[("a", "b"), ("b", "a")], cites=[("x", "y"), ("x", "z")])
    graph = tables_of(load_config(path)).graph
    assert graph.users[0].path == str(tmp_path / "friends.csv")
    wrong, fine = findings(path)
    assert wrong[:2] == ("wrong", "graph.items")
    assert "1 of 2 edges cannot be used (1 unknown item, such as x z ('z' is not known))" in wrong[2]
    assert fine == ("ok", "graph.users", "1 edges; 2 of 3 users have any")
    gone = written(tmp_path, data.replace("cites", "gone"))
    assert findings(gone)[0][0] == "wrong"


def test_edges_that_name_a_user_are_named_where_the_user_is_forgotten(tmp_path):
    data = "  graph: {users: [{path: friends.csv}]}\n"
    path = written(tmp_path, TABLES + data, friends=[("a", "b"), ("c", "a")])
    rows = {pathlib.Path(file).name: count for file, count in forget(load_config(path), "a").sources.items()}
    assert rows == {"choices.csv": 1, "friends.csv": 2}
    friends = written(tmp_path, "  reader: friends\n" + data, friends=[("a", "b"), ("c", "a")])
    assert list(forget(load_config(friends), "a").sources.values()) == [2]


def test_friends_become_interactions_of_users_with_users(tmp_path):
    data = "  reader: friends\n  graph: {users: [{path: friends.csv}]}\n"
    path = written(tmp_path, data, friends=[("a", "b"), ("b", "c")])
    tables = tables_of(load_config(path))
    assert tables.graph is None  # what is asked for must not be among the features
    rows = pd.read_parquet(tables.interactions.path).query("user_id != friend_id")
    assert set(zip(rows["user_id"], rows["friend_id"], strict=True)) == {
        ("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("  reader: friends\n", "reads the edges of `data.graph.users`.*Received: graph=None"),
        (TABLES + "  reader: friends\n  graph: {users: [{path: f.csv}]}\n", "leave `data.interactions` out"),
        (
            "  reader: friends\n  graph: {users: [{path: f.csv}], items: [{path: i.csv}]}\n",
            "no items beside users. Received: `data.graph.items`, of 'i.csv'",
        ),
        (TABLES + "  graph: {}\n", "must name edges of `items` or of `users`"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, data, message):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, data))
