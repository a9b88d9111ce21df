"""Closed-form estimators behind a blend: collaborative factors, content factors, popularity. NumPy alone.

Each is made with its settings, learns in `fit`, and then holds arrays that `Blend` keeps as tables.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

LARGEST_LEVERAGE = 0.95


class CollaborativeFactors:
    """EASE in the leading singular vectors `V` of who chose what, as `blend` describes it.

    Args:
        dim: singular vectors; those beyond the rank of the interactions are zeros.
        seed: of the solver's start.

    Attributes:
        vectors: float32 `[items, dim]`, `V`.
        gain: float32 `[dim]`, `g`.
        leverage: float32 `[items]`, `V_i g V_i`.

    Reference: Steck, 2019, https://arxiv.org/abs/1905.03375
    """

    vectors: np.ndarray
    gain: np.ndarray
    leverage: np.ndarray

    def __init__(self, dim: int, seed: int = 0):
        self.dim, self.seed = dim, seed

    def fit(self, interactions: scipy.sparse.csr_matrix) -> CollaborativeFactors:
        """Solves for the vectors.

        Args:
            interactions: `[users, items]`, 1 where a user chose an item.
        """
        items, most = interactions.shape[1], min(self.dim, min(interactions.shape) - 1)
        if most < 1 or not interactions.nnz:
            self.vectors = np.zeros((items, self.dim), np.float32)
            self.gain, self.leverage = np.zeros(self.dim, np.float32), np.zeros(items, np.float32)
            return self
        start = np.random.default_rng(self.seed).normal(size=min(interactions.shape))
        _, values, right = scipy.sparse.linalg.svds(interactions.astype(np.float64), k=most, v0=start)
        order = np.argsort(-values)
        squares, vectors = values[order] ** 2, right[order].T
        # Half of the vectors count for more than half, half for less.
        gain = squares / (squares + np.median(squares) + 1e-12)
        leverage = np.minimum(vectors**2 @ gain, LARGEST_LEVERAGE)
        missing = self.dim - most
        self.vectors = np.pad(vectors, [(0, 0), (0, missing)]).astype(np.float32)
        self.gain = np.pad(gain, (0, missing)).astype(np.float32)
        self.leverage = leverage.astype(np.float32)
        return self


class ContentFactors:
    """Principal components of text vectors.

    Args:
        dim: components.

    Attributes:
        mean: float32 `[text_dim]`.
        axes: float32 `[text_dim, dim]`, the leading one first.
    """

    mean: np.ndarray
    axes: np.ndarray

    def __init__(self, dim: int):
        self.dim = dim

    def fit(self, text: np.ndarray) -> ContentFactors:
        """Learns from text vectors, float32 `[items, text_dim]`."""
        self.mean = text.mean(0)
        _, axes = np.linalg.eigh((text - self.mean).T @ (text - self.mean))
        self.axes = axes[:, ::-1][:, : self.dim]
        return self


class LogPopularity:
    """The logarithm of one plus the interactions of an item, its mean over the items that have any taken off.

    Attributes:
        scores: float32 `[items]`; 0 for an item without interactions.
    """

    scores: np.ndarray

    def fit(self, counts: np.ndarray) -> LogPopularity:
        """Learns from the training interactions an item, int64 `[items]`."""
        logarithms = np.log1p(counts)
        known = np.flatnonzero(counts[1:] > 0) + 1
        self.scores = np.where(counts > 0, logarithms - logarithms[known].mean(), 0).astype(np.float32)
        return self
