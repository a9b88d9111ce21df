"""`tfrec validate`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, findings_as_json


@command(
    Section.START,
    """
    tfrec validate shop.yaml
    tfrec validate shop.yaml --set split.method=leave_last_out
    """,
)
@configured
@findings_as_json
def validate(chosen: Chosen, as_json: bool) -> int:
    """Check a configuration against its tables, in seconds."""
    from pipeline.onboarding import getting_started

    return getting_started.validate(chosen.load(), chosen.name, as_json)
