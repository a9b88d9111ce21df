"""`tfrec tune`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured, json_file, quiet_tensorflow


@command(
    Section.STUDY,
    """
    tfrec tune my.yaml --minutes 30
    tfrec tune my.yaml --minutes 5 --epochs 3 --json trials.json
    """,
)
@configured
@click.option("--minutes", type=float, default=30.0, help="of training (default: 30)")
@click.option("--seed", type=int, default=1, help="of what is tried, and of training (default: 1)")
@click.option("--epochs", type=int, help="at most so many a trial, for quicker, rougher answers")
@json_file("a file that receives all trials")
def tune(chosen: Chosen, minutes: float, seed: int, epochs: int | None, json_path: str | None) -> int:
    """Look for better settings of the retrieval model, for so many minutes."""
    quiet_tensorflow()
    from pipeline.studies import ablation, tuning
    from tfrec_fusion import files

    results = tuning.tune(chosen.load(), minutes, seed, epochs, ablation.Console())
    print("\n" + tuning.advice(results, chosen.name))
    if json_path:
        files.write_json(json_path, results)
    return 0
