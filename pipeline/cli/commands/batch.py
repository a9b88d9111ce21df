"""`tfrec batch`."""

from __future__ import annotations

import time

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured
from tfrec_fusion.export.request import INPUTS


@command(
    Section.ASK,
    """
    tfrec batch movielens_100k --output out     everybody's recommendations, in Parquet files
    tfrec batch shop.yaml --output out --model retrieval -k 50 --format jsonl
    """,
)
@configured
@click.option("--output", required=True, help="folder that receives the files")
@click.option(
    "--model",
    type=click.Choice(["retrieval", "recommender"]),
    help="which pushed model to ask (default: the recommender, if there is one)",
)
@click.option(
    "-k",
    type=int,
    default=INPUTS["k"].default,
    help=f"how many items a user (default: {INPUTS['k'].default})",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "jsonl"]),
    default="parquet",
    help="kind of file (default: parquet)",
)
@click.option("--beam", multiple=True, metavar="ARG", help="e.g. --beam=--runner=FlinkRunner")
def batch(
    chosen: Chosen, output: str, model: str | None, k: int, file_format: str, beam: tuple[str, ...]
) -> int:
    """Write recommendations for everybody to files.

    Parquet files hold a row for each item: `user_id`, `rank` (from 1), `item_id`, `score`, `title`. A line of
    JSON holds a user: `user_id`, and the `items`, best first.
    """
    from pipeline.runner import batch, unpushed

    config = chosen.load()
    start = time.perf_counter()
    folder = unpushed.pushed_model(config, model, chosen.name)
    asked = (batch.users_of_last_run(config.home), folder, output, k, file_format)
    if "://" in output or beam:
        count = batch.write_recommendations(*asked, list(beam))
    else:
        count = batch.write_whole(*asked, config.home / "locks")
    print(f"{count:,} users answered by {folder} in {time.perf_counter() - start:.1f} s: {output}")
    return 0
