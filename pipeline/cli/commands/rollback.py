"""`tfrec rollback`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(
    Section.LOOP,
    """
    tfrec rollback shop.yaml
    tfrec rollback shop.yaml --model retrieval --to 1796000000
    """,
)
@configured
@click.option("--model", help="retrieval, ranking or recommender (default: each that has an earlier version)")
@click.option("--to", type=int, metavar="VERSION", help="which version (default: the one before)")
def rollback(chosen: Chosen, model: str | None, to: int | None) -> int:
    """Serve an earlier version again; a server that is running takes it by itself."""
    from pipeline.runner.rollback import roll_back

    for done in roll_back(chosen.load(), model, to):
        print(f"{done.kind}: {done.restored} in place of {done.withdrawn}, as {done.folder}")
    return 0
