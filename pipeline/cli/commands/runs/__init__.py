"""`tfrec runs`: a file for each of its commands."""

from pipeline.cli.command import Group, Section

runs = Group("runs", __name__, Section.LOOP, help="Runs of a configuration: list, compare, clean.")
