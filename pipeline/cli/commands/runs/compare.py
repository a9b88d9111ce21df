"""`tfrec runs compare`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(
    Section.LOOP,
    """
    tfrec runs compare shop.yaml
    tfrec runs compare shop.yaml --first 2026-11-23 --second -1
    """,
)
@configured
@click.option("--first", default="-2", help="the beginning of a run's start, or -2 (default: the one before)")
@click.option("--second", default="-1", help="likewise (default: the latest)")
def compare(chosen: Chosen, first: str, second: str) -> int:
    """Set two runs beside each other. `tfrec report --against` compares models user by user."""
    from pipeline.runner import history

    table = history.rows(chosen.load())
    rows = [history.chosen(table, name) for name in (first, second)]
    print(f"{'':<32}{rows[0].started:>22}{rows[1].started:>22}{'change':>12}")
    for name, before, after in history.differences(*rows):
        shown = ["–" if value is None else f"{value:.6g}" for value in (before, after)]
        change = "" if before is None or after is None else f"{after - before:+.4g}"
        print(f"{name:<32}{shown[0]:>22}{shown[1]:>22}{change:>12}")
    return 0
