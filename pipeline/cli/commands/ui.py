"""`tfrec ui`."""

from __future__ import annotations

import threading

import click

from pipeline.cli import options
from pipeline.cli.command import Section, command


@command(
    Section.RUN,
    """
    tfrec ui
    tfrec ui --url http://127.0.0.1:9000 --model retrieval
    tfrec ui --config shop.yaml                 with the pictures of the run's items
    """,
)
@click.option(
    "--url",
    default="http://127.0.0.1:8501",
    help="the model server's REST address, TF Serving's too (default: http://127.0.0.1:8501)",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="a model to offer; may be given several times (default: those that `tfrec run` pushes)",
)
@click.option("--config", help="of the run that is served, for its pictures and its port")
@options.page_port
def ui(url: str, models: tuple[str, ...], config: str | None, ui_port: int | None) -> int:
    """Serve a page to try the models of a server that runs, for this machine only."""
    from pipeline.onboarding.page import serve_page
    from tfrec_fusion.export.request import RequestError
    from tfrec_fusion.serving.page.server import MODELS, served_names

    names = served_names(url, models or MODELS)
    if missing := [name for name in models if name not in names]:
        raise RequestError(f"`--model` must name models that {url} serves. Received: {', '.join(missing)}.")
    if not names:
        raise RequestError(f"{url} serves none of {', '.join(MODELS)}. Name its models: --model NAME.")
    chosen = options.Chosen(config).load() if config else None
    with serve_page(url, names, ui_port, chosen):
        threading.Event().wait()
    return 0
