"""`tfrec recommend`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from pipeline.cli import language_model, requests
from pipeline.cli.command import Section, command
from pipeline.config.terminal import safe
from tfrec_fusion.export.request import INPUTS, RANKING_ONLY, RequestError


@command(
    Section.ASK,
    """
    tfrec recommend --user 42
    tfrec recommend --text "a space adventure with robots" -k 5
    tfrec recommend --user 42 --text "something with sharks" --exclude 235,820
    tfrec recommend --text "something with sharks" --llm --config shop.yaml
    """,
)
@requests.inputs_of("recommend")
@click.option(
    "--model",
    type=click.Choice(["retrieval", "recommender"]),
    default="retrieval",
    help="retrieval alone, or retrieval and ranking in one (default: retrieval)",
)
@click.option("--llm", is_flag=True, help="let the language model of --config order the answer, and say why")
@click.option(
    "--llm-seconds",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    help="how long it may take; the plain answer is given then (default: 10)",
)
@click.option("--profile", is_flag=True, help="ask with what the language model wrote of --user, as text")
def recommend(
    model: str,
    url: str,
    config: str | None,
    context: tuple[str, ...],
    llm: bool,
    llm_seconds: float,
    profile: bool,
    **values: Any,
) -> int:
    """Ask for recommendations."""
    from tfrec_fusion.serving.client.client import Client

    written = language_model.configured(config, "--llm" if llm else "--profile") if llm or profile else None
    taste = language_model.profile(written, values["user_id"]) if written else ""
    if profile:
        values["text"] = " ".join(part for part in (values["text"], taste) if part)
        if not taste:
            requests.note("nothing was written of that user; the answer goes by the rest")
    given = requests.given_inputs("recommend", values, context)
    if not any(name in given for name in ("user_id", "text", "history")):
        blank = " A text of white space alone says nothing." if values["text"] else ""
        raise RequestError(f"Nothing was asked. Give --user, --text or --history.{blank}")
    unfit = [INPUTS[name].flag for name in RANKING_ONLY if name in given]
    if unfit and model == "retrieval":
        raise RequestError(
            f"{' and '.join(unfit)} need `--model recommender`: retrieval alone ranks nothing."
        )
    with requests.explained(model, config), Client.connect(url, model) as client:
        start = time.perf_counter()
        result = client.recommend(**given)
        seconds = time.perf_counter() - start
        requests.tell_unknown(given, result.known_user, result.unknown_items)
        unknown = result.unknown_categories
        names = requests.category_names(client) if unknown else []
    for name in unknown:
        requests.note(f"no item has the category {name!r}; {requests.nearest(name, names)}")
    shown, reasons = list(result), dict[str, str]()
    if llm and written and result:
        shown, reasons = language_model.reordered(result, values["text"], taste, written, llm_seconds)
    for rank, item in enumerate(shown, 1):
        why = f": {reasons[item.item_id]}" if item.item_id in reasons else ""
        print(f"{rank:>3}  {item.score:>8.3f}  {safe(item.item_id):>8}  {safe(item.title)}{safe(why)}")
    if not result:
        requests.note("no item is left of what was asked for")
    print(
        f"({1000 * seconds:.0f} ms, connection and metadata included; answer {result.request_id})",
        file=sys.stderr,
    )
    nothing_known = unknown or requests.all_unknown(given.get("allow"), result.unknown_items)
    return 1 if nothing_known and not result else 0
