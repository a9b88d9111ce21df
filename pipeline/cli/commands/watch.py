"""`tfrec watch`."""

from __future__ import annotations

import sys
import time

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, learning_on, quiet_tensorflow


@command(
    Section.LOOP,
    """
    tfrec watch shop.yaml                                     once, from cron
    tfrec watch shop.yaml --min-rows 5000 --max-distance 0.1
    tfrec watch shop.yaml --every 30                          each half hour, until Ctrl-C
    """,
)
@configured
@click.option(
    "--min-rows", type=int, help="update where so many interactions came since the last run or update"
)
@click.option(
    "--min-share",
    type=float,
    default=0.01,
    help="the same as a share of those that it read (default: 0.01)",
)
@click.option(
    "--max-distance",
    type=float,
    help="update where `tfrec drift` finds a larger distance in the newest period",
)
@click.option("--max-drop", type=float, help="update where it finds a larger drop of NDCG@10")
@click.option("--every", type=click.FloatRange(0.01), metavar="MINUTES", help="look again and again")
@learning_on
def watch(
    chosen: Chosen,
    min_rows: int | None,
    min_share: float,
    max_distance: float | None,
    max_drop: float | None,
    every: float | None,
    replay: float,
    epochs: int,
) -> int:
    """Look at the tables, and update where enough came or the data moved far enough."""
    quiet_tensorflow()
    config = chosen.load()
    from pipeline.updating.watching import Limits, watch
    from tfrec_fusion.config import ConfigError
    from tfrec_fusion.files import AtWork

    limits = Limits(min_rows, min_share, max_distance, max_drop)
    while True:
        code = 0
        try:
            _, report = watch(
                config, limits, replay=replay, epochs=epochs, say=lambda line: print(line, flush=True)
            )
            if report is not None:
                for reason in report["reasons"]:
                    print(f"not pushed; {reason}")
                for folder in report["versions"].values():
                    print(f"pushed to {folder}")
                code = 0 if report["pushed"] else 2
        except (ConfigError, AtWork) as error:
            # A file that is being written, a run that is at work: the next look may find it done.
            if every is None:
                raise
            print(error, file=sys.stderr, flush=True)
        if every is None:
            return code
        time.sleep(60 * every)
