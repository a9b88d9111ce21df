"""`tfrec ablate`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, Several, command
from pipeline.cli.options import Chosen, configured, json_file, quiet_tensorflow


@command(
    Section.STUDY,
    """
    tfrec ablate my.yaml
    tfrec ablate my.yaml --variants text fusion --seeds 1 2 3
    tfrec ablate my.yaml --variants fusion=film --epochs 5 --json figures.json
    """,
)
@configured
@click.option(
    "--seeds",
    cls=Several,
    type=int,
    default=[1, 2, 3],
    metavar="N ...",
    help="each trains every variant (default: 1 2 3)",
)
@click.option(
    "--variants",
    cls=Several,
    metavar="NAME ...",
    help="groups (text, fusion, history) or variants (fusion=film); all where left out",
)
@click.option("--epochs", type=int, help="at most so many, for a quicker, rougher answer")
@json_file("a file that receives the figures of every run")
def ablate(
    chosen: Chosen,
    seeds: tuple[int, ...],
    variants: tuple[str, ...],
    epochs: int | None,
    json_path: str | None,
) -> int:
    """Train the retrieval model with one part changed at a time, and compare."""
    quiet_tensorflow()
    from pipeline.studies import ablation
    from tfrec_fusion import files

    results = ablation.ablate(chosen.load(), list(seeds), list(variants), epochs, ablation.Console())
    print("\n" + ablation.table(results))
    if json_path:
        files.write_json(json_path, results)
    return 0
