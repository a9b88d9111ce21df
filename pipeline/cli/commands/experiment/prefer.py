"""`tfrec experiment prefer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.command import Section, command

if TYPE_CHECKING:
    from tfrec_fusion.experiments import Preference


@command(
    Section.LOOP,
    """
    tfrec experiment prefer shown.parquet clicks.csv
    tfrec experiment prefer shown.csv visits.csv --unit customer --item sku --metric clicked
    tfrec experiment prefer impressions/ --experiments experiments.json
    """,
)
@click.argument("lists", help="what `tfrec experiment interleave` wrote, as it was shown; or impressions")
@click.argument("clicks", required=False, help="a table of users and items; impressions need none")
@click.option("--unit", help="column of the user (default: user_id, of impressions user)")
@click.option("--item", default="item_id", help="column of the item in both tables (default: item_id)")
@click.option(
    "--metric",
    metavar="COLUMN",
    help="a number; above 0 is a click (default: each row, of impressions click)",
)
@click.option("--experiments", metavar="FILE", help="of impressions: JSON of experiments")
@click.option("--experiment", default="", help="its name, where there are several")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 0.9999), default=0.95, help="of the intervals (default: 0.95)"
)
def prefer(
    lists: str,
    clicks: str | None,
    unit: str | None,
    item: str,
    metric: str | None,
    experiments: str | None,
    experiment: str,
    confidence: float,
) -> int:
    """Say which of two interleaved lists has the items that are clicked more."""
    from tfrec_fusion.experiments import interleaved_lists

    if clicks is None:
        _of_impressions(lists, unit or "user", metric or "click", experiments, experiment, confidence)
        return 0
    unit = unit or "user_id"
    shown = interleaved_lists.read_columns(lists, (unit, item), team=True)
    events = interleaved_lists.read_columns(clicks, (unit, item), metric, what="clicks")
    found, elsewhere = interleaved_lists.prefer(
        shown, events, unit=unit, item=item, outcome=metric, confidence=confidence
    )
    print(f"{found.units:,} users clicked; {elsewhere:,} clicks were on what was not in their lists")
    _say(found, ("first", "second"), "table")
    return 0


def _of_impressions(
    path: str, unit: str, metric: str, file: str | None, name: str, confidence: float
) -> None:
    from pipeline.cli.outcome_options import chosen
    from tfrec_fusion.experiments.interleaved_lists import prefer_logged
    from tfrec_fusion.experiments.outcome_files import read_table

    one, reading, _ = chosen(file, name, {"unit": unit, "metrics": (metric,), "id": ("request_id", "item")})
    arms = tuple(arm.name for arm in one.arms) if one else ()
    found, names, others = prefer_logged(
        read_table(path, reading),
        name or (one.name if one else ""),
        arms,
        unit=unit,
        outcome=metric,
        confidence=confidence,
    )
    print(f"{found.units:,} users clicked; {others:,} rows are of no list of both arms")
    _say(found, names, "arm")


def _say(found: Preference, names: tuple[str, str], what: str) -> None:
    first, second = names
    print(
        f"preference {found.value:+.3f}, from -1 (the {what} {first} alone) to 1 (the {what} {second} alone)"
    )
    print(f"  this look alone: [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.2g}")
    print(
        f"  however often you look: [{found.always_low:+.3f}, {found.always_high:+.3f}],"
        f" p = {found.always_p:.2g}"
    )
    if found.always_low > 0 or found.always_high < 0:
        print(f"The {what} {second if found.value > 0 else first} is preferred.")
    else:
        print("Neither is shown to be preferred yet.")
