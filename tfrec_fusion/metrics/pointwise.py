"""Errors of predicted labels, and how well a user's own items are ordered: what a ranking model is judged
by.

Examples have no order of their own: figures of equal scores are expectations over all their orders.
"""

from __future__ import annotations

import numpy as np

from tfrec_fusion.metrics.ranks import gain


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (area under the ROC curve).

    `(sum of the positives' ranks - P (P + 1) / 2) / (P N)`, ranks of equal scores averaged.

    Args:
        labels: `[examples]`; above 0 is a positive.
        scores: float `[examples]`.

    Returns:
        In [0, 1]; NaN where all labels are equal or a score is not a number.

    Reference: Hanley and McNeil, 1982, https://doi.org/10.1148/radiology.143.1.7063747
    """
    return (
        float(per_user_auc(np.zeros(len(labels), np.int64), labels, scores)[0])
        if len(labels)
        else float("nan")
    )


def placements(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Where each example stands among those of the other kind; the mean over either kind is the AUC.

    A positive's is the share of negatives below it, a negative's the share of positives above it, ties
    counting half. Sums of them over users say how far the AUC depends on who was asked.

    Args:
        labels, scores: as in `auc`.

    Returns:
        float64 `[examples]`; NaN where all labels are equal or a score is not a number.

    Reference: Obuchowski, 1997, https://doi.org/10.2307/2533958
    """
    positive, scores = np.asarray(labels) > 0, np.asarray(scores, np.float64)
    shares = np.full(len(scores), np.nan)
    if positive.all() or not positive.any() or np.isnan(scores).any():
        return shares
    for own, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * scores[~own])
        mine = sign * scores[own]
        ties = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        shares[own] = ties / (2 * len(others))
    return shares


def per_user_auc(user: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of each user's own examples.

    Args:
        user: integer `[examples]`, from 0.
        labels, scores: as in `auc`.

    Returns:
        float64 `[users]`; NaN for a user whose labels are all equal or who has a score that is not a
        number.
    """
    user, positive, scores = np.asarray(user), np.asarray(labels) > 0, np.asarray(scores, np.float64)
    if not len(user):
        return np.zeros(0)
    order = np.lexsort((scores, user))
    owner, value = user[order], scores[order]
    # Average ranks within a user: equal scores share the mean of the ranks that they fill.
    start = np.flatnonzero(np.concatenate([[True], (owner[1:] != owner[:-1]) | (value[1:] != value[:-1])]))
    size = np.diff(np.append(start, len(order)))
    first = np.searchsorted(owner, owner, side="left")
    rank = np.repeat(start + (size + 1) / 2, size) - first
    num_users = int(user.max()) + 1

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, weights=values, minlength=num_users)

    hits = positive[order].astype(np.float64)
    yes = total(hits)
    no = np.bincount(owner, minlength=num_users) - yes
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = (total(rank * hits) - yes * (yes + 1) / 2) / (yes * no)
    areas[(yes == 0) | (no == 0) | (total(np.isnan(value).astype(float)) > 0)] = np.nan
    return areas


def per_user_ndcg(user: np.ndarray, gains: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """NDCG of each user's own examples in the order of their scores, the whole list.

    `sum_j gain_j / log2(j + 1)` over the same sum in the best order; of equal scores the expectation.

    Args:
        user: integer `[examples]`, from 0.
        gains: float `[examples]` (ratings, clicks); below 0 counts as 0.
        scores: float `[examples]`.

    Returns:
        float64 `[users]`, in [0, 1]; NaN for a user whose gains are all equal, a single example among
        them: every order is the best one then. NaN also for a user with a score that is not a number.

    Reference: Järvelin and Kekäläinen, 2002, https://doi.org/10.1145/582415.582418; of ties McSherry and
    Najork, 2008, https://doi.org/10.1007/978-3-540-78646-7_38
    """
    user, scores = np.asarray(user), np.asarray(scores, np.float64)
    gains = np.maximum(np.asarray(gains, np.float64), 0)
    if not len(user):
        return np.zeros(0)
    num_users = int(user.max()) + 1

    def discounted(keys: np.ndarray) -> np.ndarray:
        """Expected gain in descending order of keys: equal ones share the mean of their ranks' discounts."""
        order = np.lexsort((-keys, user))
        owner, key = user[order], keys[order]
        rank = np.arange(len(order)) - np.searchsorted(owner, owner, side="left") + 1
        first = np.ones(len(order), bool)
        first[1:] = (owner[1:] != owner[:-1]) | (key[1:] != key[:-1])
        group = np.cumsum(first) - 1
        share = np.bincount(group, weights=gain(rank)) / np.bincount(group)
        return np.bincount(owner, weights=gains[order] * share[group], minlength=num_users)

    lowest, highest = np.full(num_users, np.inf), np.full(num_users, -np.inf)
    np.minimum.at(lowest, user, gains)
    np.maximum.at(highest, user, gains)
    unknown = np.bincount(user, weights=np.isnan(scores), minlength=num_users) > 0
    own, best = discounted(np.nan_to_num(scores, nan=0.0)), discounted(gains)
    told = (highest > lowest) & ~unknown
    return np.minimum(np.divide(own, best, out=np.full(num_users, np.nan), where=told), 1)


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Cross-entropy of each example in nats, `-(y log p + (1 - y) log(1 - p))`, probabilities kept 1e-7 off 0
    and 1.

    Args:
        labels: float `[examples]`, 0 or 1.
        probabilities: float `[examples]`.

    Returns:
        float64 `[examples]`.
    """
    probability = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return -(labels * np.log(probability) + (1 - labels) * np.log1p(-probability))
