"""Metrics beyond accuracy: coverage, novelty, diversity, serendipity and concentration of recommendations.

All functions take `recommended`, integer `[users, k]` item rows as `accuracy.rank_catalogue` returns them, -1
for an empty position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def coverage(recommended: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that is recommended to anybody, in [0, 1].

    Args:
        recommended: integer `[users, k]`.
        num_items: items that could have been recommended.
    """
    shown = _shown(recommended, num_items)
    return len(np.unique(shown)) / num_items if num_items else float("nan")


def novelty(recommended: np.ndarray, counts: np.ndarray, num_users: int | None = None) -> float:
    """Mean self-information of what is recommended, in bits.

    `mean(-log2((counts_i + 1) / (total + items)))` without `num_users` (an item's share of interactions), or
    `mean(-log2(max(counts_i, 1) / num_users))` with it (an item's share of users, at most 1). An item that
    nobody chose counts as chosen once.

    Args:
        recommended: integer `[users, k]`.
        counts: integer `[items]`, training interactions per item.
        num_users: users in training.

    Returns:
        Bits; NaN when nothing is recommended.

    Reference: Zhou et al., 2010, https://doi.org/10.1073/pnas.1000488107
    """
    counts = np.asarray(counts)
    shown = _shown(recommended, len(counts))
    if not len(shown):
        return float("nan")
    if num_users is None:
        share = (counts + 1) / (counts.sum() + len(counts))
    else:
        share = np.minimum(np.maximum(counts, 1) / num_users, 1)
    return float(np.mean(-np.log2(share[shown])) + 0.0)


def intra_list_diversity(recommended: np.ndarray, vectors: np.ndarray) -> float:
    """Mean distance between the items of a list, `1 - cosine`, averaged over users with at least two items.

    Args:
        recommended: integer `[users, k]`.
        vectors: float `[items, dim]`, what items are compared by (text vectors, genres).

    Returns:
        In [0, 2]; NaN when no list has two items.

    Reference: Ziegler et al., 2005, https://doi.org/10.1145/1060745.1060754
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0)
    present = (recommended >= 0)[..., None]
    listed = np.where(present, unit[np.maximum(recommended, 0)], 0)
    # The sum over pairs of cosines is what the squared length of the sum has beyond the single squared
    # lengths.
    lengths = present.sum((1, 2))
    total = (listed.sum(1) ** 2).sum(1) - (listed**2).sum((1, 2))
    pairs = lengths * (lengths - 1)
    enough = pairs > 0
    if not enough.any():
        return float("nan")
    # Rounding may lead a little beyond what cosines can be.
    return float(np.mean(np.clip(1 - total[enough] / pairs[enough], 0, 2)))


def serendipity(
    recommended: np.ndarray, relevant: Sequence[np.ndarray], counts: np.ndarray, num_users: int
) -> float:
    """Share of a list that is both right and unexpected:
    `mean_u 1/k sum_j hit_uj (1 - counts_j / num_users)`.

    Unexpected is what popularity would not have shown: a hit weighs as much as the share of users who did
    not choose the item. A repetition in a list is no hit.

    Args:
        recommended: integer `[users, k]`.
        relevant: per user the rows of items that are right; users without any do not count.
        counts: integer `[items]`, users per item in training.
        num_users: users in training.

    Returns:
        In [0, 1]; NaN when no user counts.

    Reference: after Ge et al., 2010, https://doi.org/10.1145/1864708.1864761, with popularity as the obvious
    model.
    """
    unexpected = np.clip(1 - np.asarray(counts) / num_users, 0, 1)
    _shown(recommended, len(unexpected))
    scores = []
    for row, items in zip(recommended, relevant, strict=True):
        if len(items):
            hits = np.intersect1d(row[row >= 0], items)
            scores.append(unexpected[hits].sum() / max(1, recommended.shape[1]))
    return float(np.mean(scores)) if scores else float("nan")


def gini(recommended: np.ndarray, num_items: int) -> float:
    """How unequally recommendations fall on the catalogue: 0 when every item is shown as often, near 1 when
    one is.

    `sum_i (2 i - n - 1) x_i / (n sum x)` over the item's frequencies `x` in ascending order, `i` from 1 to
    `n`.

    Args:
        recommended: integer `[users, k]`.
        num_items: items that could have been recommended, those never shown included.

    Returns:
        In [0, 1); NaN when nothing is recommended.
    """
    shown = _shown(recommended, num_items)
    if not len(shown):
        return float("nan")
    times = np.unique(shown, return_counts=True)[1]
    frequencies = np.zeros(num_items)
    frequencies[num_items - len(times) :] = np.sort(times)
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float(max(0.0, weights @ frequencies / (num_items * frequencies.sum())))


def _shown(recommended: np.ndarray, num_items: int) -> np.ndarray:
    """All that is recommended to anybody.

    Raises:
        ValueError: if there are more items than the catalogue has.
    """
    shown = recommended[recommended >= 0]
    if (distinct := len(np.unique(shown))) > num_items:
        raise ValueError(
            f"`recommended` must hold items of the catalogue. Received: {distinct} items of {num_items}. "
            "Give the number of all items that could have been recommended."
        )
    return shown
