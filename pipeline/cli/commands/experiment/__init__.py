"""`tfrec experiment`: a file for each of its commands."""

from pipeline.cli.command import Group, Section

experiment = Group(
    "experiment",
    __name__,
    Section.LOOP,
    help="Which version is better: plan and read experiments (docs/howto/experiments.md).",
)
