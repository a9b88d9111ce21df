"""`tfrec experiment plan`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import click

from pipeline.cli.command import Section, command
from pipeline.cli.outcome_options import chosen, columns


@command(
    Section.LOOP,
    """
    tfrec experiment plan --rate 0.04 --lift 0.05               units to find 5 % more of a rate of 4 %
    tfrec experiment plan --rate 0.04 --units 20000             what so many units find
    tfrec experiment plan --table impressions/ --lift 0.05      rate and spread from what was logged
    """,
)
@click.option(
    "--table", help="outcomes of an earlier period: rate and spread of the metric are taken from there"
)
@click.option("--rate", type=float, help="share of units with the outcome, instead of a table")
@click.option("--mean", type=float, help="mean of a unit, with --std, instead of a table")
@click.option("--std", type=float, help="standard deviation of a unit")
@click.option("--effect", type=float, help="the smallest difference that is to be found")
@click.option("--lift", type=float, help="the same as a share of the rate or mean: 0.05 for 5 %")
@click.option("--units", type=int, help="units of all arms together: what do they find?")
@click.option("--per-day", type=float, help="units that come a day, to say how long it takes")
@click.option("--shares", default="0.5,0.5", help="of the arms, the control first (default: 0.5,0.5)")
@click.option("--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)")
@click.option("--power", type=float, default=0.8, help="chance to find the effect (default: 0.8)")
@click.option(
    "--correlation", type=float, default=0.0, help="of the past with the metric, for CUPED (default: 0)"
)
@columns
def plan(
    table: str | None,
    rate: float | None,
    mean: float | None,
    std: float | None,
    effect: float | None,
    lift: float | None,
    units: int | None,
    per_day: float | None,
    shares: str,
    confidence: float,
    power: float,
    correlation: float,
    experiment: str,
    experiments: str | None,
    **given: Any,
) -> int:
    """Say how many units an experiment takes, or what so many find."""
    from tfrec_fusion.experiments.checks import ExperimentError
    from tfrec_fusion.experiments.planning import minimum_effect, sample_size

    if table is not None:
        level, spread = _of_table(table, experiment, experiments, given)
    elif rate is not None:
        if not 0 < rate < 1:
            raise ExperimentError(f"`--rate` must be above 0 and below 1. Received: {rate}.")
        level, spread = rate, math.sqrt(rate * (1 - rate))
    elif mean is not None and std is not None:
        level, spread = mean, std
    else:
        raise ExperimentError("Give `--table`, `--rate`, or `--mean` with `--std`.")
    if sum(value is not None for value in (effect, lift, units)) != 1:
        raise ExperimentError("Give one of `--effect`, `--lift` and `--units`.")
    options: dict[str, Any] = {
        "shares": _numbers(shares),
        "confidence": confidence,
        "power": power,
        "correlation": correlation,
    }
    print(f"metric {level:.6g}, standard deviation of a unit {spread:.6g}")
    for name, sequential in (("one look at the end", False), ("looks whenever you like", True)):
        if units is not None:
            found = minimum_effect(units, spread, sequential=sequential, **options)
            share = f" ({found / abs(level):.1%} of the metric)" if level else ""
            print(f"{name}: {units:,} units find a difference of {found:.4g}{share}")
            continue
        wanted = effect if effect is not None else (lift or 0.0) * level
        needed = sample_size(wanted, spread, sequential=sequential, **options)
        days = f", {needed / per_day:.1f} days" if per_day else ""
        print(f"{name}: a difference of {wanted:.4g} takes {needed:,} units{days}")
    return 0


def _of_table(
    table: str, experiment: str, experiments: str | None, given: dict[str, Any]
) -> tuple[float, float]:
    from tfrec_fusion.experiments.outcome_files import read_table
    from tfrec_fusion.experiments.outcomes import read_outcomes
    from tfrec_fusion.experiments.results import spread

    _, reading, _ = chosen(experiments, experiment, given)
    whole = dataclasses.replace(reading, arm="")  # whoever had which arm then
    return spread(read_outcomes(read_table(table, whole), whole), reading.metrics[0])


def _numbers(text: str) -> list[float]:
    from tfrec_fusion.experiments.checks import ExperimentError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ExperimentError(f"`--shares` must be numbers with commas. Received: {text!r}.") from None
