"""`tfrec index`."""

from __future__ import annotations

import pathlib

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(
    Section.RUN,
    """
    tfrec index shop.yaml --items products-today.parquet
    tfrec index shop.yaml --items "products-*.csv" --max-removed-share 0.5
    """,
    resumes=True,
)
@configured
@click.option(
    "--items", required=True, help="a table of all items that are offered now: file or glob, as in training"
)
@click.option(
    "--max-removed-share",
    type=float,
    default=0.2,
    help="stop where more of the catalogue than this would leave (default: 0.2)",
)
def index(chosen: Chosen, items: str, max_removed_share: float) -> int:
    """Push new, changed and removed items to what is served, without training."""
    from pipeline.runner import local, verdicts
    from tfrec_fusion.config import ConfigError

    if not 0 <= max_removed_share <= 1:
        raise ConfigError(
            f"`--max-removed-share` must be from 0 to 1. Received: {max_removed_share}. It is a share, not a"
            " percentage."
        )
    table = str(pathlib.Path(items).expanduser().absolute())
    return verdicts.show_index(local.run_index(chosen.load(), table, max_removed_share))
