"""`tfrec vertex submit`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, quiet_tensorflow


@command(
    Section.CLOUD,
    """
    tfrec vertex submit shop.yaml
    tfrec vertex submit shop.yaml --wait
    """,
)
@configured
@click.option("--offline", is_flag=True, help="ask Google Cloud nothing in the check")
@click.option("--force", is_flag=True, help="in spite of findings of the check")
@click.option("--wait", is_flag=True, help="until the run is over")
def submit(chosen: Chosen, offline: bool, force: bool, wait: bool) -> int:
    """Check, put what it reads into the bucket, and start it."""
    quiet_tensorflow()
    from pipeline.vertex import runner

    return runner.submit(chosen.load(), offline, force, wait)
