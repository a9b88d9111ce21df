"""Vectors of `data.graph` on their way into Examples: propagated once, kept in a file that workers read."""

import functools
import io
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from tfrec_fusion.datasets.edge_lists import known_ids
from tfrec_fusion.datasets.edges import NodeKind
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.columns import graph_feature
from tfrec_fusion.features.node_vectors import node_vectors


class VectorFile:
    """Vectors of items or users in a file.

    Args:
        path: of the file.
        name: the feature.
        used: how many edges were.
        rejects: (table, reason, row) of those that could not be used.
    """

    def __init__(self, path: str, name: str, used: int, rejects: list[tuple[str, str, str]]):
        self.path, self.name, self.used, self.rejects = path, name, used, rejects

    def __getstate__(self) -> dict[str, Any]:  # workers have no use for what was rejected
        return {"path": self.path, "name": self.name, "used": self.used, "rejects": []}

    def of(self, key: str) -> dict[str, list[float]]:
        """The feature of one item or user; empty for one without edges."""
        rows, vectors = read_archive(self.path)
        row = rows.get(key)
        return {} if row is None else {self.name: vectors[row].tolist()}


@functools.lru_cache(maxsize=8)
def read_archive(path: str) -> tuple[dict[str, int], np.ndarray]:
    """Row of each key, and vectors, of a file of `keys` and `vectors`."""
    with tf.io.gfile.GFile(path, "rb") as stream:
        content = io.BytesIO(stream.read())
    with np.load(content, allow_pickle=False) as archive:
        keys, vectors = archive["keys"], archive["vectors"]
    return {key.decode("utf-8", "surrogateescape"): row for row, key in enumerate(keys.tolist())}, vectors


def write_vectors(tables: Tables, kind: NodeKind, folder: str) -> VectorFile | None:
    """Propagates over the edges between items or users, and writes a file; None without such edges.

    Raises:
        ConfigError: if a file cannot be read or lacks a column, or no edge is left.
    """
    name = graph_feature(tables, kind)
    if tables.graph is None or name is None:
        return None
    rule = tables.item_ids if kind == "items" else tables.user_ids
    nodes = node_vectors(tables.graph, kind, known_ids(tables, kind), rule)
    path = f"{folder}/graph_{kind}.npz"
    keys = np.array([key.encode("utf-8", "surrogateescape") for key in nodes.keys])
    archive = io.BytesIO()  # a file of TensorFlow's cannot be written and read at once
    np.savez(archive, keys=keys, vectors=nodes.vectors)
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(archive.getvalue())
    table = f"graph.{kind}"
    rejects = [
        (table, reason, json.dumps({"edge": edge}, ensure_ascii=False)) for reason, edge in nodes.rejects
    ]
    return VectorFile(path, name, nodes.edges, rejects)


class AddVectors(beam.DoFn):
    """(id, row) → the same with its vector."""

    def __init__(self, vectors: VectorFile):
        self.vectors = vectors

    def process(self, entry: tuple[str, dict]) -> Iterator[tuple[str, dict]]:
        key, row = entry
        yield key, {**row, **self.vectors.of(key)}
