"""Ranks of relevant items and the figures made of them: the one core of every ranking metric, in NumPy.

Early stopping, the blend, tuning, `ranking_metrics`, the Evaluator and the benchmarks count by these rules:

- **Ties**: equal scores are ordered by one shuffle of the items (`tie_order`), the same for every query. Item
  ids often follow popularity and would leak it. Examples without an identity (`pointwise`) take the
  expectation over all shuffles.
- **NaN**: an item whose score is not a number ranks last, at infinity, and gains nothing; it stands before no
  other item. Minus infinity marks an item that may not be recommended, and ranks at infinity as well. Whole
  lists of such scores are refused (`accuracy.rank_scores`).
- **Repeats**: an item is relevant once, however often a user chose it, and counts once in a list, where it
  first stands; its repetitions are misses.
- **Nothing relevant**: the query's figures are NaN, and means leave it out. An empty list finds nothing: 0.
- **`k` above the length of the list**: the missing positions are misses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def tie_order(num_items: int, seed: int = 0) -> np.ndarray:
    """The shuffle that orders items of equal scores.

    Args:
        num_items: rows of the catalogue.
        seed: of the shuffle.

    Returns:
        int32 `[num_items]`, all different; of two items with equal scores the lower number stands first.
    """
    ties = np.empty(num_items, np.int32)
    ties[np.random.default_rng(seed).permutation(num_items)] = np.arange(num_items, dtype=np.int32)
    return ties


def stands_before(scores: Any, ties: Any, own_score: Any, own_tie: Any) -> Any:
    """Whether items stand before another one: by a higher score, or by an equal one and a lower tie number.

    Args:
        scores: float `[..., items]`, arrays or tensors, as are the others.
        ties: `[items]`, from `tie_order`.
        own_score, own_tie: of the other item, of shapes that broadcast.

    Returns:
        bool `[..., items]`; False where either score is NaN.
    """
    return (scores > own_score) | ((scores == own_score) & (ties < own_tie))


def target_ranks(scores: np.ndarray, target: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The rank of one item a query, among all items.

    Args:
        scores: float `[queries, items]`; minus infinity for what may not be recommended.
        target: integer `[queries]`, the column of the item.
        ties: `[items]`, from `tie_order`.

    Returns:
        float64 `[queries]`, whole numbers from 1; infinite where the target's score is NaN or minus infinity.
    """
    own = np.take_along_axis(scores, np.asarray(target)[:, None], 1)
    before = stands_before(scores, ties, own, ties[target][:, None])
    rank = 1.0 + np.count_nonzero(before, axis=1)
    return np.where(np.isnan(own[:, 0]) | np.isneginf(own[:, 0]), np.inf, rank)


def next_item_ranks(
    scores: np.ndarray, target: np.ndarray, history: np.ndarray, ties: np.ndarray
) -> np.ndarray:
    """The rank of what came next, among all items that were not seen before.

    Args:
        scores: float `[queries, N + 1]`; column 0 is no item.
        target: integer `[queries]`, what came next.
        history: integer `[queries, any]`, 0 for padding.
        ties: `[N + 1]`, from `tie_order`.

    Returns:
        float64 `[queries]` as `target_ranks`; NaN where the item was seen before, so that it could not be
        recommended.
    """
    scores = np.array(scores)
    scores[:, 0] = -np.inf
    np.put_along_axis(scores, history, -np.inf, 1)
    seen = (history == np.asarray(target)[:, None]).any(1)
    return np.where(seen, np.nan, target_ranks(scores, target, ties))


def gain(rank: Any, k: float = np.inf) -> np.ndarray:
    """NDCG at `k` of a query with one relevant item: `1 / log2(1 + rank)` up to rank `k`, 0 behind it.

    Args:
        rank: float, any shape, from 1; infinite for an item that was not ranked; NaN stays NaN.
        k: cut-off.

    Reference: Järvelin and Kekäläinen, 2002, https://doi.org/10.1145/582415.582418
    """
    rank = np.asarray(rank, np.float64)
    return np.where(np.isnan(rank), np.nan, np.where(rank <= k, 1 / np.log2(1 + rank), 0.0))


