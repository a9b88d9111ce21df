"""`tfrec feedback`: a file for each of its commands."""

from pipeline.cli.command import Group, Section

feedback = Group(
    "feedback", __name__, Section.LOOP, help="What was shown, and what came of it (docs/howto/feedback.md)."
)
