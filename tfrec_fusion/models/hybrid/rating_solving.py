"""Matrix factorization of ratings solved by variational Bayes, in NumPy: no model, no graph.

A rating is taken for `mean + b_u + b_i + p_u q_i` and normal noise; factors and biases have normal priors
whose variances are estimated too. Each side's posterior given the other's is a normal distribution in closed
form, and the two take turns (Lim and Teh, 2007, Variational Bayesian Approach to Movie Rating Prediction).
Unlike in alternating least squares a posterior counts with its uncertainty, so that who has few ratings stays
near the prior, factors that explain nothing vanish, and nothing needs to be tuned.

The priors' means are what ridge regressions predict: of an item from what is known of it, so that text and
categories speak for one with few ratings or none; of a user from their features and from what is known of
that which they rated, whatever they thought of it (as in SVD++: Koren, 2008, doi:10.1145/1401890.1401944).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

# Users at once: sets the memory, `CHUNK * (dim + 2)^2` numbers of 8 bytes a few times over; items are solved
# all at once.
CHUNK = 16_384
# What is known of items, in so many numbers, where it is averaged over what a user rated.
AVERAGED = 32
SIDE_RIDGE = 30.0
DAMPING = 5.0
# A turn that changes the noise's variance by a smaller share is the last.
TOLERANCE = 3e-4


class VariationalFactors:
    """Factors and biases of users and items.

    Args:
        dim: factors.
        turns: at most.
        seed: of the singular vectors' start.

    Attributes:
        mean: of all ratings.
        users: float32 `[num_users, dim + 1]`, posterior means, the bias in the last column.
        items: float32 `[num_items, dim + 1]`, the same.
        predictor: float32 `[side + 1, dim + 1]`: an item's prior mean from `[what is known of it, 1]`.
    """

    mean: float
    users: np.ndarray
    items: np.ndarray
    predictor: np.ndarray

    def __init__(self, dim: int, turns: int = 40, seed: int = 0):
        self.dim, self.turns, self.seed = dim, turns, seed

    def fit(
        self, ratings: scipy.sparse.csr_matrix, item_side: np.ndarray, user_side: scipy.sparse.csr_matrix
    ) -> VariationalFactors:
        """Solves; without any rating all is zeros.

        Args:
            ratings: `[num_users, num_items]`; a stored 0 is a rating of 0. Row 0 is for users who are not
                known: zeros.
            item_side: float `[num_items, any]`, what is known of items; no columns for nothing.
            user_side: `[num_users, any]`, features of users.
        """
        num_users, num_items = ratings.shape
        size = self.dim + 1
        about_items = _Regression(scipy.sparse.csr_matrix((num_items, 0)), item_side)
        if not ratings.nnz:
            shapes = ((num_users, size), (num_items, size), (about_items.width, size))
            self.mean = 0.0
            self.users, self.items, self.predictor = (np.zeros(shape, np.float32) for shape in shapes)
            return self
        values = ratings.astype(np.float64)
        mean = float(values.data.mean())
        # In units of their deviation, so that it makes no difference whether a scale ends at 5 or at 100.
        scale = float(values.data.std()) or 1.0
        values.data = (values.data - mean) / scale
        ones = values.copy()
        ones.data[:] = 1.0
        about_users = _Regression(user_side, _averaged(ones, item_side))
        items = _Posterior(
            _singular_start(values, ones, self.dim, self.seed),
            np.tile(0.01 * np.eye(size), (num_items, 1, 1)),
        )
        users, noise = np.zeros((num_users, size)), 1.0
        prior_users, prior_items = np.zeros_like(users), np.zeros((num_items, size))
        precision_users = precision_items = np.append(np.full(self.dim, float(self.dim)), 5.0)
        for _ in range(self.turns):
            squares, products, error, spread = _users_turn(
                values, ones, items, users, prior_users, precision_users, noise
            )
            items = _solved(squares, products, noise, precision_items, prior_items)
            before, noise = noise, max(error / values.nnz, 1e-6)
            # The items' factors keep their scale: were both free, one could shrink as the other grows.
            bias = num_items / items.spread(prior_items)[-1]
            precision_items = np.append(precision_items[:-1], bias)
            precision_users = num_users / spread
            predictor = about_items.fit(items.mean)
            prior_items, prior_users = about_items(predictor), about_users(about_users.fit(users))
            if abs(before - noise) < TOLERANCE * before:
                break
        users[0] = 0.0
        never = np.asarray(ones.sum(0))[0] == 0
        items.mean[never] = prior_items[never]
        for values_of in (items.mean, predictor):
            values_of[:, -1] *= scale
        users *= scale
        self.mean = mean
        self.users, self.items = users.astype(np.float32), items.mean.astype(np.float32)
        self.predictor = predictor.astype(np.float32)
        return self

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32 `[n]`: ratings by users, integer `[n]`, of items, integer `[n]`."""
        left, right = self.users[users], self.items[items]
        return self.mean + left[:, -1] + right[:, -1] + np.sum(left[:, :-1] * right[:, :-1], 1)


