"""Accuracy of ranked lists over the whole catalogue: Recall, Precision, Hit rate, NDCG, MRR and MAP at k.

Each user is ranked once, by matrix products over batches of users; ties are broken by a fixed shuffle of the items,
because item ids often follow popularity and would leak it. NumPy only, so that any model's scores can be judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

METRICS = ("recall", "precision", "hit_rate", "ndcg", "mrr", "map")


def rank_catalogue(
    query_embeddings: np.ndarray,
    candidate_embeddings: np.ndarray,
    exclude: Sequence[np.ndarray] | None = None,
    *,
    k: int = 100,
    allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    seed: int = 0,
) -> np.ndarray:
    """Ranks every item for every query by dot product.

    Args:
        query_embeddings: float `[queries, dim]`, one row per user, not per interaction.
        candidate_embeddings: float `[items, dim]`.
        exclude: per query the rows of items that may not be recommended (seen in training, say).
        k: how many items to return, at least 1.
        allowed: bool `[items]`; false items are never recommended (row 0 when it is padding, say).
        batch_size: queries scored at a time; memory is `batch_size * items` floats.
        seed: of the shuffle that breaks ties.

    Returns:
        int64 `[queries, min(k, items)]`, item rows best first; -1 where fewer items may be recommended.
    """
    return rank_scores(
        lambda rows: query_embeddings[rows] @ candidate_embeddings.T,
        len(query_embeddings),
        len(candidate_embeddings),
        exclude,
        k=k,
        allowed=allowed,
        batch_size=batch_size,
        seed=seed,
    )


def rank_scores(
    scores: Callable[[np.ndarray], np.ndarray],
    num_queries: int,
    num_items: int,
    exclude: Sequence[np.ndarray] | None = None,
    *,
    k: int = 100,
    allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    seed: int = 0,
) -> np.ndarray:
    """Like `rank_catalogue`, for a model whose scores are no dot product.

    Args:
        scores: takes int64 `[batch]` query rows, returns float `[batch, items]`.
        num_queries: queries to rank for.
        num_items: items in the catalogue.
        exclude, k, allowed, batch_size, seed: as in `rank_catalogue`.

    Returns:
        int64 `[queries, min(k, items)]`.

    Raises:
        ValueError: if `k` is below 1, `exclude` is not one entry per query, or a score is not a number.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k}. Ask for one item or more.")
    if exclude is not None and len(exclude) != num_queries:
        raise ValueError(
            f"`exclude` must have one entry per query ({num_queries}). Received: {len(exclude)} entries. "
            "Give an empty array for a query without exclusions."
        )
    k = min(k, num_items)
    shuffle = np.random.default_rng(seed).permutation(num_items)
    ranked = np.full((num_queries, k), -1, np.int64)
    for start in range(0, num_queries, batch_size):
        rows = np.arange(start, min(start + batch_size, num_queries))
        batch = np.array(scores(rows), np.float32)
        if np.isnan(batch).any():
            raise ValueError(
                "Scores must be numbers. Received: NaN. The model has diverged; lower its learning rate."
            )
        if allowed is not None:
            batch[:, ~allowed] = -np.inf
        if exclude is not None:
            left_out = exclude[start : start + batch_size]
            lengths = [len(items) for items in left_out]
            if sum(lengths):
                columns = np.concatenate([np.asarray(items, np.int64) for items in left_out])
                batch[np.repeat(np.arange(len(rows)), lengths), columns] = -np.inf
        top = _top_k(batch[:, shuffle], k)
        values = np.take_along_axis(batch, shuffle[top], 1)
        ranked[rows] = np.where(np.isneginf(values), -1, shuffle[top])
    return ranked


