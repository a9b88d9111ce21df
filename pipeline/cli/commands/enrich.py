"""`tfrec enrich`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(
    Section.RUN,
    """
    tfrec enrich shop.yaml                    asks what has no answer yet; `tfrec run` then reads it
    tfrec enrich shop.yaml --estimate         what that would cost, and the first question
    tfrec enrich shop.yaml --show 5 --set enrich.budget_tokens=100000
    """,
    resumes=True,
)
@configured
@click.option(
    "--estimate", is_flag=True, help="ask nothing: say how much there is to ask, and show a question"
)
@click.option(
    "--show", type=click.IntRange(0), default=3, metavar="N", help="show so many texts (default: 3)"
)
def enrich(chosen: Chosen, estimate: bool, show: int) -> int:
    """Have a language model write about the items, as the key `enrich` of a configuration says.

    Answers are kept in the configuration's folder: what did not change is not asked again, and a run that was
    killed goes on where it was. The key of the endpoint is read from the environment variable that
    `enrich.endpoint.key_variable` names.
    """
    from pipeline.runner import enriching

    config = chosen.load()
    return enriching.estimate(config) if estimate else enriching.run(config, show)
