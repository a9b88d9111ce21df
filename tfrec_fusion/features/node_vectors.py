"""A vector of each item or user from the graph around it: what towers read of `data.graph`.

`z = unit(sum_k unit(A^k X))` over `k = 1 … hops`, with `A` the symmetric-normalised adjacency and `X` random
signs, one row a node (FastRP, Chen et al., 2019, https://arxiv.org/abs/1908.11512). The towers train a linear
map `W` of it. But for the lengths of rows that is LightGCN's propagation (He et al., 2020) of the embeddings
`X W`, trained in a random subspace as wide as `dim`, in which distances are nearly what they were (Johnson
and Lindenstrauss). `k = 0`, the node alone, is the id embedding that the towers train anyway.

The signs of a node come from a hash of its id: they stay when the graph changes, so that a model which was
trained earlier reads the vectors of new nodes too.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.edge_lists import ENTITY, EdgeList, read_edges
from tfrec_fusion.datasets.edges import Graph, NodeKind
from tfrec_fusion.datasets.tables import IdRule

__all__ = ["NodeVectors", "node_vectors", "random_signs"]


@dataclasses.dataclass(frozen=True)
class NodeVectors:
    """Vectors of the items or users that have edges.

    Attributes:
        keys: their ids.
        vectors: float32 `[n, dim]`, of length 1.
        edges: how many were read and used.
        rejects: as in `EdgeList`.
    """

    keys: list[str]
    vectors: np.ndarray
    edges: int
    rejects: list[tuple[str, str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {key: row for row, key in enumerate(self.keys)})

    def of(self, key: str) -> np.ndarray | None:
        """A node's numbers, float32 `[dim]`; None for one without edges."""
        row = self._rows.get(key)  # type: ignore[attr-defined]
        return None if row is None else self.vectors[row]

    def counted(self) -> collections.Counter[str]:
        """How many edges could not be used, by reason."""
        return collections.Counter(reason for reason, _ in self.rejects)


def node_vectors(graph: Graph, kind: NodeKind, known: Iterable[str], rule: IdRule) -> NodeVectors:
    """Reads the edges between items or users, and propagates.

    Args:
        graph: the files.
        kind: which of its edges.
        known: ids of all items or users.
        rule: how ids are written.

    Raises:
        ConfigError: if a file cannot be read or lacks a column, or no edge is left.
    """
    edges = read_edges(graph.of(kind), kind, known, rule)
    if not len(edges):
        seen = collections.Counter(reason for reason, _ in edges.rejects)
        words = ", ".join(f"{count:,} {reason}" for reason, count in seen.items()) or "none at all"
        raise ConfigError(
            f"`data.graph.{kind}` must hold an edge between two {kind} that are known. Received: {words}."
            " Name its columns with `source` and `target`, or leave the graph out."
        )
    vectors = propagated(edges, graph.hops, graph.dim)
    own = np.array([not key.startswith(ENTITY) for key in edges.keys], bool)
    keys = [key for key in edges.keys if not key.startswith(ENTITY)]
    return NodeVectors(keys, vectors[own], len(edges), edges.rejects)


def propagated(edges: EdgeList, hops: int, dim: int) -> np.ndarray:
    """float32 `[nodes, dim]`, of length 1: the formula of this module."""
    # Imported here: who only reads tables needs no TensorFlow.
    import tensorflow as tf

    from tfrec_fusion.layers.propagation import GraphPropagation

    layer = GraphPropagation(
        edges.sources,
        edges.targets,
        len(edges.keys),
        edges.weights,
        hops,
        layer_weights=[0.0, *[1.0 / hops] * hops],
        normalize=True,
        dtype="float32",
    )
    with tf.device("CPU"):
        total = layer(tf.constant(random_signs(edges.keys, dim))).numpy()
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def random_signs(keys: Iterable[str], dim: int) -> np.ndarray:
    """float32 `[n, dim]` of 1 and -1 from a hash of each key; `dim` a multiple of 8.

    Random signs keep distances as Gaussian numbers do (Achlioptas, 2003,
    https://doi.org/10.1016/S0022-0000(03)00025-4).
    """
    bits = hashlib.shake_128
    digests = b"".join(bits(key.encode("utf-8", "replace")).digest(dim // 8) for key in keys)
    signs = np.unpackbits(np.frombuffer(digests, np.uint8)).reshape(-1, dim)
    return 2 * signs.astype(np.float32) - 1
