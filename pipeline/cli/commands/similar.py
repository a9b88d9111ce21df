"""`tfrec similar`."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli import requests
from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe
from tfrec_fusion.export.request import RequestError


@command(
    Section.ASK,
    """
    tfrec similar --item 50
    tfrec similar --item 50 --text-weight 1 --category Comedy     by what texts say, comedies alone
    tfrec similar --text "a film that is in no catalogue" -k 5
    """,
)
@requests.inputs_of("similar")
@click.option(
    "--model",
    type=click.Choice(["retrieval", "recommender"]),
    default="retrieval",
    help="whose likeness (default: retrieval)",
)
def similar(model: str, url: str, config: str | None, context: tuple[str, ...], **values: Any) -> int:
    """Ask for the items that are most like one."""
    from tfrec_fusion.serving.client.client import Client

    given = requests.given_inputs("similar", values, context)
    if "item_id" not in given and "text" not in given:
        raise RequestError("Like which item? Give --item, or --text for an item that is in no catalogue.")
    with requests.explained(model, config), Client.connect(url, model) as client:
        result = client.similar(**given)
        names = requests.category_names(client) if result.unknown_categories else []
    requests.tell_unknown(given, None, result.unknown_items)
    if given.get("item_id") in result.unknown_items:
        requests.note(f"--item: {given['item_id']!r} is in no catalogue; give --text to say what it is")
    for name in result.unknown_categories:
        requests.note(f"no item has the category {name!r}; {requests.nearest(name, names)}")
    for rank, item in enumerate(result, 1):
        print(f"{rank:>3}  {item.score:>8.3f}  {safe(item.item_id):>8}  {safe(item.title)}")
    if not result:
        requests.note("no item is left of what was asked for")
    return 0 if result else 1
