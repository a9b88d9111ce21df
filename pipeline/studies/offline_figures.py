"""Accuracy and what lies beyond it, of a retrieval model over a data set in memory: one list per user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.config.pipeline_config import PipelineConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.metrics import accuracy, beyond_accuracy


def describe(data: Prepared) -> dict[str, int]:
    """How much there is to judge by."""
    _, _, relevant = relevant_items(data)
    cold = data.catalogue.counts == 0
    return {
        "items": len(data.catalogue) - 1,
        "users": len(relevant),
        "held_out": sum(map(len, relevant)),
        "held_out_cold": sum(int(cold[items].sum()) for items in relevant),
    }


def relevant_items(data: Prepared) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Each tested user's first row of `test`, the items seen before, and the held-out items not among
    them; where repeats may be recommended, none count as seen."""
    _, first, inverse = np.unique(data.users, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    grouped = np.split(data.test["item_index"][order], np.cumsum(np.bincount(inverse))[:-1])
    seen = [data.seen[row][: 0 if data.space.repeats else None] for row in first]
    return first, seen, [np.setdiff1d(items, before) for items, before in zip(grouped, seen, strict=True)]


def figures(
    scores: Callable[[np.ndarray], np.ndarray], data: Prepared, config: PipelineConfig
) -> dict[str, float]:
    """Judges one list per user over the whole catalogue, seen items excluded unless they may be repeated.

    Args:
        scores: rows of `data.test` → float `[rows, N + 1]`.
        data: the data.
        config: cutoffs (`evaluation.k`): the first for NDCG and what is beyond accuracy, the last for recall
            and MRR.

    Returns:
        Accuracy over all held-out items and over cold ones (which training never saw), coverage, novelty in
        bits, intra-list diversity (of text, or of categories without text) and Gini. A figure that has
        nothing to judge by is left out.
    """
    k, most = config.evaluation.k[0], max(config.evaluation.k)
    rows, seen, relevant = relevant_items(data)
    size = len(data.catalogue)
    ranked = accuracy.rank_scores(
        lambda part: scores(rows[part]), len(rows), size, seen, k=most, allowed=np.arange(size) > 0
    )
    cold = data.catalogue.counts == 0
    results: dict[str, float] = {}
    for prefix, items in (("", relevant), ("cold ", [some[cold[some]] for some in relevant])):
        values = accuracy.evaluate(ranked, items, (k, most))
        names = (f"ndcg@{k}", f"recall@{most}", f"mrr@{most}")
        results |= {f"{prefix}{name}": values[name] for name in names}
    shown = np.where(ranked[:, :k] > 0, ranked[:, :k] - 1, -1)
    vectors = item_vectors(data)
    results |= {
        f"coverage@{k}": beyond_accuracy.coverage(shown, size - 1),
        f"novelty@{k}": beyond_accuracy.novelty(shown, data.catalogue.counts[1:]),
        f"diversity@{k}": beyond_accuracy.intra_list_diversity(shown, vectors),
        f"gini@{k}": beyond_accuracy.gini(shown, size - 1),
    }
    return {name: value for name, value in results.items() if not np.isnan(value)}


def item_vectors(data: Prepared) -> np.ndarray:
    """What lists are called diverse by, the same for all variants: pretrained text, or else the categories of
    items."""
    if data.catalogue.text_vectors is not None:
        return np.asarray(data.catalogue.text_vectors[1:], np.float32)
    parts = [np.zeros((len(data.catalogue), 1), np.float32)]
    for feature in data.space.item_features:
        if feature.kind in ("categorical", "categories"):
            values = data.catalogue.features[feature.name].reshape(len(data.catalogue), -1)
            hot = np.zeros((len(values), feature.size), np.float32)
            np.put_along_axis(hot, values, 1.0, 1)
            parts.append(hot[:, 1:])
    return np.concatenate(parts, 1)[1:]
