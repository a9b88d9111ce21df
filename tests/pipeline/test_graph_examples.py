"""Vectors of a graph in Examples: those that a fit in memory makes, of every user and item that has edges."""

import json

import numpy as np
import pandas as pd
import pytest
from tfx.types import standard_artifacts

from pipeline.components import items_example_gen
from pipeline.components.artifacts import DataReport
from tests.pipeline.test_example_gen import execute, read
from tfrec_fusion.config import SplitConfig
from tfrec_fusion.datasets.edges import Edges, Graph
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.features.preparing import prepare


@pytest.fixture
def tables(tmp_path):
    """Four users, one of whom never chose, and five items, one of which nobody chose and one has no edge."""
    rows = [(f"u{user}", f"i{(user + step) % 3}", 10 * step + user) for user in range(3) for step in range(4)]
    frames = {
        "interactions": pd.DataFrame(rows, columns=["user", "item", "time"]),
        "items": pd.DataFrame({"item": [f"i{number}" for number in range(5)]}),
        "users": pd.DataFrame({"user": [f"u{number}" for number in range(4)]}),
        "friends": pd.DataFrame([("u0", "u1"), ("u3", "u0"), ("u3", "u3")], columns=["source", "target"]),
        "facts": pd.DataFrame(
            [("i0", "by", "x"), ("i3", "by", "x"), ("i1", "by", "i2")], columns=["head", "says", "tail"]
        ),
    }
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    path = {name: str(tmp_path / f"{name}.csv") for name in frames}
    facts = Edges(path["facts"], "head", "tail", "says")
    return Tables(
        Interactions(path["interactions"], "user", "item", "time"),
        Items(path["items"], "item"),
        Users(path["users"], "user"),
        graph=Graph(items=(facts,), users=(Edges(path["friends"]),), hops=2, dim=16),
    )


def by_id(rows, key, name):
    """Each one's vector, zeros where there is none: float32 `[16]`."""
    return {row[key][0]: np.array(row.get(name, [0.0] * 16), np.float32) for row in rows}


def test_examples_hold_the_vectors_that_a_fit_in_memory_makes(tables, tmp_path):
    report, examples = execute(tmp_path, tables, SplitConfig(), share=0.5)
    memory = prepare(tables, SplitConfig(), max_reject_share=0.5)
    items = by_id(examples("items"), "item_id", "item_graph")
    assert [item for item, vector in items.items() if not vector.any()] == ["i4"]
    expected = memory.catalogue.features["item_graph"]
    for row, item in enumerate(memory.catalogue.ids[1:], 1):
        np.testing.assert_allclose(items[item], expected[row], atol=1e-6)
    users = by_id(examples("users"), "user_id", "user_graph")
    assert [user for user, vector in users.items() if not vector.any()] == ["u2"]
    profiles = memory.known.profiles
    for row, user in enumerate(profiles.ids[1:], 1):
        np.testing.assert_allclose(users[user], profiles.features["user_graph"][row], atol=1e-6)
    for row in examples("interactions", "train"):
        vector = np.array(row.get("user_graph", [0.0] * 16), np.float32)
        np.testing.assert_array_equal(vector, users[row["user_id"][0]])
    assert report["tables"]["graph.users"] == {"kept": 2, "read": 3, "rejected": 1}
    assert {"table": "graph.users", "reason": "self loop", "rows": 1} in report["rejected"]
    assert memory.rejects["graph.users", "self loop"] == 1
    # A new item that joins later has a vector too, and what is two hops away from it keeps its own.
    with open(tables.graph.items[0].path, "a") as stream:
        stream.write("i4,by,y\n")
    renewed = by_id(read_items(tables, tmp_path / "later"), "item_id", "item_graph")
    assert renewed.pop("i4").any()
    for item, vector in renewed.items():
        np.testing.assert_allclose(vector, items[item], atol=1e-6)


def read_items(tables, folder):
    """What ItemsExampleGen makes of the items alone, as for an index of new items."""
    outputs = {"items": [standard_artifacts.Examples()], "report": [DataReport()]}
    for name, (artifact,) in outputs.items():
        artifact.uri = str(folder / name)
    settings = {"table": json.dumps(tables.items, default=vars), "item_ids": "as_written"}
    settings |= {"graph": json.dumps(tables.graph, default=vars), "reject_folder": str(folder / "rejected")}
    items_example_gen.Executor().Do({}, outputs, {**settings, "max_reject_share": 0.5})
    return read(folder / "items", "all")
