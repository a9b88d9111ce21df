"""`tfrec report`."""

from __future__ import annotations

from pipeline.cli.command import Section, command
from pipeline.cli.options import Chosen, configured


@command(Section.RUN, "tfrec report shop.yaml                   then open runs/shop/report/index.html")
@configured
def report(chosen: Chosen) -> int:
    """Write a page about the latest run, and its model card."""
    from pipeline.runner.console import Table

    config = chosen.load()
    with Table(config.home / "logs" / "report.log", f"{config.name}: {config.home}") as table:
        table.begin("report")
        # Imported here, while the table has the terminal: TensorFlow is loud.
        from pipeline.report.page import write_report

        page = write_report(config, table.doing)
        table.end("done", str(page))
    print(f"\nOpen {page.as_uri()} in a browser. The model card is {page.parent / 'model_card.md'}.")
    return 0
