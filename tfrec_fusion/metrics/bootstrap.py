"""Confidence intervals by resampling users: how far a mean, or a difference of means, may be due to who was
asked.

Interactions of one user are not independent, so whole users are drawn. Everything here works on sums over
users: a statistic is a function of column totals (a mean is `total / count`), and all statistics of one call
see the same draws, so that differences between models on the same users are paired.
"""

from __future__ import annotations

import functools
import statistics

import numpy as np

GROUPS = 1000


def group_sums(user: np.ndarray, columns: np.ndarray, groups: int = GROUPS) -> np.ndarray:
    """Sums columns over users, and users over at most `groups` groups, so that resampling costs the same
    for any number.

    With more users than groups, groups of users that have nothing in common but the draw are resampled
    instead of single users; the spread of a total is the same in expectation.

    Args:
        user: integer `[rows]`, from 0: whom each row belongs to, in an order that means nothing.
        columns: float `[rows, C]`.
        groups: how many groups at most.

    Returns:
        float64 `[min(users, groups), C]`.
    """
    num_users = int(user.max()) + 1 if len(user) else 0
    size = min(num_users, groups)
    group = user % size if size else user
    return np.stack(
        [np.bincount(group, weights=column, minlength=size) for column in np.asarray(columns, np.float64).T],
        1,
    )


@functools.lru_cache(maxsize=8)
def _weights(groups: int, samples: int, seed: int) -> np.ndarray:
    """How often each group is drawn: `[samples, groups]`, each row `groups` draws with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=samples).astype(np.float64)


def resample(sums: np.ndarray, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Column totals of each bootstrap sample.

    Args:
        sums: float `[groups, C]` from `group_sums`; at least one group.
        samples: how many samples.
        seed: of the draws.

    Returns:
        float64 `[samples, C]`.

    Raises:
        ValueError: if there is nobody to draw.

    Reference: Efron, 1979, https://doi.org/10.1214/aos/1176344552
    """
    if not len(sums):
        raise ValueError("`sums` must hold at least one group. Received: none. There is nobody to draw.")
    return _weights(len(sums), samples, seed) @ sums


def interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a statistic.

    Args:
        draws: float `[samples]`, the statistic of each bootstrap sample; not numbers (a sample without
            anybody who counts) are left out.
        confidence: share of the draws inside.

    Returns:
        Lower and upper end; NaN where no draw is a number.
    """
    known = draws[np.isfinite(draws)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def normal_interval(value: float, draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """`value` plus and minus a normal quantile of the bootstrap's standard error.

    For confidence so high that percentiles of the draws would rest on a handful of them.

    Args:
        value: the statistic.
        draws: float `[samples]`.
        confidence: probability inside.

    Returns:
        Lower and upper end; NaN where no draw is a number.
    """
    known = draws[np.isfinite(draws)]
    if not len(known) or not np.isfinite(value):
        return float("nan"), float("nan")
    reach = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * float(known.std())
    return value - reach, value + reach
