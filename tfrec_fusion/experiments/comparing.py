"""Two arms beside each other: ratio metrics by the delta method, less variance by CUPED, intervals.

A metric is a ratio of sums over units: clicks by impressions, purchases by users (whose denominator is 1).
Units are what was assigned (users), whose rows are not independent; a unit's sums are one observation.

For the ratio `R = mean(N) / mean(D)` each unit's influence is `(N - R·D) / mean(D)`, and the variance of R is
that of the mean influence. CUPED subtracts from it what figures from before the experiment say, `θ · (X -
mean(X))` with θ by least squares over both arms, weighed so that the variance of the difference is least.

Reference: delta method, Deng et al., 2018, https://arxiv.org/abs/1803.06336; CUPED, Deng et al., 2013,
https://doi.org/10.1145/2433396.2433413
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import stats

from tfrec_fusion.experiments.checks import ExperimentError, check_share, vector
from tfrec_fusion.experiments.sequential import always_valid

BURN_IN = 100
"""Units of each arm from which on a mean is near enough to normal for always-valid intervals."""


FEWEST = 20
"""Units of each arm below which nothing is adjusted."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An arm against the control.

    Attributes:
        control, value: the metric in both arms (adjusted, where covariates were given).
        difference, low, high: the arm less the control, with the interval of a single look.
        p_value: of a single look, two-sided.
        always_low, always_high, always_p: the same at every look at once; None where no scale was given or
            an arm has fewer than `BURN_IN` units.
        relative, relative_low, relative_high: `difference / control` with the interval of a single look
            (delta method); NaN where the control is 0.
        standard_error: of the difference.
        units: of control and arm.
        variance_kept: the variance that adjusting left, as a share; 1 without covariates.
    """

    control: float
    value: float
    difference: float
    low: float
    high: float
    p_value: float
    always_low: float | None
    always_high: float | None
    always_p: float | None
    relative: float
    relative_low: float
    relative_high: float
    standard_error: float
    units: tuple[int, int]
    variance_kept: float


def influence(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, np.ndarray]:
    """A ratio of sums, and by how much each unit moves it.

    Args:
        numerator, denominator: float `[units]`; the denominator at least 0, and above 0 in total.

    Returns:
        The ratio, and float64 `[units]` of mean 0, the variance of whose mean is that of the ratio.
    """
    total = float(denominator.mean()) if len(denominator) else 0.0
    if total <= 0 or (denominator < 0).any():
        raise ExperimentError(
            "A metric's denominator must be at least 0 for each unit and above 0 in each arm. Received: a"
            " total of"
            f" {float(denominator.sum()):g} over {len(denominator):,} units. An arm without traffic has no"
            " metric."
        )
    ratio = float(numerator.mean()) / total
    return ratio, (numerator - ratio * denominator) / total


def adjust(influences: list[np.ndarray], covariates: list[np.ndarray]) -> list[np.ndarray]:
    """CUPED over several arms: each unit's influence less what its covariates predict.

    Args:
        influences: float `[units]` of each arm, of mean 0.
        covariates: float `[units]` or `[units, C]` of each arm, from before the experiment. Missing ones
            (NaN) are the others' mean, and whether one is missing is a covariate of its own.

    Returns:
        float64 `[units]` of each arm: what is left. Its mean is no longer 0: it is what the arm's figure is
        moved by, and the variance of a difference of arms is at most as large. Arms of fewer than `FEWEST`
        units and
        ten for each covariate stay as they are: θ would fit their chance.
    """
    tables = [
        np.asarray(table, np.float64).reshape(len(values), -1)
        for table, values in zip(covariates, influences, strict=True)
    ]
    if np.isinf(np.concatenate(tables)).any():
        raise ExperimentError(
            "Covariates must be numbers, or NaN where they are missing. Received: infinity."
        )
    together = np.concatenate(tables)
    missing = np.isnan(together)
    counts = np.maximum((~missing).sum(0), 1)
    means = np.where(missing, 0.0, together).sum(0) / counts
    filled = np.where(missing, means, together)
    design = np.concatenate([filled, missing[:, missing.any(0)].astype(np.float64)], 1)
    design -= design.mean(0)
    spread = design.std(0)
    design = design[:, spread > 0] / spread[spread > 0]
    # Within arms, so that a difference between them is no part of what is predicted.
    ends = np.cumsum([len(table) for table in tables])[:-1]
    if min(map(len, tables)) < FEWEST + 10 * design.shape[1]:
        return influences
    # An arm's squares count in the variance of the difference by 1 / (n (n - 1)).
    scales = [1 / math.sqrt(len(table) * (len(table) - 1)) for table in tables]
    centred = [
        scale * (part - part.mean(0)) for scale, part in zip(scales, np.split(design, ends), strict=True)
    ]
    moved = [scale * values for scale, values in zip(scales, influences, strict=True)]
    weights = np.linalg.lstsq(np.concatenate(centred), np.concatenate(moved), rcond=None)[0]
    parts = np.split(design @ weights, ends)
    return [values - part for values, part in zip(influences, parts, strict=True)]


def compare(
    control: tuple[np.ndarray, np.ndarray],
    arm: tuple[np.ndarray, np.ndarray],
    *,
    covariates: tuple[np.ndarray, np.ndarray] | None = None,
    scale: float | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """An arm's ratio metric against the control's.

    Args:
        control, arm: numerator and denominator of each, float `[units]`; a mean over units has a denominator
            of ones.
        covariates: of control and arm, float `[units]` or `[units, C]`, as `adjust` takes them.
        scale: for always-valid intervals, see `always_valid`.
        confidence: of all intervals.

    Returns:
        Difference, intervals and p-values.

    Raises:
        ExperimentError: an arm of fewer than two units or without traffic, or values that cannot be used.
    """
    check_share("confidence", confidence)
    ratios, influences = [], []
    for name, (numerator, denominator) in (("control", control), ("arm", arm)):
        above = vector(f"{name} numerator", numerator)
        below = vector(f"{name} denominator", denominator, len(above))
        if len(above) < 2:
            raise ExperimentError(
                f"Each arm must have at least two units. Received: {len(above)} in the {name}. An arm without"
                " traffic cannot be compared."
            )
        ratio, moved = influence(above, below)
        ratios.append(ratio)
        influences.append(moved)
    plain = sum(_variance_of_mean(values) for values in influences)
    if covariates is not None:
        influences = adjust(influences, list(covariates))
        ratios = [ratio + float(values.mean()) for ratio, values in zip(ratios, influences, strict=True)]
    variances = [_variance_of_mean(values) for values in influences]
    return _comparison(ratios, variances, [len(values) for values in influences], plain, scale, confidence)


def _comparison(
    ratios: list[float],
    variances: list[float],
    units: list[int],
    plain: float,
    scale: float | None,
    confidence: float,
) -> Comparison:
    error = math.sqrt(sum(variances))
    difference = ratios[1] - ratios[0]
    if not error and difference:
        raise ExperimentError(
            f"Units must differ for an interval. Received: {ratios[0]:g} for each of {units[0]} units of the"
            " control"
            f" and {ratios[1]:g} for each of {units[1]} of the arm. Wait for more units."
        )
    freedom = _welch(variances, units)
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom)) if error else 1.0
    early = scale is None or min(units) < BURN_IN or not error
    low, high, always_p = (
        (None, None, None) if scale is None or early else always_valid(difference, error, scale, confidence)
    )
    relative = relative_reach = float("nan")
    if ratios[0]:
        relative = difference / ratios[0]
        spread = math.sqrt(variances[1] + (ratios[1] / ratios[0]) ** 2 * variances[0]) / abs(ratios[0])
        relative_reach = reach / error * spread if error else 0.0
    return Comparison(
        ratios[0],
        ratios[1],
        difference,
        difference - reach,
        difference + reach,
        p_value,
        low,
        high,
        always_p,
        relative,
        relative - relative_reach,
        relative + relative_reach,
        error,
        (units[0], units[1]),
        sum(variances) / plain if plain else 1.0,
    )


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) / len(values)


def _welch(variances: list[float], units: list[int]) -> float:
    """Welch and Satterthwaite's degrees of freedom."""
    total = sum(variances)
    if not total:
        return float(sum(units) - 2)
    shares = [variance / total for variance in variances]  # squares of tiny variances would be 0
    return 1 / sum(share**2 / (count - 1) for share, count in zip(shares, units, strict=True))
