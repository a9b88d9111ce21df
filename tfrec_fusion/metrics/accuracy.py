"""Accuracy of ranked lists over the whole catalogue: Recall, Precision, Hit rate, NDCG, MRR and MAP at k.

Each user is ranked once, by matrix products over batches of users. What ties, NaN, repeats and empty lists
count is stated in `ranks`. NumPy only, so that any model's scores can be judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfrec_fusion.metrics.ranks import figures_of_hits, tie_order

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
        exclude: per query the rows of items that may not be recommended (seen in training, say); -1 is
            padding.
        k: how many items to return, at least 1.
        allowed: bool `[items]`; false items are never recommended (row 0 when it is padding, say).
        batch_size: queries scored at a time; memory is `batch_size * items` floats.
        seed: of the shuffle that breaks ties (`ranks.tie_order`).

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
    ranked = np.full((num_queries, k), -1, np.int64)
    if not k:
        return ranked
    shuffle = np.argsort(tie_order(num_items, seed))
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
                there = columns >= 0
                batch[np.repeat(np.arange(len(rows)), lengths)[there], columns[there]] = -np.inf
        top = _top_k(batch[:, shuffle], k)
        values = np.take_along_axis(batch, shuffle[top], 1)
        ranked[rows] = np.where(np.isneginf(values), -1, shuffle[top])
    return ranked


def _top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest scores, equal ones by column, exactly: also where the k-th rank is tied."""
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

    The formulas stand in `ranks.figures_of_hits`. An item counts once, however often it is relevant or
    listed. A query without a relevant item gets NaN.

    Args:
        ranked: integer `[queries, any]` as `rank_catalogue` returns it, -1 for an empty position; a list
            shorter than `k` counts as missing items at its end.
        relevant: per query the rows of the items that are right; -1 is padding.
        ks: cut-offs.

    Returns:
        `{"ndcg@10": float64 [queries], ...}` for each of `METRICS` and each cut-off.

    Raises:
        ValueError: if `ranked` and `relevant` differ in length, or a cut-off is below 1.
    """
    ranked = np.asarray(ranked)
    if len(ranked) != len(relevant):
        raise ValueError(
            f"`ranked` and `relevant` must have one entry per query. Received: {len(ranked)} and"
            f" {len(relevant)}. Give an empty array for a query without relevant items."
        )
    query, ranks, counts = _hits(ranked, relevant)
    result = figures_of_hits(query, ranks, counts, ks)
    return {f"{name}@{k}": result[f"{name}@{k}"] for k in ks for name in METRICS}


def _hits(ranked: np.ndarray, relevant: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query and rank of every relevant item that is listed, and the number of relevant items of every
    query."""
    lengths = [len(items) for items in relevant]
    items = np.concatenate([np.zeros(0, np.int64), *(np.asarray(entry, np.int64) for entry in relevant)])
    owner = np.repeat(np.arange(len(relevant)), lengths)[items >= 0]
    items = items[items >= 0]
    width = max(int(ranked.max(initial=-1)), int(items.max(initial=-1))) + 1
    right = np.unique(owner * width + items)
    query, rank = np.nonzero(ranked >= 0)
    keys, first = np.unique(query * width + ranked[query, rank], return_index=True)
    # The first position of each item, in the order of the list.
    first = np.sort(first[np.isin(keys, right)])
    counts = np.bincount(right // max(1, width), minlength=len(relevant))
    return query[first], rank[first] + 1.0, counts


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
        `{"ndcg@10": mean, ...}`; NaN where no query counts.
    """
    mean = StreamingMean()
    for rows in _slices(len(ranked), 65536):
        mean.update(ranking_metrics(ranked[rows], relevant[rows], ks))
    return mean.result()


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, max(1, length), size):
        yield slice(start, min(start + size, length))
