"""`tfrec run`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(
    Section.RUN,
    """
    tfrec run movielens_100k
    tfrec run shop.yaml --set text=none --root /tmp/runs
    tfrec run shop.yaml --set retrieval.training.epochs=5
    """,
    resumes=True,
)
@configured
def run(chosen: Chosen) -> int:
    """Run the pipeline of a configuration: tables to pushed models, with a line for each step."""
    from pipeline.runner import local, verdicts

    return verdicts.show(local.run(chosen.load()), chosen.name)