def mean_of_known(values: np.ndarray) -> float:
    """The mean of what is a number; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def ideal_gain(count: np.ndarray, k: int) -> np.ndarray:
    """The sum of gains of the best possible list: `sum_{i <= min(count, k)} 1 / log2(1 + i)`."""
    most = np.minimum(count, k).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(gain(np.arange(1, most.max(initial=0) + 1)))])
    return sums[most]


def figures_of_hits(
    query: np.ndarray, ranks: np.ndarray, relevant: np.ndarray, ks: Iterable[int]
) -> dict[str, np.ndarray]:
    """Every ranking metric of every query.

    With `n` relevant items at ranks `r` and cut-off `k`: recall `|{r <= k}| / n`; precision `|{r <= k}| / k`;
    hit_rate `[any r <= k]`; ndcg `sum_{r <= k} 1 / log2(r + 1) / sum_{i <= min(n, k)} 1 / log2(i + 1)`; mrr
    `1 / min(r)` where that is at most `k`; map `sum_{r <= k} (relevant items at or above r) / r / n`.

    Args:
        query: integer `[hits]`, from 0, ascending.
        ranks: float `[hits]`, whole numbers from 1, strictly ascending within a query (infinite ones may
            repeat).
        relevant: integer `[queries]`, `n`, no less than the query's hits.
        ks: cut-offs.

    Returns:
        `{"ndcg@10": float64 [queries], …}` for each metric and cut-off, and `mrr` without one; in [0, 1], and
        NaN for a query without a relevant item.

    Raises:
        ValueError: for a cut-off below 1.
    """
    size = len(relevant)
    order = np.arange(len(query)) - np.searchsorted(query, query, side="left") + 1
    count = np.where(relevant > 0, relevant, np.nan)
    known = 0 * count

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(query, weights=values, minlength=size)

    def first(hit: np.ndarray) -> np.ndarray:
        return total(np.where(hit & (order == 1), 1 / ranks, 0.0)) + known

    figures = {"mrr": first(np.isfinite(ranks))}
    for k in ks:
        if k < 1:
            raise ValueError(f"`ks` must be cut-offs from 1. Received: {k}. Ask for one item or more.")
        hit = (ranks <= k) & np.isfinite(ranks)
        hits = total(hit)
        figures[f"recall@{k}"] = hits / count
        figures[f"precision@{k}"] = hits / k + known
        figures[f"hit_rate@{k}"] = (hits > 0) + known
        # A sum in another order may be a rounding error above the best one.
        ideal = np.where(relevant > 0, ideal_gain(relevant, k), np.nan)
        figures[f"ndcg@{k}"] = np.minimum(total(gain(ranks, k)) / ideal, 1)
        figures[f"mrr@{k}"] = first(hit)
        figures[f"map@{k}"] = np.minimum(total(np.where(hit, order / ranks, 0.0)) / count, 1)
    return figures


def per_user_figures(
    users: np.ndarray, ranks: np.ndarray, cutoffs: Iterable[int], items: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Metrics of each user from the ranks of what was held out, an item a user chose several times once.

    Where context changes a user's list from one choice to the next, two items may have one rank: then the
    second stands one position lower.

    Args:
        users: `[choices]`, equal where two choices belong to one user.
        ranks: float `[choices]`, whole numbers from 1; infinite for an item without a score.
        cutoffs: the values of `k`.
        items: `[choices]`, which item it was; None takes equal finite ranks of a user for one item. Of an
            item's different ranks one counts, whichever a digest of them puts first.

    Returns:
        `{"ndcg@10": float64 [users], …, "mrr": …}` as `figures_of_hits`, users in ascending order.

    Raises:
        ValueError: if a rank is no whole number from 1.
    """
    ranks = np.asarray(ranks, np.float64)
    finite = np.isfinite(ranks)
    if np.isnan(ranks).any() or (ranks < 1).any() or (ranks[finite] % 1 != 0).any():
        raise ValueError(
            f"`ranks` must be whole numbers from 1, or infinite. Received: {ranks[:5]}… "
            "Leave out what cannot be recommended."
        )
    _, user = np.unique(users, return_inverse=True)
    if items is None:
        kept = first_choices(user, np.where(finite, ranks, -1.0 - np.arange(len(ranks))), ranks)
    else:
        kept = first_choices(user, np.unique(items, return_inverse=True)[1].reshape(-1), ranks)
    user, ranks = user[kept], ranks[kept]
    order = np.lexsort((ranks, user))
    user, ranks = user[order], ranks[order]
    count = np.bincount(user)
    return figures_of_hits(user, _apart(user, ranks, count), count, cutoffs)


def first_choices(users: np.ndarray, items: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """One choice of each item by each user. Which one does not depend on the order of rows, nor on how good
    its ranks are.

    Args:
        users, items: `[choices]`.
        ranks: float `[choices]` or `[choices, systems]`.

    Returns:
        int64 positions of the choices that count.
    """
    bits = np.ascontiguousarray(ranks, np.float64).reshape(len(users), -1).view(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], np.uint64) | np.uint64(1)
    digest = (bits * factors).sum(1, dtype=np.uint64)
    digest = (digest ^ (digest >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    order = np.lexsort((digest, items, users))
    one, other = users[order], items[order]
    new = np.ones(len(order), bool)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return order[new]


def _apart(user: np.ndarray, ranks: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Ascending ranks made different within each user: an equal one moves one position down."""
    first = np.cumsum(count) - count
    order = np.arange(len(ranks)) - first[user]
    far = np.int64(2) ** 31
    free = np.where(np.isfinite(ranks), np.minimum(ranks, far), far).astype(np.int64) - order
    highest = np.maximum.accumulate(free + user * 4 * far) - user * 4 * far
    return np.where(np.isfinite(ranks), highest + order, np.inf)
