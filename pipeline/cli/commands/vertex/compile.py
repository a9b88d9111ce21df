"""`tfrec vertex compile`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, quiet_tensorflow


@command(Section.CLOUD, "tfrec vertex compile shop.yaml --output shop.json")
@configured
@click.option(
    "--output",
    metavar="FILE",
    default="pipeline.json",
    help="the file that receives the spec (default: pipeline.json)",
)
def compile(chosen: Chosen, output: str) -> int:
    """Write the pipeline's spec to a file."""
    quiet_tensorflow()
    from pipeline.vertex import runner

    return runner.compile_to(chosen.load(), output)
