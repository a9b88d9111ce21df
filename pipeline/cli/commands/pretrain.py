"""`tfrec pretrain`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, quiet_tensorflow


@command(
    Section.STUDY,
    """
    tfrec pretrain films.yaml books.yaml --output tower
    tfrec pretrain films.yaml --output tower --set retrieval.tower.dim=32 --epochs 10
    tfrec run shop.yaml --set retrieval.warm_start=tower
    """,
)
@click.argument("configs", nargs=-1, required=True, help="YAML files of domains, or shipped ones' names")
@click.option("--output", required=True, metavar="FOLDER", help="receives the pretrained tower")
@click.option("--epochs", type=click.IntRange(1), help="at most so many, instead of the configurations'")
@click.option("--seed", type=click.IntRange(0), help="of training, instead of the configurations'")
@click.option("--root", help="folder that receives everything else, instead of the configurations'")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="another value for a key of all domains; may be given several times",
)
def pretrain(
    configs: tuple[str, ...],
    output: str,
    epochs: int | None,
    seed: int | None,
    root: str | None,
    overrides: tuple[str, ...],
) -> int:
    """Train a tower of texts over several domains, for models of others to start from."""
    quiet_tensorflow()
    from pipeline.studies import ablation, pretraining

    domains = [Chosen(name, root, overrides).load() for name in configs]
    tower = pretraining.pretrain_domains(domains, output, epochs, seed, ablation.Console())
    print(f"\n{tower.words}")
    figure = tower.figures.get("val_ndcg_10")
    reached = (
        "" if figure is None else f": NDCG@10 {figure:.4f} of validation, among the items of all domains"
    )
    print(f"epoch {tower.figures['best_epoch']:.0f} of {tower.figures['epochs']:.0f}{reached}")
    print(f"\nStart a model of another domain from it:\n\n    retrieval:\n      warm_start: {output}")
    return 0
