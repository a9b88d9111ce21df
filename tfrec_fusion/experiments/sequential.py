"""Always-valid intervals: true at every look at once, so that peeking and stopping early do no harm.

With a mixture of normal alternatives, `δ ~ N(0, τ²)`, the interval around a difference `d` of standard error
`s` is

    d ± sqrt( s² (s² + τ²) / τ² · log( (s² + τ²) / (s² α²) ) )

It covers the truth at all looks together with probability at least `1 - α` where estimates are sums over more
and more independent units, as normal as a central limit theorem makes them.

Reference: mixture SPRT, Robbins, 1970; Johari et al., 2022, https://doi.org/10.1287/opre.2021.2135;
asymptotic confidence sequences, Waudby-Smith et al., 2024, https://arxiv.org/abs/2103.06476
"""

from __future__ import annotations

import math

from tfrec_fusion.experiments.checks import ExperimentError, check_share


def always_valid(
    difference: float, standard_error: float, scale: float, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Interval and p-value that hold at every look.

    Args:
        difference: the estimate.
        standard_error: of it, at least 0.
        scale: `τ`, the size of the differences at which the interval is to be narrow, in the same unit;
            chosen before the data are seen. The smallest difference that the experiment is planned to find is
            close to
            the best: there `τ² ≈ s² (2 log(1/α) + log(1 + 2 log(1/α)))` when the planned units are reached.
        confidence: `1 - α`.

    Returns:
        Lower end, upper end, and the p-value of this look, which is at most 1; the smallest one of all looks
        so far is always valid too.

    Raises:
        ExperimentError: a scale that is not above 0, or an estimate that is no number.
    """
    check_share("confidence", confidence)
    if not scale > 0 or not math.isfinite(scale):
        raise ExperimentError(
            f"`scale` must be above 0: a difference that would matter. Received: {scale!r}. Give the"
            " experiment's"
            " `effect`."
        )
    if not math.isfinite(difference) or not standard_error >= 0:
        raise ExperimentError(
            f"An estimate must be a number with a standard error of at least 0. Received: {difference!r} with"
            f" {standard_error!r}."
        )
    if math.isinf(standard_error):
        return -math.inf, math.inf, 1.0
    alpha, variance, mixture = 1 - confidence, standard_error**2, scale**2
    if not variance:
        return difference, difference, 0.0 if difference else 1.0
    # log((s² + τ²) / s²), written so that a tiny s² does not overflow the ratio.
    ratio = math.log1p(variance / mixture) + math.log(mixture) - math.log(variance)
    reach = math.sqrt(variance * (1 + variance / mixture) * (ratio - 2 * math.log(alpha)))
    log_likelihood = difference**2 / (2 * variance * (1 + variance / mixture)) - ratio / 2
    return difference - reach, difference + reach, math.exp(min(0.0, -log_likelihood))
