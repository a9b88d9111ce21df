"""`tfrec drift`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, json_file, quiet_tensorflow
from pipeline.config.terminal import safe

if TYPE_CHECKING:
    from tfrec_fusion.in_memory.drift import Drift


@command(
    Section.LOOP,
    """
    tfrec drift shop.yaml
    tfrec drift shop.yaml --periods 8 --max-distance 0.1 --max-drop 0.02
    """,
)
@configured
@click.option("--periods", type=click.IntRange(1, 100), default=5, help="how many (default: 5)")
@click.option(
    "--max-distance",
    type=float,
    help="end with code 2 where a distance of the newest period is above, from 0 to 1",
)
@click.option(
    "--max-drop",
    type=float,
    help="likewise where its NDCG@10 is lower than the first period's by more, with the whole interval",
)
@json_file("writes what was measured there as JSON")
def drift(
    chosen: Chosen, periods: int, max_distance: float | None, max_drop: float | None, json_path: str | None
) -> int:
    """Say how far data, features, scores and quality moved since the pushed model was trained."""
    quiet_tensorflow()
    config = chosen.load()
    from pipeline.updating.drifting import measure_drift
    from tfrec_fusion import files

    found, reasons = measure_drift(config, periods=periods, max_distance=max_distance, max_drop=max_drop)
    _print(found)
    for reason in reasons:
        print(safe(reason))
    if json_path:
        files.write_json(json_path, {**found.as_mapping(), "reasons": reasons})
    return 2 if reasons else 0


def _print(found: Drift) -> None:
    print(f"{found.rows:,} choices before; distances are Jensen-Shannon divergences from these\n")
    print(
        f"{'period from':<18}{'choices':>10}{'users':>9}{'new users':>11}{'new items':>11}{'ndcg@10':>9}"
        "  farthest"
    )
    for one in found.periods:
        day = datetime.datetime.fromtimestamp(one.start, datetime.timezone.utc)
        shares = [
            "–" if value is None else f"{value:.{digits}{kind}}"
            for value, digits, kind in ((one.new_users, 1, "%"), (one.new_items, 1, "%"), (one.ndcg, 4, "f"))
        ]
        farthest = sorted(one.distances.items(), key=lambda pair: -pair[1])[:3]
        shown = f"{shares[0]:>11}{shares[1]:>11}{shares[2]:>9}"
        row = f"{day:%Y-%m-%d %H:%M}  {one.rows:>10,}{one.users:>9,}{shown}"
        print(row, "", ", ".join(f"{safe(name)} {value:.3f}" for name, value in farthest))
