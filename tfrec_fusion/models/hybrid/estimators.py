"""Closed-form estimators behind a blend: collaborative factors, content factors, popularity. NumPy alone.

Each is made with its settings, learns in `fit`, and then holds arrays that `Blend` keeps as tables.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

LARGEST_LEVERAGE = 0.95
# Users or items up to which the spectrum is exact; beyond, so many vectors and passes more than needed.
EXACT, OVERSAMPLED, ITERATIONS = 1500, 16, 2
# Of the largest squared singular value: below it there is none.
SMALLEST_SQUARE, SMALLEST_VARIANCE = 1e-9, 1e-9


class Spectrum:
    """Leading squared singular values and right singular vectors of who chose what.

    Where users or items are few the smaller Gram matrix is solved exactly; otherwise the vectors come from
    subspace iteration on a random start (Halko et al., 2011, https://doi.org/10.1137/090771806), whose time
    grows with the interactions and with rows and columns times the square of `most`.

    Args:
        most: how many; as many as the rank allows at most.
        seed: of the random start.

    Attributes:
        squares: float64 `[k]`, the largest first.
        vectors: float32 `[items, k]`; zeros where the singular value is 0.
    """

    squares: np.ndarray
    vectors: np.ndarray

    def __init__(self, most: int, seed: int = 0):
        self.most, self.seed = most, seed

    def fit(self, interactions: scipy.sparse.csr_matrix) -> Spectrum:
        """Solves for `[users, items]`."""
        most = max(0, min(self.most, min(interactions.shape) - 1))
        if not most or not interactions.nnz:
            self.squares = np.zeros(0)
            self.vectors = np.zeros((interactions.shape[1], 0), np.float32)
            return self
        solve = _exact if min(interactions.shape) <= EXACT else _iterated
        squares, vectors = solve(interactions, most, self.seed)
        there = squares > SMALLEST_SQUARE * squares[0]
        self.squares = np.where(there, squares, 0)
        self.vectors = np.where(there, vectors, 0).astype(np.float32)
        return self


def _exact(interactions: scipy.sparse.csr_matrix, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    of_users = interactions.shape[0] < interactions.shape[1]
    wide = interactions.astype(np.float64)
    gram = (wide @ wide.T if of_users else wide.T @ wide).toarray()
    squares, vectors = np.linalg.eigh(gram)
    squares, vectors = np.maximum(squares[::-1][:most], 0), vectors[:, ::-1][:, :most]
    if of_users:
        vectors = (wide.T @ vectors) / np.sqrt(np.maximum(squares, SMALLEST_SQUARE))
    return squares, vectors


def _iterated(interactions: scipy.sparse.csr_matrix, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    wide = interactions.astype(np.float32)
    size = min(most + OVERSAMPLED, min(wide.shape))
    start = np.random.default_rng(seed).normal(size=(wide.shape[1], size)).astype(np.float32)
    basis = np.linalg.qr(wide @ start)[0]
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(wide @ np.linalg.qr(wide.T @ basis)[0])[0]
    within = wide.T @ basis
    squares, vectors = np.linalg.eigh((within.T @ within).astype(np.float64))
    squares, vectors = np.maximum(squares[::-1][:most], 0), vectors[:, ::-1][:, :most]
    return squares, (within @ vectors) / np.sqrt(np.maximum(squares, SMALLEST_SQUARE))


class CollaborativeFactors:
    """EASE in the leading singular vectors `V` of who chose what, as `blend` describes it.

    Args:
        dim: singular vectors; those beyond the rank of the interactions are zeros.
        seed: of the solver.

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
        return self.fit_spectrum(Spectrum(self.dim, self.seed).fit(interactions))

    def fit_spectrum(self, spectrum: Spectrum) -> CollaborativeFactors:
        """Takes the leading vectors of a spectrum that was solved for already."""
        squares, vectors = spectrum.squares[: self.dim], spectrum.vectors[:, : self.dim]
        # Half of the vectors count for more than half, half for less.
        gain = squares / (squares + (np.median(squares) if len(squares) else 0.0) + 1e-12)
        missing = self.dim - len(squares)
        self.vectors = np.pad(vectors, [(0, 0), (0, missing)])
        self.gain = np.pad(gain, (0, missing)).astype(np.float32)
        self.leverage = np.minimum(vectors**2 @ gain, LARGEST_LEVERAGE).astype(np.float32)
        return self

    def divisor(self, counts: np.ndarray, damping: float) -> np.ndarray:
        """What the vectors of items are divided by where they are candidates: float32 `[items]`, above
        0.

        Args:
            counts: int64 `[items]`, the interactions of each.
            damping: the power of an item's interactions over their mean that it is divided by, beside one
                minus its leverage; 0 is EASE.
        """
        share = np.maximum(counts, 1) / max(1.0, counts[counts > 0].mean() if counts.any() else 1.0)
        return ((1 - self.leverage) * share**damping).astype(np.float32)


class ContentFactors:
    """Principal components of text vectors, as they are or weighed as a ridge regression weighs them.

    A linear model of what a user chose against all items, from their text, is in closed form
    `w = (C + l)^-1 sum_h t_h`: the sum of a history's texts, each component divided by its variance plus the
    ridge `l`. Half of the division goes to either side, `t_i / sqrt(C + l)`, so that a dot product of two
    items is what one says about the other. What all texts have in common then counts little, and what few
    share counts much.

    Args:
        dim: components.
        ridge: `l` is the variance of the component of this number, from 0; None leaves components as they
            are, which is the limit of a large one.

    Attributes:
        mean: float32 `[text_dim]`.
        axes: float32 `[text_dim, dim]`, the leading one first.
        variances: float64 `[dim]`, of the components.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray

    def __init__(self, dim: int, ridge: int | None = None):
        self.dim, self.ridge = dim, ridge

    def fit(self, text: np.ndarray) -> ContentFactors:
        """Learns from text vectors, float32 `[items, text_dim]`."""
        self.mean = text.mean(0)
        centred = _unit_rows(text - self.mean)
        variances, axes = np.linalg.eigh(centred.T @ centred / len(text))
        self.variances = np.maximum(variances[::-1][: self.dim], 0).astype(np.float64)
        self.axes = axes[:, ::-1][:, : self.dim]
        if self.ridge is not None:
            self.axes = self.axes * self._scale()
        return self

    def narrowed(self, dim: int, ridge: int | None = None) -> ContentFactors:
        """The leading `dim` components alone, of factors that were fitted without a ridge."""
        narrow = ContentFactors(dim, ridge)
        narrow.mean, narrow.axes, narrow.variances = self.mean, self.axes[:, :dim], self.variances
        if ridge is not None:
            narrow.axes = narrow.axes * narrow._scale()[:dim]
        narrow.variances = self.variances[:dim]
        return narrow

    def transform(self, text: np.ndarray) -> np.ndarray:
        """float32 `[n, dim]`, of length 1; zeros for an item without text, `[n, text_dim]` zeros."""
        there = (text != 0).any(1, keepdims=True)
        return _unit_rows(np.where(there, (text - self.mean) @ self.axes, 0))

    def _scale(self) -> np.ndarray:
        # In units of the leading component, so that weights stay as they are for it.
        ridge = self.variances[min(self.ridge or 0, len(self.variances) - 1)] + SMALLEST_VARIANCE
        scale = np.sqrt((self.variances[0] + ridge) / (self.variances + ridge))
        return scale.astype(np.float32)


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


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
