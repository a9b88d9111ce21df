"""Baselines that a recommender must beat, behind one interface: `fit(interactions)`, then `scores(users)` of
users that were fitted, or `scores_of(interactions)` of users who are known by what they chose.

Interactions are a sparse matrix `[users, items]` with one row per user index and one column per item index (0
included), positive where the user chose the item. Scores of items already chosen are not special; exclude
them when ranking (`metrics.accuracy.rank_scores`).
"""

from __future__ import annotations

import abc
import itertools
from typing import Any

import numpy as np
import scipy.linalg.lapack
import scipy.sparse

COLUMNS = 1024  # of item similarities at once


def interaction_matrix(
    user_index: np.ndarray,
    item_index: np.ndarray,
    num_users: int,
    num_items: int,
    counts: np.ndarray | None = None,
) -> scipy.sparse.csr_matrix:
    """A matrix of which user chose which item.

    Args:
        user_index: integer `[interactions]`.
        item_index: integer `[interactions]`.
        num_users: rows, index 0 included.
        num_items: columns, index 0 included.
        counts: float `[interactions]`, how much each counts (`losses.confidence`); 1 where None.

    Returns:
        float32 `[num_users, num_items]`, 1 where the user chose the item once or more; with `counts` the most
        that one of these interactions counts.
    """
    shape = (num_users, num_items)
    if counts is None:
        ones = np.ones(len(user_index), np.float32)
        matrix = scipy.sparse.csr_matrix((ones, (user_index, item_index)), shape=shape)
        matrix.data[:] = 1
        return matrix
    # Sparse matrices add up entries of one cell: of each pair the greatest is kept, which sorts last.
    order = np.lexsort((counts, item_index, user_index))
    user_index, item_index, counts = user_index[order], item_index[order], counts[order]
    last = np.append((np.diff(user_index) != 0) | (np.diff(item_index) != 0), True)[: len(counts)]
    entries = counts[last].astype(np.float32), (user_index[last], item_index[last])
    return scipy.sparse.csr_matrix(entries, shape=shape)


