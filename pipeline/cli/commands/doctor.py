"""`tfrec doctor`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import findings_as_json


@command(
    Section.START,
    """
    tfrec doctor
    tfrec doctor --json > environment.json                                  for an issue
    """,
)
@findings_as_json
def doctor(as_json: bool) -> int:
    """Say what this machine has, what is missing, and how to get it."""
    from pipeline.onboarding import doctor

    return doctor.doctor(as_json)
