"""`tfrec forget`."""

from __future__ import annotations

import sys

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, quiet_tensorflow
from pipeline.config.terminal import safe


@command(
    Section.LOOP,
    """
    tfrec forget shop.yaml --user 42
    tfrec forget shop.yaml --user 42 --log log/ --impressions impressions/
    """,
)
@configured
@click.option("--user", required=True, help="the user's id, as in the tables")
@click.option(
    "--log", multiple=True, metavar="FOLDER", help="a log of impressions; may be given several times"
)
@click.option(
    "--impressions",
    multiple=True,
    metavar="FOLDER",
    help="a table of impressions; may be given several times",
)
@click.option("--key-file", default="", help="the key of their pseudonyms (default: that beside each log)")
def forget(
    chosen: Chosen, user: str, log: tuple[str, ...], impressions: tuple[str, ...], key_file: str
) -> int:
    """Take a user out of copies, logs and caches, and say what still holds them."""
    quiet_tensorflow()
    from pipeline.runner import forgetting
    from pipeline.runner.history import blessed_of

    config = chosen.load()
    done = forgetting.forget(
        config, user, blessed=blessed_of(config), logs=log, tables=impressions, key_file=key_file
    )
    for path in done.removed:
        print(f"removed {safe(path)}")
    if log or impressions:
        print(f"{done.rows:,} lines and rows of impressions removed")
    for path in done.holding:
        print(f"still holds {safe(user)}, until the next training pushes another model: {safe(path)}")
    for path, rows in done.sources.items():
        print(
            f"{safe(path)}: {rows:,} rows name {safe(user)}; the next training learns them again unless you"
            " remove them.",
            file=sys.stderr,
        )
    return 0
