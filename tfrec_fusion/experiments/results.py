"""The readout of an experiment: whether it can be believed, and what each arm did to each metric.

Each arm is compared with the control, the first. With more than one, the confidence of each comparison is
raised so that all hold together (Bonferroni).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from tfrec_fusion.experiments.checks import ExperimentError, check_share
from tfrec_fusion.experiments.comparing import Comparison, compare, influence
from tfrec_fusion.experiments.outcomes import Outcomes
from tfrec_fusion.experiments.planning import minimum_effect
from tfrec_fusion.experiments.sample_ratio import SampleRatio, check_sample_ratio

CLOCKS = 1e-4
"""Below this p-value, units of two arms came at other times."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One arm and one metric.

    Attributes:
        metric, arm: their names.
        comparison: with the control; None where there is none, and `reason` says why.
        minimum_effect: the smallest difference that so many units find four times out of five.
        reason: why there is no comparison.
    """

    metric: str
    arm: str
    comparison: Comparison | None
    minimum_effect: float | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """`higher`, `lower`, `open` (not shown), or `none` where there is no comparison.

        By the always-valid interval where there is one.
        """
        one = self.comparison
        if one is None:
            return "none"
        low = one.low if one.always_low is None else one.always_low
        high = one.high if one.always_high is None else one.always_high
        return "higher" if low > 0 else "lower" if high < 0 else "open"

    def in_words(self, readout: Readout) -> str:
        """The verdict as a sentence."""
        verdict, one = self.verdict, self.comparison
        if one is None:
            return self.reason
        if not readout.believable:
            return "Not to be believed before what is wrong is mended."
        often = "however often one looked" if one.always_low is not None else "if this was the only look"
        if verdict == "open":
            return f"No difference is shown ({often})."
        return f"{self.metric} of {self.arm} is {verdict} than that of {readout.arms[0]} ({often})."


@dataclasses.dataclass(frozen=True)
class Readout:
    """All that is said of an experiment.

    Attributes:
        arms: the control first.
        counts: units of each.
        sample_ratio: whether they are as many as they should be.
        results: of each metric, each arm.
        confidence: of all comparisons of a metric together.
        effect: by metric, the difference for which always-valid intervals were tuned.
        notes: what was seen in the table and done about it.
        warnings: reasons not to believe the results.
    """

    arms: tuple[str, ...]
    counts: tuple[int, ...]
    sample_ratio: SampleRatio
    results: tuple[Result, ...]
    confidence: float
    effect: Mapping[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def believable(self) -> bool:
        """Whether nothing speaks against the results."""
        return not self.warnings

    def as_mapping(self) -> dict[str, Any]:
        """As JSON takes it."""
        values = dataclasses.asdict(self)
        values["sample_ratio"]["mismatch"] = self.sample_ratio.mismatch
        for result, one in zip(values["results"], self.results, strict=True):
            result["verdict"] = one.verdict
        return values


def readout(
    outcomes: Outcomes,
    *,
    shares: Sequence[float] | None = None,
    effect: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> Readout:
    """Reads an experiment out.

    Args:
        outcomes: sums of each unit, from `read_outcomes`.
        shares: of the arms, in their order; equal where None.
        effect: by metric, the difference that matters, in the metric's unit, chosen before the data are seen.
            Metrics without one have intervals for a single look alone.
        confidence: of all comparisons of a metric together.

    Returns:
        Sample ratio, comparisons and warnings.

    Raises:
        ExperimentError: fewer than two arms, or shares that do not fit.
    """
    check_share("confidence", confidence)
    if effect is not None and (
        not isinstance(effect, Mapping) or not all(isinstance(one, (int, float)) for one in effect.values())
    ):
        raise ExperimentError(f"`effect` must be a number for each metric. Received: {effect!r}.")
    effect = dict(effect or {})
    if unknown := sorted(set(effect) - set(outcomes.sums)):
        raise ExperimentError(
            f"`effect` must name metrics ({', '.join(outcomes.sums)}). Received: {', '.join(unknown)}."
        )
    if len(outcomes.arms) < 2:
        raise ExperimentError(
            f"An experiment has at least two arms. Received: {', '.join(outcomes.arms) or 'none'}. Name all"
            " arms,"
            " also one without traffic."
        )
    counts = outcomes.counts()
    equal = np.full(len(counts), 1 / len(counts))
    ratio = check_sample_ratio(counts, equal if shares is None else np.asarray(shares))
    level = 1 - (1 - confidence) / (len(outcomes.arms) - 1)
    results = [
        _result(outcomes, metric, index, effect.get(metric), level)
        for metric in outcomes.sums
        for index in range(1, len(outcomes.arms))
    ]
    return Readout(
        outcomes.arms,
        tuple(map(int, counts)),
        ratio,
        tuple(results),
        confidence,
        effect,
        outcomes.notes,
        tuple(_warnings(outcomes, ratio)),
    )


def _result(outcomes: Outcomes, metric: str, arm: int, scale: float | None, level: float) -> Result:
    numerator, denominator = outcomes.sums[metric]
    rows = [outcomes.arm == 0, outcomes.arm == arm]
    sides = [(numerator[row], denominator[row]) for row in rows]
    before = outcomes.covariates
    covariates = None if before is None else (before[rows[0]], before[rows[1]])
    try:
        one = compare(sides[0], sides[1], covariates=covariates, scale=scale, confidence=level)
        std = one.standard_error / np.sqrt(1 / len(sides[0][0]) + 1 / len(sides[1][0]))
        total = len(sides[0][0]) + len(sides[1][0])
        shares = [len(side[0]) / total for side in sides]
        smallest = minimum_effect(total, std, shares=shares, confidence=level) if std else None
    except ExperimentError as error:
        return Result(metric, outcomes.arms[arm], None, None, str(error))
    return Result(metric, outcomes.arms[arm], one, smallest)


def _warnings(outcomes: Outcomes, ratio: SampleRatio) -> list[str]:
    warnings = []
    if ratio.mismatch:
        seen = ", ".join(
            f"{name}: {count:,} (expected {expected:,.0f})"
            for name, count, expected in zip(outcomes.arms, ratio.counts, ratio.expected, strict=True)
        )
        warnings.append(
            f"Sample-ratio mismatch: {seen}; p = {ratio.always_valid_p:.2g}. The split, the log or the"
            " reading is"
            " broken, and no result below can be believed before it is mended."
        )
    units = len(outcomes.arm) + outcomes.crossed
    if outcomes.crossed > 0.01 * units:
        warnings.append(
            f"{outcomes.crossed:,} of {units:,} units were in more than one arm. The hash gives each unit"
            " one: was the"
            " salt or a share changed, or is the unit another than was assigned?"
        )
    for index, name in enumerate(outcomes.arms[1:], 1):
        first = [
            values[np.isfinite(values)]
            for values in (outcomes.first[outcomes.arm == arm] for arm in (0, index))
        ]
        if min(map(len, first)) >= 2 and stats.ks_2samp(*first, method="asymp").pvalue < CLOCKS:
            warnings.append(
                f"Units of {name!r} came at other times than those of {outcomes.arms[0]!r}: the arms did not"
                " run at the"
                " same time, or clocks differ."
            )
    return warnings


def spread(outcomes: Outcomes, metric: str) -> tuple[float, float]:
    """A metric over all arms and the standard deviation of a unit's influence on it, which planning takes.

    Args:
        outcomes: of an earlier period, or of an experiment.
        metric: one of `outcomes.sums`.
    """
    ratio, moved = influence(*outcomes.sums[metric])
    return ratio, float(moved.std(ddof=1)) if len(moved) > 1 else 0.0
