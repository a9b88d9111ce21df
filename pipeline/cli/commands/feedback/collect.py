"""`tfrec feedback collect`."""

from __future__ import annotations

import sys

import click

from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe


@command(
    Section.LOOP,
    """
    tfrec feedback collect log/ --output impressions/
    tfrec feedback collect "logs/server-*" --output impressions/
    """,
)
@click.argument("log", help="the folder of a log, or a glob of several servers' folders")
@click.option("--output", required=True, metavar="FOLDER", help="receives the table, a file a day")
@click.option(
    "--late-days",
    type=int,
    default=30,
    help="feedback later than so many days changes the table no more (default: 30)",
)
def collect(log: str, output: str, late_days: int) -> int:
    """Make a table of a log: each list and each event once, feedback beside what it is about."""
    from tfrec_fusion.impressions.collecting import collect as collect_log

    result = collect_log(log, output, late_days=late_days)
    print(
        f"{result.new_shown:,} items shown and {result.new_events:,} events are new; days written:"
        f" {', '.join(result.days) or 'none'}."
    )
    print(
        f"{safe(output)}: {result.shown:,} items shown, {result.events:,} events, {result.unmatched:,} of"
        " which are about nothing that was shown so far."
    )
    if result.missing:
        print(f"Nothing was shown on {', '.join(result.missing)}.", file=sys.stderr)
    for reason, count in sorted(result.faults.items()):
        print(f"{count:,} lines were left out: {safe(reason)}", file=sys.stderr)
    return 0
