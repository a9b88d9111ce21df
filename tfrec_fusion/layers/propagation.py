"""Propagation of vectors over a graph by sparse matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.input_checks import check_floats

__all__ = ["GraphPropagation", "normalized_adjacency"]


def normalized_adjacency(
    sources: np.ndarray, targets: np.ndarray, num_nodes: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric-normalised adjacency of an undirected graph, `D^-1/2 A D^-1/2` with `D` the sums of the
    rows of `A`.

    Args:
        sources, targets: int `[edges]`, the ends of each edge, which counts both ways; one that stands there
            several times counts as often, and a self loop once.
        num_nodes: rows of the matrix.
        weights: float `[edges]`, above 0; None: all 1.

    Returns:
        int64 `[entries, 2]`, row and column of each entry that is not 0, in order, and float32 `[entries]`.

    Raises:
        ValueError: for an end outside of `[0, num_nodes)`, or a weight that is not above 0.

    Reference: Kipf and Welling, 2017, https://arxiv.org/abs/1609.02907
    """
    ends = np.stack([np.asarray(sources, np.int64), np.asarray(targets, np.int64)], 1)
    values = np.ones(len(ends)) if weights is None else np.asarray(weights, np.float64)
    outside = ends[(ends < 0) | (ends >= num_nodes)]
    if len(outside):
        raise ValueError(
            f"Both ends of an edge must be nodes, from 0 to {num_nodes - 1}. Received: {outside[0]}. Raise"
            " `num_nodes`, or leave the edge out."
        )
    if not (np.isfinite(values) & (values > 0)).all():
        wrong = values[~(np.isfinite(values) & (values > 0))][0]
        raise ValueError(f"`weights` must be above 0. Received: {wrong}. Leave the edge out.")
    turned = ends[:, 0] != ends[:, 1]
    keys = np.concatenate([ends @ [num_nodes, 1], ends[turned] @ [1, num_nodes]])
    entries, where = np.unique(keys, return_inverse=True)
    summed = np.bincount(where, np.concatenate([values, values[turned]]), len(entries))
    rows, columns = np.divmod(entries, num_nodes)
    degrees = np.bincount(rows, summed, num_nodes)
    scaled = summed / np.sqrt(degrees[rows] * degrees[columns])
    return np.stack([rows, columns], 1), scaled.astype(np.float32)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class GraphPropagation(tf_keras.layers.Layer):
    """Each node's vector from those of the nodes around it, as in LightGCN.

    `Z = sum_k a_k A^k X` over `k = 0 … hops`, with `A` the symmetric-normalised adjacency (
    `normalized_adjacency`) and `a_k = 1 / (hops + 1)`. There is nothing to train: what is trained is `X`, or
    what comes after, which is the same since the sum is linear, `(sum_k a_k A^k X) W = sum_k a_k A^k (X W)`
    (Wu et al., 2019, https://arxiv.org/abs/1902.07153). Of a table that no longer changes `Z` is computed
    once and kept in place of the graph.

    Args:
        sources, targets: the ends of each edge, a list of numbers each; see `normalized_adjacency`.
        num_nodes: how many nodes there are.
        edge_weights: of the edges; None: all 1.
        hops: how far a node sees.
        layer_weights: `a_0 … a_hops`; None: all alike.
        normalize: whether each `A^k X` is scaled to rows of length 1 first, so that no hop drowns out the
            others, as in FastRP (Chen et al., 2019, https://arxiv.org/abs/1908.11512). The sum is not linear
            then.

    Reference: He et al., 2020 (LightGCN), https://arxiv.org/abs/2002.02126

    >>> chain = GraphPropagation(sources=[0, 1], targets=[1, 2], num_nodes=3, hops=1)
    >>> chain(tf.eye(3)).numpy().round(3).tolist()
    [[0.5, 0.354, 0.0], [0.354, 0.5, 0.354], [0.0, 0.354, 0.5]]
    """

    def __init__(
        self,
        sources: Sequence[int] | np.ndarray,
        targets: Sequence[int] | np.ndarray,
        num_nodes: int,
        edge_weights: Sequence[float] | np.ndarray | None = None,
        hops: int = 3,
        layer_weights: Sequence[float] | None = None,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hops < 1:
            raise ValueError(f"`hops` must be at least 1. Received: hops={hops}.")
        if layer_weights is not None and len(layer_weights) != hops + 1:
            raise ValueError(
                f"`layer_weights` must hold a number for each of 0 to `hops` ({hops + 1}). Received:"
                f" {list(layer_weights)}."
            )
        self.sources, self.targets = np.asarray(sources, np.int64), np.asarray(targets, np.int64)
        self.num_nodes, self.hops, self.normalize = num_nodes, hops, normalize
        self.edge_weights = None if edge_weights is None else np.asarray(edge_weights, np.float32)
        self.layer_weights = None if layer_weights is None else tuple(map(float, layer_weights))
        self._entries = normalized_adjacency(self.sources, self.targets, num_nodes, self.edge_weights)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Propagates.

        Args:
            inputs: floats `[num_nodes, dim]`, or `[batch, num_nodes, dim]` for several tables.

        Returns:
            The same shape; zeros, where `a_0` is 0, for a node without edges.
        """
        check_floats(type(self).__name__, inputs.dtype, "Look the nodes up in an embedding first.")
        values = tf.cast(inputs, tf.float32)
        if inputs.shape.rank == 3:
            values = tf.reshape(tf.transpose(values, [1, 0, 2]), [self.num_nodes, -1])
        adjacency = tf.SparseTensor(*self._entries, [self.num_nodes, self.num_nodes])
        shares = self.layer_weights or [1.0 / (self.hops + 1)] * (self.hops + 1)
        hop, total = values, tf.zeros_like(values)
        for number, share in enumerate(shares):
            if number:
                hop = tf.sparse.sparse_dense_matmul(adjacency, hop)
            if share:
                total += share * (self._scaled(hop, inputs) if self.normalize else hop)
        if inputs.shape.rank == 3:
            dim = tf.shape(inputs)[2]
            total = tf.transpose(tf.reshape(total, [self.num_nodes, -1, dim]), [1, 0, 2])
        return tf.ensure_shape(tf.cast(total, inputs.dtype), inputs.shape)

    def _scaled(self, hop: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
        """Rows of each table at length 1; of zeros, zeros."""
        tables = tf.reshape(hop, [self.num_nodes, -1, tf.shape(inputs)[-1]])
        return tf.reshape(tf.math.l2_normalize(tables, -1), tf.shape(hop))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sources": self.sources.tolist(),
            "targets": self.targets.tolist(),
            "num_nodes": self.num_nodes,
            "edge_weights": None if self.edge_weights is None else self.edge_weights.tolist(),
            "hops": self.hops,
            "layer_weights": self.layer_weights,
            "normalize": self.normalize,
        }
