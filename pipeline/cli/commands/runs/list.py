"""`tfrec runs list`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(Section.LOOP, "tfrec runs list shop.yaml")
@configured
def list(chosen: Chosen) -> int:
    """List runs: when, how long, how good, what was pushed."""
    from pipeline.runner import history

    rows = history.rows(chosen.load())
    print(f"{'started':<20}{'minutes':>8}{'interactions':>14}  figures; what was pushed")
    for row in rows:
        shown = [
            f"{kind} {name} {values[name]:.4f}"
            for kind, values in row.figures.items()
            for name in [name for name in history.FIGURES if name in values][:1]
        ]
        pushed = ", ".join(f"{kind} {version}" for kind, version in row.pushed.items()) or "nothing"
        print(
            f"{row.started:<20}{row.seconds / 60:>8.1f}{row.interactions:>14,}  {', '.join(shown)}; {pushed}"
        )
    return 0
