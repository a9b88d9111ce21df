"""`tfrec experiment prefer`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command


@command(
    Section.LOOP,
    """
    tfrec experiment prefer shown.parquet clicks.csv
    tfrec experiment prefer shown.csv visits.csv --unit customer --item sku --metric clicked
    """,
)
@click.argument("lists", help="what `tfrec experiment interleave` wrote, as it was shown")
@click.argument("clicks", help="a table of users and items: CSV, JSON or Parquet")
@click.option("--unit", default="user_id", help="column of the user in both (default: user_id)")
@click.option("--item", default="item_id", help="column of the item in both (default: item_id)")
@click.option("--metric", metavar="COLUMN", help="a number; a row above 0 is a click (default: each row)")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.9999), default=0.95, help="of the intervals (default: 0.95)"
)
def prefer(lists: str, clicks: str, unit: str, item: str, metric: str | None, confidence: float) -> int:
    """Say which of two interleaved tables has the items that are clicked more."""
    from tfrec_fusion.experiments import interleaved_lists

    shown = interleaved_lists.read_columns(lists, (unit, item), team=True)
    events = interleaved_lists.read_columns(clicks, (unit, item), metric, what="clicks")
    found, elsewhere = interleaved_lists.prefer(
        shown, events, unit=unit, item=item, outcome=metric, confidence=confidence
    )
    print(f"{found.units:,} users clicked; {elsewhere:,} clicks were on what was not in their lists")
    print(f"preference {found.value:+.3f}, from -1 (the first table alone) to 1 (the second alone)")
    print(f"  this look alone: [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.2g}")
    print(
        f"  however often you look: [{found.always_low:+.3f}, {found.always_high:+.3f}],"
        f" p = {found.always_p:.2g}"
    )
    if found.always_low > 0 or found.always_high < 0:
        print(f"The {'second' if found.value > 0 else 'first'} is preferred.")
    else:
        print("Neither is shown to be preferred yet.")
    return 0
