"""Closed forms and convex fits behind a `Blend`, in NumPy: no model, no graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.special

from tfrec_fusion.metrics.ranks import gain, target_ranks, tie_order

# No part is weighed with nothing: from an item's vector its parts must be recoverable.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.02, 50.0


@dataclasses.dataclass(frozen=True)
class Choices:
    """Scores of each part, for some validation rows over some candidates.

    Attributes:
        scores: float32 `[rows, candidates, parts]`.
        target: integer `[rows]`, the position of what was chosen among the candidates.
        allowed: bool `[rows, candidates]`, what could have been chosen.
        weight: float64 `[rows]`, how much each row counts; sums to 1.
    """

    scores: np.ndarray
    target: np.ndarray
    allowed: np.ndarray
    weight: np.ndarray

    def beside(self, others: Choices) -> Choices:
        """These and others over the same candidates, each half of the whole."""
        return Choices(
            np.concatenate([self.scores, others.scores]),
            np.concatenate([self.target, others.target]),
            np.concatenate([self.allowed, others.allowed]),
            np.concatenate([self.weight, others.weight]) / 2,
        )

    def without(self, part: int) -> Choices:
        """The same with one part's scores left out."""
        return dataclasses.replace(self, scores=np.delete(self.scores, part, axis=2))

    def only(self, part: int) -> Choices:
        """The same with one part's scores alone."""
        return dataclasses.replace(self, scores=self.scores[..., [part]])

    def losses(self, weights: np.ndarray) -> np.ndarray:
        """Negative log likelihood of what was chosen, in nats: float64 `[rows]`."""
        logits = (self.scores @ weights.astype(np.float32)).astype(np.float64)
        logits[~self.allowed] = -np.inf
        return _log_sum(logits) - logits[np.arange(len(self.target)), self.target]

    def gains(self, weights: np.ndarray) -> np.ndarray:
        """`metrics.ranks.gain` of what was chosen, among what was allowed: float64 `[rows]`."""
        totals = self.scores @ weights.astype(np.float32)
        totals[~self.allowed] = -np.inf
        return gain(target_ranks(totals, self.target, tie_order(totals.shape[1])))


def logistic_weights(data: Choices, ridge: float = 1e-4) -> tuple[np.ndarray, float]:
    """The weights `w` that make what was chosen likeliest: `P(i) ~ exp(sum_p w_p s_ip)` over the allowed
    candidates.

    Args:
        data: at least one row.
        ridge: of the weights of scores brought to unit deviation.

    Returns:
        float64 `[parts]`, in units of one over the part's deviation at least `SMALLEST_WEIGHT`, and the mean
        negative log likelihood in nats.
    """
    rows = np.arange(len(data.target))
    chosen = data.scores[rows, data.target].astype(np.float64)
    deviations = _deviations(data)

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        logits = data.scores @ (scaled / deviations).astype(np.float32)
        logits[~data.allowed] = -np.inf
        logits -= logits.max(1, keepdims=True)
        own = logits[rows, data.target]
        shares = np.exp(logits)
        total = shares.sum(1)
        expected = np.matmul(shares[:, None, :], data.scores)[:, 0] / total[:, None]
        gradient = data.weight @ (expected - chosen) / deviations + 2 * ridge * scaled
        return float(-data.weight @ (own - np.log(total)) + ridge * scaled @ scaled), gradient

    start = np.full(len(deviations), 0.5)
    bounds = [(SMALLEST_WEIGHT, LARGEST_WEIGHT)] * len(start)
    minimum = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 50}
    )
    return minimum.x / deviations, float(minimum.fun)


def mixtures(data: Choices, weights: np.ndarray, part: int, shares: Sequence[float]) -> list[np.ndarray]:
    """Mixtures of weights with one part alone, float64 `[parts]` each.

    Args:
        data: at least one row.
        weights: float64 `[parts]`.
        part: which part.
        shares: of `weights` in each mixture.
    """
    deviations = _deviations(data)
    alone = np.zeros_like(weights)
    alone[part] = np.linalg.norm(weights * deviations) / deviations[part]
    return [share * weights + (1 - share) * alone for share in shares]


def without_parts(data: Choices, left_out: Sequence[int]) -> np.ndarray:
    """The likeliest weights where some parts count nothing: float64 `[parts]`, zeros there."""
    weights = np.zeros(data.scores.shape[2])
    kept = np.setdiff1d(np.arange(len(weights)), left_out)
    part = dataclasses.replace(data, scores=data.scores[..., kept])
    weights[kept] = logistic_weights(part)[0]
    return weights


def simplest_of_the_highest(
    data: Choices, candidates: Sequence[np.ndarray], errors: float = 1.0
) -> np.ndarray:
    """Of some weights those that put what was chosen highest, or the first that put it hardly lower.

    Args:
        data: at least one row.
        candidates: float64 `[parts]` each, the simplest first.
        errors: how much lower counts as hardly, in standard errors of the paired difference.

    Returns:
        float64 `[parts]`, at least `SMALLEST_WEIGHT` in units of one over the part's deviation.
    """
    gains = [data.gains(weights) for weights in candidates]
    best = max(gains, key=lambda reached: data.weight @ reached)
    for weights, reached in zip(candidates, gains, strict=True):
        lost = best - reached
        mean = data.weight @ lost
        if mean <= errors * np.sqrt(data.weight**2 @ (lost - mean) ** 2):
            return np.maximum(weights, SMALLEST_WEIGHT / _deviations(data))
    raise AssertionError("The best is no worse than itself.")


def _deviations(data: Choices) -> np.ndarray:
    """Of each part's scores, 1 where they are all alike: float64 `[parts]`."""
    deviations = data.scores.std((0, 1), dtype=np.float64)
    return np.where(deviations > 1e-9, deviations, 1.0)


class FoldedRidge:
    """Ridge regression by folds, so that what is predicted of a row may be learned without it.

    Args:
        folds: how many.
        inputs, outputs: widths of a row.
    """

    def __init__(self, folds: int, inputs: int, outputs: int):
        self.squares = np.zeros((folds, inputs, inputs))
        self.products = np.zeros((folds, inputs, outputs))

    def add(self, folds: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Takes in rows: integer `[n]`, the fold of each, and float `[n, inputs]` and `[n, outputs]`."""
        inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
        for fold in np.unique(folds):
            there = folds == fold
            self.squares[fold] += inputs[there].T @ inputs[there]
            self.products[fold] += inputs[there].T @ outputs[there]

    def solve(self, ridge: float, without: int | None = None) -> np.ndarray:
        """float64 `[inputs, outputs]`, learned from all folds, or from all but one."""
        squares, products = self.squares.sum(0), self.products.sum(0)
        if without is not None:
            squares, products = squares - self.squares[without], products - self.products[without]
        return np.linalg.solve(squares + ridge * np.eye(len(squares)), products)


def offset_for_share(logits: np.ndarray, others: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The number that, added to some candidates' logits, gives them a given share of the choices.

    Args:
        logits: float `[rows, any]` of those candidates.
        others: float `[rows, any]` of all other candidates.
        weight: float `[rows]`, sums to 1.
        share: in (0, 1).

    Returns:
        `c` with `sum_r weight_r P_r(some) = share`, where `P_r` is the softmax over both, `c` added to the
        former.
    """
    odds = _log_sum(logits) - _log_sum(others)
    offset = scipy.optimize.brentq(lambda c: weight @ scipy.special.expit(odds + c) - share, -500.0, 500.0)
    return float(offset)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    return scipy.special.logsumexp(logits.astype(np.float64), axis=1)
