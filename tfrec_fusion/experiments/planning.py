"""Planning of an experiment: how many units it takes, and which difference it can find.

A difference `δ` of two arms with `n₀` and `n₁` units and a standard deviation `σ` of a unit is found with
probability `power` at level `α` where

    δ = (z(1 - α/2) + z(power)) · σ · sqrt(1/n₀ + 1/n₁)

CUPED with covariates of correlation `ρ` makes σ smaller by `sqrt(1 - ρ²)`. With several arms against one
control, α is shared among them (Bonferroni).

Always-valid intervals (`sequential`) are wider: with `x = δ / s` and the scale `τ = δ` they exclude 0 in the
last look with that power where `x = z(power) + sqrt((1 + 1/x²) · log((1 + x²) / α²))`. Many experiments end
earlier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, stats

from tfrec_fusion.experiments.checks import ExperimentError, check_share


def _settings(
    std: float, shares: Sequence[float], confidence: float, correlation: float
) -> tuple[float, float, float]:
    """Level of each comparison, standard deviation after CUPED, and `1/share₀ + 1/share₁` of the smallest
    arm."""
    check_share("confidence", confidence)
    check_share("correlation", correlation, -1.0)
    if not std > 0 or not math.isfinite(std):
        raise ExperimentError(
            f"`std` must be above 0. Received: {std!r}. Where all units are equal, look for no effect."
        )
    if len(shares) < 2 or any(not share > 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise ExperimentError(
            "`shares` must be those of at least two arms, each above 0, and at most 1 together. Received:"
            f" {', '.join(f'{share:g}' for share in shares)}."
        )
    level = (1 - confidence) / (len(shares) - 1)
    return level, std * math.sqrt(1 - correlation**2), 1 / shares[0] + 1 / min(shares[1:])


def _reach(x: float, level: float, sequential: bool) -> float:
    """Half the width of the interval in standard errors, where the effect is `x` of them."""
    if not sequential:
        return float(stats.norm.ppf(1 - level / 2))
    return math.sqrt((1 + 1 / x**2) * math.log((1 + x**2) / level**2))


def _needed(level: float, power: float, sequential: bool) -> float:
    """How many standard errors an effect must have."""
    aim = float(stats.norm.ppf(power))
    if not sequential:
        return _reach(1.0, level, False) + aim
    return float(optimize.brentq(lambda x: x - aim - _reach(x, level, True), 0.5, 1e3))


def sample_size(
    effect: float,
    std: float,
    *,
    shares: Sequence[float] = (0.5, 0.5),
    confidence: float = 0.95,
    power: float = 0.8,
    correlation: float = 0.0,
    sequential: bool = False,
) -> int:
    """Units that all arms together need.

    Args:
        effect: the smallest difference that is to be found, in the metric's unit.
        std: standard deviation of a unit's value (`sqrt(p (1 - p))` of a rate `p`; of a ratio, that of
            `influence`).
        shares: of the arms among all units, the control first.
        confidence: of the interval that is to exclude 0.
        power: probability of finding the effect.
        correlation: of the covariates with the metric, for CUPED.
        sequential: for always-valid intervals.

    Returns:
        Units of all arms, for the comparison of the control with the smallest arm.

    Raises:
        ExperimentError: a value out of range.
    """
    check_share("power", power)
    if not effect or not math.isfinite(effect):
        raise ExperimentError(f"`effect` must be a number other than 0. Received: {effect!r}.")
    level, left, inverse = _settings(std, shares, confidence, correlation)
    return math.ceil((_needed(level, power, sequential) * left / effect) ** 2 * inverse - 1e-9)


def minimum_effect(
    units: int,
    std: float,
    *,
    shares: Sequence[float] = (0.5, 0.5),
    confidence: float = 0.95,
    power: float = 0.8,
    correlation: float = 0.0,
    sequential: bool = False,
) -> float:
    """The smallest difference that so many units find with probability `power`.

    Args:
        units: of all arms together, at least 2.
        std, shares, confidence, power, correlation, sequential: as of `sample_size`.
    """
    check_share("power", power)
    if units < 2:
        raise ExperimentError(f"`units` must be at least 2. Received: {units!r}.")
    level, left, inverse = _settings(std, shares, confidence, correlation)
    return _needed(level, power, sequential) * left * math.sqrt(inverse / units)


def power(
    effect: float,
    units: int,
    std: float,
    *,
    shares: Sequence[float] = (0.5, 0.5),
    confidence: float = 0.95,
    correlation: float = 0.0,
    sequential: bool = False,
) -> float:
    """The probability that so many units find a difference.

    Args:
        effect: the true difference, other than 0.
        units: of all arms together, at least 2.
        std, shares, confidence, correlation, sequential: as of `sample_size`.
    """
    if units < 2:
        raise ExperimentError(f"`units` must be at least 2. Received: {units!r}.")
    level, left, inverse = _settings(std, shares, confidence, correlation)
    if not effect or not math.isfinite(effect):
        raise ExperimentError(f"`effect` must be a number other than 0. Received: {effect!r}.")
    shift = abs(effect) / (left * math.sqrt(inverse / units))
    limit = _reach(shift, level, sequential)
    return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))
