"""Edges as they are read, and the vectors of their nodes, worked out by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from tfrec_fusion.config import ConfigError, from_dict
from tfrec_fusion.datasets.edge_lists import ENTITY, read_edges
from tfrec_fusion.datasets.edges import Edges, Graph
from tfrec_fusion.features.node_vectors import node_vectors, random_signs

KNOWN = ["a", "b", "c", "d"]


def written(folder, rows, columns=("source", "target"), **settings):
    path = folder / f"edges{len(list(folder.iterdir()))}.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return Edges(str(path), **settings)


def named(edges):
    """Each edge by its ends' keys, with its weight."""
    return {
        (edges.keys[one], edges.keys[other]): weight
        for one, other, weight in zip(edges.sources, edges.targets, edges.weights.tolist(), strict=True)
    }


def test_edges_that_cannot_be_used_are_rejected_by_reason(tmp_path):
    rows = [("a", "b"), ("b", "a"), ("a", "b"), ("c", "c"), ("a", "x"), (None, "b"), (" c ", "d")]
    edges = read_edges([written(tmp_path, rows)], "users", KNOWN, "as_written")
    assert named(edges) == {("a", "b"): 1.0, ("c", "d"): 1.0}
    assert [reason for reason, _ in edges.rejects] == ["missing id", "unknown user", "self loop", "duplicate"]
    assert edges.rejects[1][1] == "a x ('x' is not known)"


def test_triples_have_further_entities_and_relations_their_weights(tmp_path):
    rows = [
        ("a", "by", "Lem"),
        ("b", "by", "Lem"),
        ("a", "in", "c"),
        ("Lem", "born", "Lwow"),
        ("d", "odd", "x"),
    ]
    triples = written(tmp_path, rows, ("head", "says", "tail"), source="head", target="tail", relation="says",
                      relations={"by": 2, "in": 1, "born": 0})  # fmt: skip
    edges = read_edges([triples], "items", KNOWN, "as_written")
    lem = f"{ENTITY}Lem"
    assert named(edges) == {("a", lem): 2.0, ("b", lem): 2.0, ("a", "c"): 1.0}
    assert edges.rejects == [("unknown relation", "d odd x")]  # `born` counts 0, and is left out on purpose
    vectors = node_vectors(Graph(items=(triples,), dim=16), "items", KNOWN, "as_written")
    assert vectors.keys == ["a", "b", "c"]
    assert vectors.of("d") is None


def test_weights_count_and_several_relations_of_a_pair_add_up(tmp_path):
    columns = ("source", "says", "target", "strength")
    rows = [
        ("a", "x", "b", 2.0),
        ("b", "x", "a", 3.0),
        ("a", "y", "b", None),
        ("a", "x", "c", 0),
        ("a", "x", "d", "?"),
    ]
    table = written(tmp_path, rows, columns, relation="says", weight="strength", entities=False)
    edges = read_edges([table], "items", KNOWN, "as_written")
    assert edges.weights.tolist() == [3.0, 1.0]
    assert [reason for reason, _ in edges.rejects] == ["weight not above 0"] * 2


def test_vectors_are_unit_sums_of_unit_hops_in_scipy(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"n{number}" for number in range(30)]
    rows = {tuple(sorted(map(str, rng.choice(ids, 2, False)))) for _ in range(60)}
    graph = Graph(users=(written(tmp_path, sorted(rows)),), hops=3, dim=64)
    found = node_vectors(graph, "users", ids, "as_written")
    place = {key: number for number, key in enumerate(found.keys)}
    ends = np.array([(place[one], place[other]) for one, other in rows])
    matrix = scipy.sparse.coo_matrix((np.ones(len(rows)), ends.T), shape=(len(place),) * 2).tocsr()
    matrix = matrix + matrix.T
    scale = scipy.sparse.diags(1 / np.sqrt(np.asarray(matrix.sum(1)).ravel()))
    hop, total = random_signs(found.keys, 64), 0
    for _ in range(3):
        hop = scale @ matrix @ scale @ hop
        total = total + hop / np.linalg.norm(hop, axis=1, keepdims=True)
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.vectors.dtype == np.float32


def test_vectors_keep_their_meaning_when_the_graph_grows(tmp_path):
    chain = [(f"n{number}", f"n{number + 1}") for number in range(9)]
    ids = [f"n{number}" for number in range(11)]
    before = node_vectors(Graph(users=(written(tmp_path, chain),)), "users", ids, "as_written")
    grown = Graph(users=(written(tmp_path, [*chain, ("n9", "n10")]),))
    now = node_vectors(grown, "users", [*reversed(ids)], "as_written")
    np.testing.assert_allclose(now.of("n2"), before.of("n2"), atol=1e-6)  # more than three hops away
    assert now.of("n10") @ before.of("n9") > 0.5


def test_signs_are_as_many_and_as_random_as_they_should_be():
    signs = random_signs([f"n{number}" for number in range(400)], 256)
    assert signs.shape == (400, 256)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    likeness = signs @ signs.T / 256
    assert np.abs(likeness[~np.eye(400, dtype=bool)]).max() < 0.4
    assert abs(signs.mean()) < 0.02


def test_a_graph_without_an_edge_that_can_be_used_is_an_error(tmp_path):
    graph = Graph(users=(written(tmp_path, [("x", "y"), ("a", "a")]),))
    with pytest.raises(
        ConfigError, match="between two users that are known. Received: 1 unknown user, 1 self loop"
    ):
        node_vectors(graph, "users", KNOWN, "as_written")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="gone"):
        read_edges([Edges(str(tmp_path / "gone.csv"))], "users", KNOWN, "as_written")
    with pytest.raises(ConfigError, match="'freind'"):
        read_edges([written(tmp_path, [("a", "b")], target="freind")], "users", KNOWN, "as_written")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ConfigError, match=r"graph\.users"):
        read_edges([Edges(str(tmp_path / "broken.parquet"))], "users", KNOWN, "as_written")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must name edges of `items` or of `users`. Received: neither"),
        ({"users": [{"path": "f.csv"}], "dim": 60}, "multiple of 8. Received: 60. Take 64"),
        ({"users": [{"path": "f.csv"}], "hops": 0}, "`hops` must be at least 1"),
        (
            {"users": [{"path": "f.csv", "relation": "kind"}]},
            "between users alone. Received: `relation` 'kind'",
        ),
        ({"users": {"path": "f.csv"}}, "`users` must be a list"),
        (
            {"items": [{"path": "f.csv", "source": "id", "target": "id"}]},
            "two columns. Received: .* both 'id'",
        ),
        ({"items": [{"path": "f.csv", "relations": {"a": 1}}]}, "`relations` needs `relation`"),
        (
            {"items": [{"path": "f.csv", "relation": "r", "relations": {"a": 0}}]},
            "at least one relation above 0",
        ),
        ({"items": [{"path": "f.csv", "relation": "r", "relations": {"a": -1}}]}, "at least 0"),
        ({"items": [{"source": "a"}]}, "path` is missing"),
    ],
)
def test_settings_that_cannot_be_used(given, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Graph, given)
