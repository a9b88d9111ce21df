"""Outputs of the retrieval model on labelled Examples, in finite numbers: JSON has no NaN and no infinity.

A rank is 1 or more, a novelty and a diversity are not negative (but for rounding); values outside stand for
what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["NOT_RANKED", "NO_SCORE", "UNDEFINED", "evaluated"]

NOT_RANKED = 0.0
"""The rank of an item that cannot be recommended: it is unknown, not offered, or was already seen."""
NO_SCORE = -1.0
"""The rank of an item that the model gives no number."""
UNDEFINED = -1.0
"""The novelty of no items, and the diversity of fewer than two."""


def evaluated(answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The answer with NaN and infinity where it says that there is nothing: NaN for `NOT_RANKED` and
    `UNDEFINED`, infinity for `NO_SCORE`. What is NaN or infinite already stays so."""
    read = {name: np.asarray(values) for name, values in answer.items()}
    if "rank" in read:
        rank = read["rank"]
        read["rank"] = np.where(rank == NOT_RANKED, np.nan, np.where(rank == NO_SCORE, np.inf, rank))
    for name in {"novelty", "diversity"} & set(read):
        read[name] = np.where(read[name] == UNDEFINED, np.nan, read[name])
    return read
