"""`tfrec demo`."""

from __future__ import annotations

from pipeline.cli import options
from pipeline.cli.command import Section, command


@command(
    Section.START,
    """
    tfrec demo
    DEMO_KEEP=0 tfrec demo
    """,
    resumes=True,
)
@options.settings
@options.server
@options.page_port
def demo(
    chosen: options.Chosen, rest_api_port: int | None, host: str, engine: str, ui_port: int | None
) -> int:
    """Run MovieLens 100K, serve it and ask it; DEMO_KEEP=0 stops the server at the end."""
    from pipeline.runner import local, verdicts

    config = chosen.load()
    status = verdicts.show(local.run(config), chosen.name)
    from pipeline.onboarding.demo import serve_and_ask
    from pipeline.runner.unpushed import served_models

    # A model that was not good enough is no reason to show nothing: another, or a baseline, is served.
    if not served_models(config):
        return status
    port = rest_api_port if rest_api_port is not None else config.serving.rest_port
    flags = [f"--rest_api_port={port}", f"--host={host}", f"--engine={engine}", f"--root={config.root}"]
    flags += [f"--set={override}" for override in chosen.overrides]
    return serve_and_ask(config, port, ["serve", chosen.name, *flags], ui_port) or status
