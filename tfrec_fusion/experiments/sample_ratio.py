"""Sample-ratio mismatch: whether as many units came into each arm as its share says.

A mismatch says that the split, the logging or the reading is broken, and that nothing else of the experiment
can be believed. Pearson's chi-squared test is for one look; the always-valid one may be asked at every look.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from tfrec_fusion.experiments.checks import ExperimentError

ALARM = 0.01
"""Below this a mismatch is told: by chance in at most one of a hundred experiments, however often one
looks."""

_CONCENTRATIONS = np.array([10.0, 1_000.0, 100_000.0])
"""Of Dirichlet distributions around the promised shares, mixed evenly: gross mismatches among few units, and
small ones among many."""


@dataclasses.dataclass(frozen=True)
class SampleRatio:
    """Counts beside what the shares promise.

    Attributes:
        counts: units of each arm.
        expected: by the shares.
        p_value: of Pearson's chi-squared test, for a single look.
        always_valid_p: at most this probable to be ever so small while the shares hold, however often one
            looks.
        mismatch: whether `always_valid_p` is below `ALARM`.
    """

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float
    always_valid_p: float

    @property
    def mismatch(self) -> bool:
        return self.always_valid_p < ALARM


def check_sample_ratio(counts: np.ndarray, shares: np.ndarray) -> SampleRatio:
    """Tests counts against shares.

    Args:
        counts: integer `[arms]`, units of each arm.
        shares: float `[arms]`, above 0; scaled to sum to 1.

    Returns:
        p-values; an arm without units is a mismatch as soon as there are enough in the others.

    Raises:
        ExperimentError: fewer than two arms, no units at all, or counts and shares that do not fit.

    Reference: Fabijan et al., 2019, https://doi.org/10.1145/3292500.3330722; always valid: Lindon & Malek,
    2022, https://arxiv.org/abs/2011.03567
    """
    seen, shared = np.asarray(counts), np.asarray(shares, np.float64)
    if seen.ndim != 1 or len(seen) < 2 or seen.shape != shared.shape:
        raise ExperimentError(
            "`counts` and `shares` must have one value for each of two or more arms. Received:"
            f" {seen.tolist()} and"
            f" {shared.tolist()}."
        )
    if not np.isfinite(shared).all() or (shared <= 0).any() or (seen < 0).any() or not seen.sum():
        raise ExperimentError(
            f"Shares must be above 0, and some arm must have units. Received: counts {seen.tolist()}, shares"
            f" {shared.tolist()}."
        )
    shared = shared / shared.sum()
    expected = seen.sum() * shared
    p_value = float(special.chdtrc(len(seen) - 1, np.sum((seen - expected) ** 2 / expected)))
    # Bayes factor of any shares (Dirichlet, near the promised ones) against the promised ones: a martingale
    # under the latter, so that it exceeds 1/p ever with probability at most p (Ville).
    prior = _CONCENTRATIONS[:, None] * shared
    log_factors = (
        special.gammaln(_CONCENTRATIONS)
        - special.gammaln(_CONCENTRATIONS + seen.sum())
        + np.sum(special.gammaln(prior + seen) - special.gammaln(prior), 1)
        - np.sum(seen * np.log(shared))
    )
    log_factor = float(special.logsumexp(log_factors) - np.log(len(log_factors)))
    always = float(np.exp(min(0.0, -log_factor)))
    return SampleRatio(tuple(map(int, seen)), tuple(map(float, expected)), p_value, always)
