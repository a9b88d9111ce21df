"""Balanced k-means in bounded memory: cells of similar size for an inverted file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl

from tfrec_fusion.index.vector_files import Vectors

# Distances that a thread holds at once: 8 MB of float32, which stay in the processor's cache.
_NUMBERS_PER_BLOCK = 2**21
_SAMPLES_PER_CELL = 64


def balanced_cells(
    vectors: Vectors, num_cells: int, iterations: int = 10, balance: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Partitions vectors into cells none of which is much larger than the mean.

    Lloyd's k-means on a sample of 64 vectors a cell, then one pass that assigns every vector to its
    nearest centre, then a split in two, along its direction of greatest spread, of each cell above
    `balance` times the mean. Large cells are split rather than capped because a vector pushed into a
    neighbouring cell is a vector that search misses; and no search then reads one huge cell.

    Args:
        vectors: floats `[num_vectors, dim]`, possibly memory-mapped; read in small blocks.
        num_cells: the number of cells before splitting, at least 1.
        iterations: of k-means.
        balance: the largest cell's size as a multiple of the mean, above 1.
        seed: of the sample and the first centres; the same seed gives the same cells.

    Returns:
        Centres, float32 `[cells, dim]`, and the cell of each vector, int32 `[num_vectors]`. Every cell has
        a vector; there may be fewer or more cells than `num_cells`.

    Reference: Lloyd, 1982, https://doi.org/10.1109/TIT.1982.1056489
    """
    random = np.random.default_rng(seed)
    num_cells = min(num_cells, len(vectors))
    size = min(len(vectors), num_cells * _SAMPLES_PER_CELL)
    # Sorted, so that a memory-mapped file is read once from front to back.
    rows = np.sort(random.choice(len(vectors), size, replace=False))
    sample = np.asarray(vectors[rows], np.float32)
    centres = sample[random.choice(size, num_cells, replace=False)]
    for _ in range(iterations):
        cells, distances = nearest(sample, centres)
        centres = _means(sample, cells, centres)
        empty = np.flatnonzero(np.bincount(cells, minlength=num_cells) == 0)
        # An empty cell restarts at the vectors that are served worst.
        worst = np.argpartition(-distances, min(len(empty), size - 1))[: len(empty)]
        centres[empty] = sample[worst]
    cells, _ = nearest(vectors, centres)
    return _split_large(vectors, cells, max(2, int(np.ceil(balance * len(vectors) / num_cells))))


def nearest(vectors: Vectors, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each vector, int32, and the squared Euclidean distance to it, float32."""
    cells = np.empty(len(vectors), np.int32)
    distances = np.empty(len(vectors), np.float32)
    # With a column more the product is x·c - |c|²/2, which is largest where the distance is smallest.
    weights = np.concatenate([centres, -0.5 * np.square(centres).sum(axis=1, keepdims=True)], axis=1).T.copy()
    step = max(1, _NUMBERS_PER_BLOCK // len(centres))

    def assign(start: int) -> None:
        block = np.asarray(vectors[start : start + step], np.float32)
        affinity = np.concatenate([block, np.ones_like(block[:, :1])], axis=1) @ weights
        best = affinity.argmax(axis=1)
        cells[start : start + step] = best
        closeness = np.take_along_axis(affinity, best[:, None], axis=1)[:, 0]
        distances[start : start + step] = np.square(block).sum(axis=1) - 2 * closeness

    # A block a core, since the search for the largest runs on one.
    with threadpoolctl.threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(assign, range(0, len(vectors), step)):
            pass
    return cells, distances


def _means(vectors: np.ndarray, cells: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    order = np.argsort(cells, kind="stable")
    filled, starts = np.unique(cells[order], return_index=True)
    means = fallback.copy()
    counts = np.diff(np.r_[starts, len(cells)])[:, None]
    means[filled] = np.add.reduceat(vectors[order], starts, axis=0) / counts
    return means


def _split_large(vectors: Vectors, cells: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(cells, kind="stable")
    pending = np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)
    centres: list[np.ndarray] = []
    numbered = np.empty(len(vectors), np.int32)
    while pending:
        members = pending.pop()
        content = np.asarray(vectors[members], np.float32)
        centre = content.mean(axis=0)
        if len(members) <= largest:
            numbered[members] = len(centres)
            centres.append(centre)
            continue
        # Equal vectors have no direction; the stable order then splits them by number.
        spread = content - centre
        direction = np.linalg.eigh(spread.T @ spread)[1][:, -1]
        members = members[np.argsort(spread @ direction, kind="stable")]
        pending += [members[: len(members) // 2], members[len(members) // 2 :]]
    return np.stack(centres), numbered
