"""Choice of the baseline that answers where no model was ever good enough to be pushed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

# Baselines that fit the retrieval model's signatures (`models.served_baseline`), the simplest first.
SERVED = ("popularity", "repeat", "als", "content_knn")


def ranked_baselines(metrics: dict[str, float], baselines: Iterable[str], k: int) -> list[str]:
    """The baselines that can be served, the best by NDCG first; popularity is always there, last if it was
    not judged.

    Args:
        metrics: the candidate's figures over all test interactions, with the baselines' (`als_ndcg@10`).
        baselines: those that were fitted.
        k: of NDCG.
    """
    judged = {name: metrics.get(f"{name}_ndcg@{k}", math.nan) for name in SERVED if name in baselines}
    known = {name: value for name, value in judged.items() if math.isfinite(value)}
    return [*sorted(known, key=lambda name: -known[name]), *({"popularity"} - set(known))]


def is_usable(baseline: object) -> bool:
    """Whether what was fitted is numbers: on tiny data the library `implicit` may divide by residuals of
    0."""
    factors = getattr(baseline, "item_factors", None)
    return factors is None or bool(np.isfinite(factors).all())
