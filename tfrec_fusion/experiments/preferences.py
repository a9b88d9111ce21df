"""Preference between two interleaved rankings, by clicks (`interleaving`)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import stats

from tfrec_fusion.experiments.checks import ExperimentError, check_share, vector
from tfrec_fusion.experiments.sequential import always_valid

__all__ = ["Preference", "preference"]


@dataclasses.dataclass(frozen=True)
class Preference:
    """Whose items are clicked more.

    Attributes:
        value: mean over units of `(second - first) / (first + second)` clicks, from -1 (only the first) to 1.
        low, high, p_value: of a single look.
        always_low, always_high, always_p: at every look at once.
        units: that clicked at all; the others say nothing.
    """

    value: float
    low: float
    high: float
    p_value: float
    always_low: float
    always_high: float
    always_p: float
    units: int


def preference(
    first: np.ndarray, second: np.ndarray, *, scale: float = 0.1, confidence: float = 0.95
) -> Preference:
    """Which ranking is preferred.

    Args:
        first, second: float `[units]`, at least 0: each unit's (user's) clicks on items of either ranking.
        scale: the preference that would matter, for the always-valid interval.
        confidence: of the intervals.

    Returns:
        The mean preference over units that clicked, so that no user counts more than another.

    Raises:
        ExperimentError: fewer than two units clicked, or there are counts below 0.
    """
    check_share("confidence", confidence)
    one = vector("first", first)
    two = vector("second", second, len(one))
    if (one < 0).any() or (two < 0).any():
        raise ExperimentError("Clicks must be counts of at least 0. Received: some below 0.")
    total = one + two
    clicked = total > 0
    if clicked.sum() < 2:
        raise ExperimentError(f"At least two units must have clicked. Received: {int(clicked.sum())}.")
    values = (two - one)[clicked] / total[clicked]
    count, mean = len(values), float(values.mean())
    # Two made-up units that contradict each other: a handful of real ones that agree is no certainty.
    error = float(np.append(values, [-1.0, 1.0]).std(ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    low, high, always_p = always_valid(mean, error, scale, confidence)
    return Preference(
        mean,
        max(-1.0, mean - reach),
        min(1.0, mean + reach),
        p_value,
        max(-1.0, low),
        min(1.0, high),
        always_p,
        count,
    )
