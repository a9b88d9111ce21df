"""`tfrec experiment interleave`."""

from __future__ import annotations

import pathlib

import click

from pipeline.cli.command import Section, command


@command(
    Section.LOOP,
    """
    tfrec experiment interleave lists-old.parquet lists-new.parquet --output shown.parquet
    tfrec experiment interleave old.csv new.csv --output shown.csv -k 5 --unit customer --item sku
    """,
)
@click.argument("first", help="a table of lists, as `tfrec batch` writes it: CSV, JSON or Parquet")
@click.argument("second", help="another one")
@click.option("--output", required=True, metavar="FILE", help="receives the lists: .parquet or .csv")
@click.option("-k", type=click.IntRange(1), default=10, help="how many items a list has (default: 10)")
@click.option("--salt", default="interleaving", help="another one gives users other lists")
@click.option("--unit", default="user_id", help="column of the user (default: user_id)")
@click.option("--item", default="item_id", help="column of the item (default: item_id)")
@click.option("--rank", default="rank", help="column of the rank (default: rank)")
def interleave(
    first: str, second: str, output: str, k: int, salt: str, unit: str, item: str, rank: str
) -> int:
    """Make one list of two for each user, to see whose items are clicked."""
    from tfrec_fusion import files
    from tfrec_fusion.experiments import interleaved_lists
    from tfrec_fusion.experiments.checks import ExperimentError

    path = pathlib.Path(output)
    if path.suffix not in (".parquet", ".csv"):
        raise ExperimentError(f"`--output` must end in .parquet or .csv. Received: {output!r}.")
    one, two = (interleaved_lists.read_columns(table, (unit, item), rank) for table in (first, second))
    lists = interleaved_lists.interleave(one, two, k, salt=salt, unit=unit, item=item, rank=rank)
    with files.whole_file(path, binary=True) as stream:
        if path.suffix == ".csv":
            stream.write(lists.to_csv(index=False).encode())
        else:
            lists.to_parquet(stream, index=False)
    users = lists[unit].nunique()
    alone = lists.loc[lists["team"] == "", unit].nunique()
    print(f"{users:,} users, {len(lists):,} items in {output}")
    if alone:
        print(f"{alone:,} users are in one table alone: their lists decide nothing")
    return 0