def _top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest scores, equal ones by column, exactly: also where the k-th place is tied."""
    threshold = np.partition(scores, scores.shape[1] - k, 1)[:, scores.shape[1] - k, None]
    above = scores > threshold
    level = scores == threshold
    needed = k - above.sum(1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, 1) <= needed))
    columns = np.nonzero(chosen)[1].reshape(len(scores), k)
    order = np.argsort(-np.take_along_axis(scores, columns, 1), 1, kind="stable")
    return np.take_along_axis(columns, order, 1)


def ranking_metrics(
    ranked: np.ndarray, relevant: Sequence[np.ndarray], ks: Sequence[int] = (10,)
) -> dict[str, np.ndarray]:
    """Every accuracy metric of every query, so that means, intervals and slices can be made of them.

    With `h_j` 1 when the item at rank `j` (from 1) is relevant and `R` the number of relevant items:
    recall `sum h_j / R`; precision `sum h_j / k`; hit_rate `max h_j`; ndcg
    `sum h_j / log2(j + 1)` over the same sum for the best possible list; mrr `1 / first j with h_j`;
    map `sum h_j precision@j / R`. A query without a relevant item gets NaN.

    Args:
        ranked: integer `[queries, at least max(ks)]` as `rank_catalogue` returns it; a shorter list counts as missing
            items at its end.
        relevant: per query the rows of the items that are right, without repeats.
        ks: cut-offs.

    Returns:
        `{"ndcg@10": float64 [queries], ...}` for each of `METRICS` and each cut-off.

    Raises:
        ValueError: if `ranked` and `relevant` differ in length.
    """
    if len(ranked) != len(relevant):
        raise ValueError(
            f"`ranked` and `relevant` must have one entry per query. Received: {len(ranked)} and {len(relevant)}. "
            "Give an empty array for a query without relevant items."
        )
    hits = _hits(ranked, relevant)
    totals = np.array([len(items) for items in relevant], np.float64)
    totals[totals == 0] = np.nan
    results = {}
    for k in ks:
        at_k = hits[:, :k].astype(np.float64)
        places = np.arange(1, at_k.shape[1] + 1)
        gains = 1 / np.log2(places + 1)
        best = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        ideal = best[np.minimum(np.nan_to_num(totals), k).astype(int)]
        ideal[ideal == 0] = np.nan
        missing = 0 * totals
        results[f"recall@{k}"] = at_k.sum(1) / totals
        results[f"precision@{k}"] = at_k.sum(1) / k + missing
        results[f"hit_rate@{k}"] = at_k.max(1, initial=0) + missing
        results[f"ndcg@{k}"] = at_k @ gains / ideal
        results[f"mrr@{k}"] = (at_k / places).max(1, initial=0) + missing
        results[f"map@{k}"] = (at_k * np.cumsum(at_k, 1) / places).sum(1) / totals
    return results


def _hits(ranked: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """bool `[queries, k]`: whether the item at each place is relevant to its query."""
    lengths = [len(items) for items in relevant]
    if not sum(lengths):
        return np.zeros(ranked.shape, bool)
    items = np.concatenate([np.asarray(entry, np.int64) for entry in relevant])
    width = max(int(ranked.max(initial=0)), int(items.max())) + 1
    pairs = np.repeat(np.arange(len(relevant)), lengths) * width + items
    keys = np.arange(len(ranked))[:, None] * width + ranked
    return np.isin(keys, pairs) & (ranked >= 0)


@dataclasses.dataclass
class StreamingMean:
    """Means of `ranking_metrics` over batches of queries, without keeping them."""

    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def update(self, values: dict[str, np.ndarray]) -> None:
        """Adds a batch's values; NaN (a query without relevant items) does not count."""
        for name, entries in values.items():
            known = ~np.isnan(entries)
            self.sums[name] = self.sums.get(name, 0.0) + float(entries[known].sum())
            self.counts[name] = self.counts.get(name, 0) + int(known.sum())

    def result(self) -> dict[str, float]:
        """The means so far; NaN for a metric that nothing has been counted for."""
        return {
            name: self.sums[name] / count if count else float("nan") for name, count in self.counts.items()
        }


def evaluate(
    ranked: np.ndarray, relevant: Sequence[np.ndarray], ks: Sequence[int] = (10, 100)
) -> dict[str, float]:
    """Means of `ranking_metrics` over the queries that have a relevant item.

    Args:
        ranked, relevant, ks: as in `ranking_metrics`.

    Returns:
        `{"ndcg@10": mean, ...}`.
    """
    mean = StreamingMean()
    for rows in _slices(len(ranked), 65536):
        mean.update(ranking_metrics(ranked[rows], relevant[rows], ks))
    return mean.result()


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
