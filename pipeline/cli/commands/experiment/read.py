"""`tfrec experiment read`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import json_file
from pipeline.cli.outcome_options import chosen, columns, pairs
from pipeline.config.terminal import safe, wrapped

if TYPE_CHECKING:
    from tfrec_fusion.experiments.results import Readout


@command(
    Section.LOOP,
    """
    tfrec experiment read impressions/ --experiment ranker --arms old=0.5 --arms new=0.5
    tfrec experiment read impressions/ --experiments experiments.json --page page.html
    tfrec experiment read orders.csv --unit customer --arm variant --metric bought --id order --time ""
    """,
)
@click.argument("table", help="a folder of impressions, or a table: CSV, JSON or Parquet")
@columns
@click.option(
    "--arms", multiple=True, metavar="NAME=SHARE", help="the arms and their shares, the control first"
)
@click.option(
    "--effect",
    multiple=True,
    metavar="METRIC=NUMBER",
    help="the difference that matters, as planned: then intervals hold however often you look",
)
@click.option("--confidence", type=float, help="of the intervals (default: 0.95)")
@json_file("writes the readout there as JSON")
@click.option("--page", metavar="FILE", help="writes a page of it there")
def read(
    table: str,
    experiment: str,
    experiments: str | None,
    arms: tuple[str, ...],
    effect: tuple[str, ...],
    confidence: float | None,
    json_path: str | None,
    page: str | None,
    **given: Any,
) -> int:
    """Read an experiment out: is it sound, and what did each arm do?"""
    from tfrec_fusion import files
    from tfrec_fusion.experiments.checks import ExperimentError
    from tfrec_fusion.experiments.outcome_files import read_table
    from tfrec_fusion.experiments.outcomes import read_outcomes
    from tfrec_fusion.experiments.results import readout

    one, reading, rest = chosen(experiments, experiment, given)
    if one is not None and one.interleave:
        raise ExperimentError(
            f"An experiment that interleaves has no users of one arm. Received: {one.name!r}. Read it with"
            " `tfrec experiment prefer`."
        )
    shares = pairs(arms, "--arms") if arms else {arm.name: arm.share for arm in one.arms} if one else {}
    name = experiment or (one.name if one else "")
    outcomes = read_outcomes(read_table(table, reading), reading, name, tuple(shares))
    effects = pairs(effect, "--effect") if effect else rest.get("effect")
    level = confidence if confidence is not None else rest.get("confidence", 0.95)
    result = readout(outcomes, shares=tuple(shares.values()) or None, effect=effects, confidence=level)
    _print(result)
    if json_path:
        files.write_json(json_path, result.as_mapping())
    if page:
        from pipeline.report.experiment import write_page

        print(f"\nOpen {write_page(page, result, name or table).as_uri()} in a browser.")
    return 0


def _print(result: Readout) -> None:
    for arm, count, expected in zip(result.arms, result.counts, result.sample_ratio.expected, strict=True):
        print(f"{safe(arm):20} {count:>12,} units (expected {expected:,.0f})")
    for warning in result.warnings:
        print(wrapped("WRONG  ", warning))
    for note in result.notes:
        print(wrapped("NOTE   ", note))
    for one in result.results:
        print(f"\n{safe(one.metric)}: {safe(one.arm)} against {safe(result.arms[0])}")
        if one.comparison is None:
            print(wrapped("  ", one.reason))
            continue
        found = one.comparison
        print(f"  {found.value:.6g} against {found.control:.6g}, {found.relative:+.1%}")
        print(
            f"  difference {found.difference:+.4g}; this look alone: [{found.low:+.4g}, {found.high:+.4g}],"
            f" p = {found.p_value:.2g}"
        )
        if found.always_low is not None:
            print(
                f"  however often you look: [{found.always_low:+.4g}, {found.always_high:+.4g}],"
                f" p = {found.always_p:.2g}"
            )
        if found.variance_kept < 1:
            print(f"  CUPED left {found.variance_kept:.0%} of the variance")
        if one.minimum_effect is not None:
            print(f"  so many units find a difference of {one.minimum_effect:.3g} four times out of five")
        print(wrapped("  ", one.in_words(result)))
