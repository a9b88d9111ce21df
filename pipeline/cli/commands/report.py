"""`tfrec report`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured
from tfrec_fusion.export.request import RequestError


@command(
    Section.RUN,
    """
    tfrec report shop.yaml                   then open runs/shop/report/index.html
    tfrec report shop.yaml --against shop_without_text.yaml
    tfrec report shop.yaml --against shop.yaml --against-root /runs/before
    """,
)
@configured
@click.option(
    "--against", metavar="CONFIG", help="compare the latest run with that of this configuration, on one page"
)
@click.option(
    "--against-root", metavar="FOLDER", help="where that run is, instead of its configuration's root"
)
def report(chosen: Chosen, against: str | None, against_root: str | None) -> int:
    """Write a page about the latest run, and its model card; or about two runs."""
    from pipeline.runner.console import Table

    config = chosen.load()
    if against is None and against_root is not None:
        raise RequestError("`--against-root` needs `--against`, the configuration of the other run.")
    other = None if against is None else Chosen(against, against_root).load()
    if other is not None and other.home == config.home:
        raise RequestError(
            f"`--against` must name another run. Received: {against}, whose run is in {other.home} too. Give"
            " `--against-root`, or another configuration."
        )
    with Table(config.home / "logs" / "report.log", f"{config.name}: {config.home}") as table:
        table.begin("report")
        # Imported here, while the table has the terminal: TensorFlow is loud.
        from pipeline.report.comparison import write_comparison
        from pipeline.report.page import write_report

        page = (
            write_report(config, table.doing)
            if other is None
            else write_comparison(config, other, table.doing)
        )
        table.end("done", str(page))
    if other is not None:
        print(f"\nOpen {page.as_uri()} in a browser.")
        return 0
    print(f"\nOpen {page.as_uri()} in a browser. The model card is {page.parent / 'model_card.md'}.")
    return 0