def _users_turn(
    values: scipy.sparse.csr_matrix,
    ones: scipy.sparse.csr_matrix,
    items: _Posterior,
    users: np.ndarray,
    prior: np.ndarray,
    precision: np.ndarray,
    noise: float,
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Solves for all users given the items, chunk by chunk, and gathers what the items' turn needs.

    Args:
        values, ones: `[num_users, num_items]`, the ratings, and 1 where there is one.
        items: the other side.
        users: float64 `[num_users, d + 1]`, which receives the means.
        prior: float64 `[num_users, d + 1]`, means of the users' prior.
        precision: float64 `[d + 1]`, of the prior.
        noise: variance of a rating.

    Returns:
        The users' second moments `[num_items, d + 2, d + 2]` and ratings times their means
        `[num_items, d + 1]`, summed over who rated each item; the summed squared error; and the users'
        expected squares around their priors, `[d + 1]`.
    """
    num_users, num_items = values.shape
    size = len(precision)
    # [factors, 1, bias] of one side meets [factors, bias, 1] of the other.
    order = np.append(np.arange(size - 1), [size, size - 1])
    moments, design = items.moments(), items.design()
    squares, products = np.zeros((num_items, (size + 1) ** 2)), np.zeros((num_items, size))
    error, spread = float(values.data @ values.data), np.zeros(size)
    for start in range(0, num_users, CHUNK):
        rows = slice(start, start + CHUNK)
        summed = (ones[rows] @ moments).reshape(-1, size + 1, size + 1)
        weighed = values[rows] @ design
        own = _solved(summed, weighed[:, :size], noise, precision, prior[rows])
        users[rows] = own.mean
        spread += own.spread(prior[rows])
        own_moments = own.moments()
        squares += ones[rows].T @ own_moments
        products += values[rows].T @ own.design()[:, :size]
        turned = own_moments.reshape(summed.shape)[:, order[:, None], order]
        error += float(np.sum(turned * summed) - 2 * np.sum(own.design()[:, order] * weighed))
    return squares.reshape(-1, size + 1, size + 1), products, error, spread


class _Posterior(NamedTuple):
    """Normal distributions of `[factors, bias]`: float64 `[n, d + 1]` and `[n, d + 1, d + 1]`."""

    mean: np.ndarray
    covariance: np.ndarray

    def design(self) -> np.ndarray:
        """Means of `[factors, 1, bias]`: float64 `[n, d + 2]`."""
        return np.insert(self.mean, self.mean.shape[1] - 1, 1.0, axis=1)

    def moments(self) -> np.ndarray:
        """Second moments of `[factors, 1, bias]`: float64 `[n, (d + 2)^2]`."""
        design = self.design()
        second = design[:, :, None] * design[:, None, :]
        kept = np.delete(np.arange(design.shape[1]), -2)
        second[:, kept[:, None], kept] += self.covariance
        return second.reshape(len(second), -1)

    def spread(self, prior: np.ndarray) -> np.ndarray:
        """Expected squares of what lies between these and the priors' means, summed: float64 `[d + 1]`."""
        return ((self.mean - prior) ** 2 + np.einsum("ndd->nd", self.covariance)).sum(0)


def _solved(
    summed: np.ndarray, weighed: np.ndarray, noise: float, precision: np.ndarray, prior: np.ndarray
) -> _Posterior:
    """One side given the other.

    Args:
        summed: float64 `[n, d + 2, d + 2]`, the other side's second moments, summed over what each rated.
        weighed: float64 `[n, d + 1]`, ratings times the other side's `[factors, 1]`, summed.
        noise: variance of a rating.
        precision: float64 `[d + 1]`, of the prior.
        prior: float64 `[n, d + 1]`, its mean.
    """
    size = len(precision)
    covariance = np.linalg.inv(summed[:, :size, :size] / noise + np.diag(precision))
    target = (weighed - summed[:, :size, size]) / noise + precision * prior
    return _Posterior(np.einsum("nde,ne->nd", covariance, target), covariance)


class _Regression:
    """Ridge regressions on the same columns: `[sparse, dense, 1]`."""

    def __init__(self, sparse: scipy.sparse.csr_matrix, dense: np.ndarray):
        self.sparse = sparse.astype(np.float64)
        self.dense = np.concatenate([dense, np.ones((len(dense), 1))], 1, dtype=np.float32)
        self.width = self.sparse.shape[1] + self.dense.shape[1]
        crossed = self.sparse.T @ self.dense
        squares = np.block(
            [[(self.sparse.T @ self.sparse).toarray(), crossed], [crossed.T, self.dense.T @ self.dense]]
        )
        self.inverse = np.linalg.inv(squares + SIDE_RIDGE * np.eye(self.width))

    def fit(self, targets: np.ndarray) -> np.ndarray:
        """float64 `[width, any]`."""
        return self.inverse @ np.concatenate([self.sparse.T @ targets, self.dense.T @ targets])

    def __call__(self, coefficients: np.ndarray) -> np.ndarray:
        """Predictions: float64 `[n, any]`."""
        split = self.sparse.shape[1]
        return self.sparse @ coefficients[:split] + self.dense @ coefficients[split:]


def _averaged(ones: scipy.sparse.csr_matrix, side: np.ndarray) -> np.ndarray:
    """What is known of that which each user rated: float64 `[num_users, AVERAGED]` or fewer columns."""
    _, axes = np.linalg.eigh(side.T.astype(np.float64) @ side)
    counts = np.asarray(ones.sum(1))
    return (ones @ (side @ axes[:, ::-1][:, :AVERAGED])) / np.maximum(counts, 1)


def _singular_start(
    values: scipy.sparse.csr_matrix, ones: scipy.sparse.csr_matrix, dim: int, seed: int
) -> np.ndarray:
    """Where items begin: damped mean biases, and the singular vectors of what these leave; float64
    `[items, dim + 1]`.

    From random numbers, which all look like noise at first, the more factors there were the fewer would be
    kept.
    """
    start = np.zeros((values.shape[1], dim + 1))
    start[:, -1] = _damped(values.sum(0), ones.sum(0))
    left = (values - ones.multiply(start[:, -1])).tocsr()
    left = (left - ones.multiply(_damped(left.sum(1), ones.sum(1))[:, None])).tocsr()
    most = min(dim, min(left.shape) - 1)
    if most > 0 and abs(left).sum() > 0:
        guess = np.random.default_rng(seed).normal(size=min(left.shape))
        _, _, right = scipy.sparse.linalg.svds(left, k=most, v0=guess)
        start[:, :most] = right[::-1].T * np.sqrt(values.shape[1] / dim)
    return start


def _damped(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.asarray(sums).ravel() / (np.asarray(counts).ravel() + DAMPING)
