"""`tfrec explain`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import requests
from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe
from tfrec_fusion.export.request import INPUTS, RANKING_ONLY, RETRIEVAL_ONLY, RequestError, is_blank
from tfrec_fusion.serving.client.sentences import SENTENCES

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.explanations import Explanation

SMALLEST = 0.0005
"""What is printed as 0 is left out."""
UNFIT = {"retrieval": (*RANKING_ONLY, "label"), "recommender": ("label",), "ranking": RETRIEVAL_ONLY}
"""Inputs that a model's `explain` does not have."""


@command(
    Section.ASK,
    """
    tfrec explain --user 42 --item 50
    tfrec explain --user 42 --item 50,172 --model recommender --language de
    tfrec explain --history 50,181 --text "something with robots" --item-text "A film that is in no catalogue"
    """,
)
@requests.inputs_of("explain")
@click.option("--item", "one_item", multiple=True, metavar="IDS", help="the same as --items")
@click.option(
    "--item-text",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="an item that is in no catalogue, by its text; may be given several times",
)
@click.option(
    "--model", type=click.Choice(list(UNFIT)), default="retrieval", help="which model (default: retrieval)"
)
@click.option(
    "--language", type=click.Choice(list(SENTENCES)), default="en", help="of the sentences (default: en)"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def explain(
    model: str,
    url: str,
    config: str | None,
    context: tuple[str, ...],
    one_item: tuple[str, ...],
    texts: tuple[str, ...],
    language: str,
    as_json: bool,
    **values: Any,
) -> int:
    """Say what scores are made of, and why items are recommended or not."""
    from tfrec_fusion.serving.client.client import Client

    values["item_ids"] = (*values["item_ids"], *one_item)
    given = requests.given_inputs("explain", values, context)
    ids, written = given.pop("item_ids", []), [text for text in texts if not is_blank(text)]
    if not ids and not written:
        raise RequestError(
            "There is nothing to explain. Give --item, or --item-text for an item that is in no catalogue."
        )
    for name in UNFIT[model]:
        if name in given:
            raise RequestError(
                f"`explain` of the {model} model has no {INPUTS[name].flag}. Leave it out, or choose another"
                " --model."
            )
    with requests.explained(model, config), Client.connect(url, model) as client:
        start = time.perf_counter()
        asked = {"item_ids": ids + [""] * len(written), "texts": [""] * len(ids) + written}
        result = client.explain(**asked, **given)
        seconds = time.perf_counter() - start
    requests.tell_unknown({**given, "item_ids": ids}, result.known_user, result.unknown_items)
    if as_json:
        answer = [{**dataclasses.asdict(one), "sentence": one.sentence(language)} for one in result]
        print(json.dumps(answer, ensure_ascii=False, indent=1))
        return 0
    for one in result:
        _print(one, language)
    print(f"({1000 * seconds:.0f} ms, connection and metadata included)", file=sys.stderr)
    return 0


def _print(one: Explanation, language: str) -> None:
    state = f"rank {one.rank}" if one.rank else one.state.replace("_", " ")
    print(f"{safe(one.item_id) or 'new'}  {safe(one.title) or '(unknown)'}  {one.score:.3f}  {state}")
    print(f"  {safe(one.sentence(language))}")
    print(f"  sum of: {_terms(one.parts)}")
    for source in one.sources:
        shown = source.title or source.name or source.kind.replace("_", " ")
        kind = "" if source.kind in ("history", shown) else f" ({source.kind.replace('_', ' ')})"
        if abs(source.value) >= SMALLEST:
            print(f"  {source.value:>+8.3f}  {safe(shown)}{kind}: {_terms(source.parts)}")
    if any(abs(value) >= SMALLEST for value in one.completeness_error.values()):
        print(f"  integrated gradients leave over: {_terms(one.completeness_error)}")
    if one.state == "outscored":
        print(f"  behind {safe(one.last_title or one.last_id)} by: {_terms(dict(one.behind))}")


def _terms(parts: dict[str, float]) -> str:
    shown = [f"{safe(name)} {value:+.3f}" for name, value in parts.items() if abs(value) >= SMALLEST]
    return "  ".join(shown) or "nothing"
