"""`tfrec vertex check`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, findings_as_json, quiet_tensorflow


@command(
    Section.CLOUD,
    """
    tfrec vertex check shop.yaml
    tfrec vertex check shop.yaml --offline
    """,
)
@configured
@click.option("--offline", is_flag=True, help="ask Google Cloud nothing")
@findings_as_json
def check(chosen: Chosen, offline: bool, as_json: bool) -> int:
    """Say what would go wrong, and how to mend it, before it costs anything."""
    quiet_tensorflow()
    from pipeline.vertex import runner

    return runner.check(chosen.load(), offline, as_json)
