"""`tfrec runs clean`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, quiet_tensorflow


@command(Section.LOOP, "tfrec runs clean shop.yaml --keep 2")
@configured
@click.option("--keep", type=click.IntRange(1), default=1, help="how many runs stay (default: 1)")
def clean(chosen: Chosen, keep: int) -> int:
    """Remove what all but the last runs made; what is served, compared with or reused stays."""
    quiet_tensorflow()
    from pipeline.runner import history

    count, freed = history.clean(chosen.load(), keep)
    print(f"{count} runs removed; {freed / 1e6:.1f} MB are free.")
    return 0
