"""`tfrec rank`."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli import requests
from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe
from tfrec_fusion.export.request import RequestError, is_blank


@command(
    Section.ASK,
    """
    tfrec rank --user 42 --items 50,172
    tfrec rank --user 42 --text "A film that was never in the catalogue"
    """,
)
@requests.inputs_of("rank")
@click.option("--text", "texts", multiple=True, help="a candidate that is in no catalogue, by its text")
def rank(
    url: str, config: str | None, context: tuple[str, ...], texts: tuple[str, ...], **values: Any
) -> int:
    """Score candidates for somebody."""
    from tfrec_fusion.serving.client.client import Client

    given = requests.given_inputs("rank", values, context)
    ids, written = given.pop("item_ids", []), [text for text in texts if not is_blank(text)]
    candidates = ids + [""] * len(written)
    if len(written) < len(texts):
        requests.note(f"--text: {len(texts) - len(written)} of white space alone left out")
    if not candidates:
        raise RequestError(
            "There is nothing to rank. Give --items, or --text for an item that is in no catalogue."
        )
    with requests.explained("ranking", config), Client.connect(url, "ranking") as client:
        answer = client.rank(item_ids=candidates, texts=[""] * len(ids) + written, **given)
    requests.tell_unknown({**given, "item_ids": ids}, answer.known_user, answer.unknown_items)
    titles = answer.pop("titles")
    heads = sorted(answer)
    print("  ".join(f"{safe(head):>8}" for head in heads) + "        id  title")
    by = "score" if "score" in heads else heads[-1]
    for index in sorted(range(len(candidates)), key=lambda index: -answer[by][index]):
        scores = "  ".join(f"{answer[head][index]:>8.3f}" for head in heads)
        print(f"{scores}  {safe(candidates[index]) or 'new':>8}  {safe(titles[index]) or '(unknown)'}")
    return 0
