"""`tfrec serve`."""

from __future__ import annotations

import contextlib
import pathlib
import sys

import click

from pipeline.cli import options
from pipeline.cli.command import Section, command
from tfrec_fusion.serving.launcher import Engine


@command(
    Section.RUN,
    """
    tfrec serve shop.yaml
    tfrec serve shop.yaml --rest_api_port 9000 --host 0.0.0.0
    tfrec serve shop.yaml --engine docker
    tfrec serve shop.yaml --ui                                              and a page to try it
    tfrec serve shop.yaml --ui --versions 2                                 two versions beside each other
    tfrec serve shop.yaml --impressions log/                                what is shown, to learn from
    tfrec serve shop.yaml --versions 2 --experiments experiments.json       two versions, an arm each
    tfrec serve shop.yaml --candidate                                       what was refused, to look at it
    """,
)
@options.configured
@options.server
@click.option(
    "--candidate", is_flag=True, help="serve what the latest run trained and did not push, to look at it"
)
@click.option(
    "--versions",
    type=click.IntRange(1),
    default=1,
    help="how many of each model's newest versions to serve beside each other (default: 1)",
)
@click.option(
    "--impressions",
    metavar="FOLDER",
    help="log what is shown, and take feedback at /v1/feedback (docs/howto/feedback.md); off by default",
)
@click.option(
    "--experiments",
    metavar="FILE",
    help="JSON of experiments: who gets which arm, and which version (docs/howto/experiments.md)",
)
@click.option("--exploration", metavar="FILE", help="JSON of how recommendations are explored")
@click.option("--ui", is_flag=True, help="also serve a page to try the models, for this machine only")
@options.page_port
def serve(
    chosen: options.Chosen,
    rest_api_port: int | None,
    host: str,
    engine: Engine,
    candidate: bool,
    versions: int,
    impressions: str | None,
    experiments: str | None,
    exploration: str | None,
    ui: bool,
    ui_port: int | None,
) -> int:
    """Serve the models that a run pushed, as TF Serving would."""
    from pipeline.runner import unpushed
    from tfrec_fusion.config import ConfigError
    from tfrec_fusion.experiments.assignment import read_experiments
    from tfrec_fusion.experiments.exploring import read_exploration
    from tfrec_fusion.serving.launcher import launch

    flags, own = [], {"impressions": impressions, "experiments": experiments, "exploration": exploration}
    for name, path in own.items():
        if not path:
            continue
        if engine not in ("auto", "embedded"):
            raise ConfigError(
                f"`--{name}` needs the embedded server. Received: --engine {engine}. Leave it out, or let the"
                " client do it (`Client.connect(..., impressions=…, experiments=…)`)."
            )
        engine = "embedded"
        kind = "folder" if name == "impressions" else "file"
        flags.append(f"--{name}_{kind}={pathlib.Path(path).expanduser().absolute()}")
    if experiments:
        read_experiments(experiments)  # said here, before models are loaded
    if exploration:
        read_exploration(exploration)
    config = chosen.load()
    summary = unpushed.read_summary(config.home)
    models = unpushed.candidates(config) if candidate else unpushed.served_models(config)
    if not models:
        reasons = "\n".join(unpushed.why(summary, "retrieval", chosen.name))
        raise ConfigError(f"No model has been pushed to {config.push_folder}. {reasons}")
    if candidate:
        refused = [kind for kind in models if pathlib.Path(models[kind]).parent.name == unpushed.CANDIDATES]
        print(f"Not blessed, to be looked at only: {', '.join(refused)}.", file=sys.stderr)
    elif words := unpushed.stands_in(config.home):
        print(f"retrieval is answered by {words}.", file=sys.stderr)
    for kind in config.kinds if summary and not candidate else ():
        if kind not in models:
            print("\n".join(unpushed.why(summary, kind, chosen.name)), file=sys.stderr)
    port = rest_api_port if rest_api_port is not None else config.serving.rest_port
    print(f"Loading {', '.join(models)}; the address follows when all of them can answer.", flush=True)
    with contextlib.ExitStack() as running:
        server = running.enter_context(
            launch(models, engine=engine, rest_port=port, host=host, versions=versions, flags=flags)
        )
        if ui:
            from pipeline.onboarding.page import serve_page

            running.enter_context(serve_page(server.url, server.names, ui_port, config))
        return server.wait()