class Baseline(abc.ABC):
    """A recommender that is fitted in one go."""

    interactions: scipy.sparse.csr_matrix

    def fit(self, interactions: scipy.sparse.spmatrix) -> Baseline:
        """Learns from which user chose which item.

        Args:
            interactions: `[users, items]`, positive where the user chose the item.

        Returns:
            Itself.

        Raises:
            ValueError: if there is no interaction.
        """
        self.interactions = scipy.sparse.csr_matrix(interactions, dtype=np.float32)
        if not self.interactions.nnz:
            raise ValueError(
                "`interactions` must hold at least one. Received: an empty matrix. Check the split."
            )
        self._fit(self.interactions)
        return self

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores every item.

        Args:
            users: integer `[batch]`, rows of the interactions.

        Returns:
            float32 `[batch, items]`, higher is better.

        Raises:
            ValueError: before `fit`.
        """
        self._check_fitted()
        return np.asarray(self._scores(np.asarray(users)), np.float32)

    def scores_of(self, interactions: scipy.sparse.spmatrix) -> np.ndarray:
        """Scores every item for users, new or with more choices than were fitted.

        Args:
            interactions: `[batch, items]`, as in `fit`: all that is known of each user.

        Returns:
            float32 `[batch, items]`, higher is better.

        Raises:
            ValueError: before `fit`, or by a model that knows users by their rows alone (`BPR`).
        """
        self._check_fitted()
        return np.asarray(
            self._scores_of(scipy.sparse.csr_matrix(interactions, dtype=np.float32)), np.float32
        )

    def _check_fitted(self) -> None:
        if not hasattr(self, "interactions"):
            raise ValueError(
                f"{type(self).__name__} must be fitted first. Received: no interactions. Call `fit`."
            )

    @abc.abstractmethod
    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None: ...

    def _scores(self, users: np.ndarray) -> np.ndarray:
        return self._scores_of(self.interactions[users])

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        raise ValueError(
            f"{type(self).__name__} knows users by their rows in what it was fitted to. Received: other"
            " users. Ask `scores`, or fit it with them."
        )


class Popularity(Baseline):
    """The same list for everybody: how many chose the item."""

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        self.counts = np.asarray(interactions.sum(0))[0]

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        return np.tile(self.counts, (interactions.shape[0], 1))


class ItemKNN(Baseline):
    """Items like those the user chose, by the cosine of who chose them.

    `score_ui = sum_{j in user} sim(i, j)` over each item's `k` most similar,
    `sim = |i and j| / (|i|^1/2 |j|^1/2 + shrink)`.

    Args:
        k: neighbours kept per item.
        shrink: draws similarities that rest on few users to zero.

    Reference: Sarwar et al., 2001, https://doi.org/10.1145/371920.372071
    """

    def __init__(self, k: int = 100, shrink: float = 10.0):
        self.k, self.shrink = k, shrink

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        self.similarity = _nearest(interactions, self.k, self.shrink)

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        return (interactions @ self.similarity).toarray()


class EASE(Baseline):
    """A linear model from the items seen to all items, in closed form.

    `B = I - P diag(1 / diag P)` with `P = (X^T X + l2 I)^-1`; `score = x B`. Needs a dense `[items, items]`
    matrix.

    Args:
        l2: of the ridge regression.

    Reference: Steck, 2019, https://arxiv.org/abs/1905.03375
    """

    def __init__(self, l2: float = 300.0):
        self.l2 = l2

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        gram = (interactions.T @ interactions).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.l2
        # Half the work of a general inverse, and no second matrix beside it.
        factor, _ = scipy.linalg.lapack.dpotrf(gram.T, lower=1, overwrite_a=1)
        inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        self.weights = (-inverse / np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(self.weights, 0)

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        return interactions @ self.weights


class _Implicit(Baseline):
    """A model of the library `implicit` (extra `baselines`)."""

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        try:
            import implicit.als
            import implicit.bpr
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs the package `implicit`. Install `tfrec-fusion[baselines]`."
            ) from error
        model = self._model(implicit)
        model.fit(interactions, show_progress=False)
        self.user_factors = np.asarray(model.user_factors)
        self.item_factors = np.asarray(model.item_factors)

    @abc.abstractmethod
    def _model(self, implicit: Any) -> Any: ...

    def _scores(self, users: np.ndarray) -> np.ndarray:
        return self.user_factors[users] @ self.item_factors.T


class ALS(_Implicit):
    """Weighted matrix factorisation by alternating least squares.

    Args:
        dim: of the factors.
        regularization: of the factors.
        alpha: weight of an interaction against what was not seen, times what the interaction counts:
            `c = alpha x`.
        iterations: sweeps.
        seed: of the start.

    Attributes:
        user_factors: float32 `[users, dim]`.
        item_factors: float32 `[items, dim]`, which may initialise id embeddings.

    Reference: Hu et al., 2008, https://doi.org/10.1109/ICDM.2008.22
    """

    def __init__(
        self,
        dim: int = 64,
        regularization: float = 0.1,
        alpha: float = 10.0,
        iterations: int = 15,
        seed: int = 0,
    ):
        self.dim, self.regularization, self.alpha = dim, regularization, alpha
        self.iterations, self.seed = iterations, seed

    def _model(self, implicit: Any) -> Any:
        return implicit.als.AlternatingLeastSquares(
            factors=self.dim,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
            random_state=self.seed,
            use_gpu=False,
        )

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        return self.factors_of(interactions) @ self.item_factors.T

    def factors_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        """Factors of users from what they chose, by ALS's own step for a user, `u = (Y'Y + r I + sum_h (c_h -
        1) y_h y_h')^-1 sum_h c_h y_h`.

        Args:
            interactions: float32 `[batch, items]`, as in `fit`.

        Returns:
            float64 `[batch, dim]`, zeros of users without choices.
        """
        items = np.asarray(self.item_factors, np.float64)
        gram = items.T @ items + self.regularization * np.eye(items.shape[1])
        users = np.zeros((interactions.shape[0], items.shape[1]))
        for row, (start, end) in enumerate(itertools.pairwise(interactions.indptr)):
            if end > start:
                own, counts = (
                    items[interactions.indices[start:end]],
                    self.alpha * interactions.data[start:end],
                )
                weighed = gram + (own.T * (counts - 1)) @ own
                users[row] = np.linalg.solve(weighed, counts @ own)
        return users


class BPR(_Implicit):
    """Matrix factorisation that learns to rank what was chosen before what was not.

    Args:
        dim: of the factors.
        learning_rate: of stochastic gradient descent.
        regularization: of the factors.
        iterations: passes over the interactions.
        seed: of start and sampling.

    Attributes:
        user_factors, item_factors: float32 `[users, dim + 1]`, `[items, dim + 1]`; the last column is the
            item's bias.

    Reference: Rendle et al., 2009, https://arxiv.org/abs/1205.2618
    """

    def __init__(
        self,
        dim: int = 64,
        learning_rate: float = 0.01,
        regularization: float = 0.01,
        iterations: int = 100,
        seed: int = 0,
    ):
        self.dim, self.learning_rate, self.regularization = dim, learning_rate, regularization
        self.iterations, self.seed = iterations, seed

    def _model(self, implicit: Any) -> Any:
        # One thread: several race for the same rows, and the same seed would give another model each time.
        return implicit.bpr.BayesianPersonalizedRanking(
            factors=self.dim,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            iterations=self.iterations,
            random_state=self.seed,
            num_threads=1,
            use_gpu=False,
        )


class ContentKNN(Baseline):
    """Items that say about themselves what the user's items say: the cosine to the mean of the items seen.

    Args:
        vectors: float `[items, dim]`, text vectors for example; row 0 stands for no item.
    """

    def __init__(self, vectors: np.ndarray):
        vectors = vectors.astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)

    def _fit(self, interactions: scipy.sparse.csr_matrix) -> None:
        if interactions.shape[1] != len(self.vectors):
            raise ValueError(
                f"`vectors` must have one row per item ({interactions.shape[1]}). Received:"
                f" {len(self.vectors)} rows. Build both from the same items."
            )

    def _scores_of(self, interactions: scipy.sparse.csr_matrix) -> np.ndarray:
        return (interactions @ self.vectors) @ self.vectors.T


def _nearest(interactions: scipy.sparse.csr_matrix, k: int, shrink: float) -> scipy.sparse.csr_matrix:
    """Each column's `k` highest similarities, the diagonal left out; a block of columns at a time."""
    size = interactions.shape[1]
    norms = np.sqrt(np.asarray(interactions.multiply(interactions).sum(0))[0]).astype(np.float32)
    k, parts = min(k, size - 1), []
    for start in range(0, size, COLUMNS):
        block = np.arange(start, min(start + COLUMNS, size))
        similarity = (interactions.T @ interactions[:, block]).toarray().astype(np.float32)
        similarity /= np.outer(norms, norms[block]) + shrink + 1e-9
        similarity[block, np.arange(len(block))] = 0
        rows = np.argpartition(-similarity, k, axis=0)[:k] if k else np.zeros((0, len(block)), np.int64)
        values = np.take_along_axis(similarity, rows, 0)
        columns = np.tile(np.arange(len(block)), (k, 1))
        entries = values.ravel(), (rows.ravel(), columns.ravel())
        parts.append(scipy.sparse.csc_matrix(entries, shape=(size, len(block))))
    return scipy.sparse.hstack(parts).tocsr()
