"""`tfrec doctor`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command


@command(
    Section.START,
    """
    tfrec doctor
    tfrec doctor --json > environment.json                                  for an issue
    """,
)
@click.option("--json", "as_json", is_flag=True, help="as JSON, for an issue")
def doctor(as_json: bool) -> int:
    """Say what this machine has, what is missing, and how to get it."""
    from pipeline.onboarding import doctor

    return doctor.doctor(as_json)
