"""Propagation over a graph, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import check_layer
from tfrec_fusion.layers.propagation import GraphPropagation, normalized_adjacency

EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


def adjacency(edges, weights, nodes=6):
    """`D^-1/2 A D^-1/2` in SciPy."""
    total = scipy.sparse.lil_matrix((nodes, nodes))
    for (one, other), weight in zip(edges, weights, strict=True):
        total[one, other] += weight
        if one != other:
            total[other, one] += weight
    degrees = np.asarray(total.sum(1)).ravel()
    scale = scipy.sparse.diags(np.divide(1, np.sqrt(degrees), out=np.zeros(nodes), where=degrees > 0))
    return scale @ total.tocsr() @ scale


@settings(deadline=None, max_examples=30)
@given(EDGES, st.integers(1, 4), st.booleans(), st.integers(0, 2**31))
def test_a_layer_is_the_weighted_sum_of_powers_of_the_adjacency(edges, hops, normalize, seed):
    rng = np.random.default_rng(seed)
    weights, shares = rng.uniform(0.5, 2, len(edges)), rng.uniform(0, 1, hops + 1)
    inputs = rng.normal(size=(6, 3)).astype(np.float32)
    matrix, hop, expected = adjacency(edges, weights), inputs.astype(np.float64), 0
    for share in shares:
        length = np.linalg.norm(hop, axis=1, keepdims=True)
        unit = np.divide(hop, length, out=np.zeros_like(hop), where=length > 1e-5)
        expected = expected + share * (unit if normalize else hop)
        hop = matrix @ hop
    layer = GraphPropagation(*zip(*edges, strict=True), 6, weights, hops, shares, normalize)
    np.testing.assert_allclose(layer(inputs), expected, atol=2e-5)


def test_check_layer():
    rng = np.random.default_rng(0)
    edges = {"sources": np.array([0, 1, 2]), "targets": np.array([1, 2, 3])}
    kwargs = {**edges, "num_nodes": 5, "edge_weights": np.array([1.0, 2.0, 1.0], np.float32), "hops": 2}
    inputs = rng.normal(size=(2, 5, 3)).astype(np.float32)
    # TensorFlow has no XLA kernel of a sparse matrix product.
    layer = check_layer(GraphPropagation, kwargs, inputs, (2, 5, 3), xla=False)
    np.testing.assert_allclose(layer(inputs)[1], layer(inputs[1]), rtol=1e-5)


def test_propagated_embeddings_are_trained_as_a_map_of_propagated_features():
    """`(sum_k a_k A^k X) W = sum_k a_k A^k (X W)`: why vectors may be propagated once, before training."""
    rng = np.random.default_rng(1)
    layer = GraphPropagation([0, 1, 1, 3], [1, 2, 3, 4], 6)
    x, w = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((6, 8), (8, 2)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(w)
        before, after = layer(x) @ w, layer(x @ w)
    np.testing.assert_allclose(before, after, atol=1e-5)
    np.testing.assert_allclose(tape.gradient(before, w), tape.gradient(after, w), atol=1e-4)


def test_nodes_without_edges_see_themselves_alone():
    layer = GraphPropagation([0], [1], 3, hops=1)
    np.testing.assert_allclose(layer(tf.eye(3)), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0.5]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": [7]}, r"from 0 to 2. Received: 7. Raise `num_nodes`"),
        ({"edge_weights": [0.0]}, r"`weights` must be above 0. Received: 0.0"),
        ({"edge_weights": [float("nan")]}, r"`weights` must be above 0. Received: nan"),
        ({"hops": 0}, r"`hops` must be at least 1. Received: hops=0"),
        ({"layer_weights": [1.0]}, r"for each of 0 to `hops` \(4\). Received: \[1.0\]"),
    ],
)
def test_arguments_that_cannot_be_used(given, message):
    with pytest.raises(ValueError, match=message):
        GraphPropagation(**{"sources": [0], "targets": [1], "num_nodes": 3, **given})


def test_ids_are_no_vectors():
    with pytest.raises(ValueError, match="needs floats. Received: int32. Look the nodes up"):
        GraphPropagation([0], [1], 2)(tf.constant([[1], [2]]))


def test_an_edge_that_stands_twice_counts_twice():
    entries, values = normalized_adjacency([0, 0, 1], [1, 1, 2], 3)
    assert entries.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    np.testing.assert_allclose(values, [2 / 6**0.5, 2 / 6**0.5, 1 / 3**0.5, 1 / 3**0.5], rtol=1e-6)
