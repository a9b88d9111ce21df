"""`tfrec scenario`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command


@command(
    Section.START,
    """
    tfrec scenario music
    tfrec scenario news --out tries/news
    """,
)
@click.argument("name", help="shop, news, friends, travel, music, courses or jobs")
@click.option("--out", metavar="FOLDER", help="receives the files (default: NAME here)")
@click.option("--seed", type=int, default=0, help="of the tables that are drawn (default: 0)")
def scenario(name: str, out: str | None, seed: int) -> int:
    """Write small generated tables of a kind of recommendation, and their configuration."""
    from pipeline.onboarding.scenarios import write_scenario

    return write_scenario(name, out or name, seed)
