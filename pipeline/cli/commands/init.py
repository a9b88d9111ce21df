"""`tfrec init`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command


@command(
    Section.START,
    """
    tfrec init shop/
    tfrec init shop/ --name spring --out configs/spring.yaml
    tfrec init shop/ --interactions orders.csv --user buyer --item sku     where the guess is wrong
    """,
)
@click.argument("folder", help="holds the tables")
@click.option("--name", help="of the pipeline (default: the folder's)")
@click.option("--out", metavar="FILE", help="the YAML file (default: NAME.yaml here)")
@click.option("--force", is_flag=True, help="overwrite that file")
@click.option("--interactions", metavar="FILE", help="the table of interactions, where the guess is wrong")
@click.option("--items", metavar="FILE", help="the table of items, where the guess is wrong")
@click.option("--users", metavar="FILE", help="the table of users, where the guess is wrong")
@click.option("--user", metavar="COLUMN", help="the interactions' column of the user, likewise")
@click.option("--item", metavar="COLUMN", help="the interactions' column of the item, likewise")
@click.option("--time", metavar="COLUMN", help="the interactions' column of the time, likewise")
@click.option("--label", metavar="COLUMN", help="the interactions' column of the label, likewise")
@click.option(
    "--time-format", metavar="FORMAT", help="how the times are written, such as %d/%m/%Y %H:%M, ms or excel"
)
def init(folder: str, name: str | None, out: str | None, force: bool, **hints: str | None) -> int:
    """Look at a folder of CSV or Parquet files and write a first configuration."""
    from pipeline.onboarding import getting_started
    from tfrec_fusion.guessing.id_columns import Hints

    return getting_started.init(folder, name, out, force, Hints(**hints))
