"""`tfrec vertex`: a file for each of its commands."""

from pipeline.cli.command import Group, Section

vertex = Group(
    "vertex", __name__, Section.CLOUD, help="Run the pipeline on Vertex AI (docs/howto/vertex.md)."
)
