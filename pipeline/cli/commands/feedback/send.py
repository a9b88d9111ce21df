"""`tfrec feedback send`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe
from tfrec_fusion.impressions.contract import KINDS


@command(
    Section.LOOP,
    """
    tfrec feedback send --request 0006a1b2c3d4e5 --item 42 --kind click
    tfrec feedback send --request 0006a1b2c3d4e5 --item 42 --kind dwell --value 31.5
    """,
)
@click.option("--request", "request_id", required=True, help="id of the answer that the item was in")
@click.option("--item", required=True, help="the item's id")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="what came of it")
@click.option("--value", type=float, help="how much: an amount, seconds of dwell (default: 1)")
@click.option(
    "--event", "event_id", help="id of the event: the same one twice counts once (default: a new one)"
)
@click.option(
    "--url",
    default="http://127.0.0.1:8501",
    help="a server with --impressions (default: http://127.0.0.1:8501)",
)
def send(request_id: str, item: str, kind: str, value: float | None, event_id: str | None, url: str) -> int:
    """Say what came of an item that was shown."""
    from tfrec_fusion.serving.client.client import Client

    with Client.connect(url) as client:
        event = client.feedback(request_id, item, kind, value=value, event_id=event_id)
    print(f"{event.kind} {event.value:g} of {safe(event.item)} in {safe(event.request_id)}: {event.event_id}")
    return 0
