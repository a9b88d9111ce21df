"""`tfrec recommend` and `tfrec rank`: flags made from the contract of a request, a question, and the answer
as rows.

What a model says of the question (an unknown user, unknown ids, unknown categories) goes to standard error.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.config.terminal import safe
from tfrec_fusion.export.request import INPUTS, RANKING_ONLY, SIGNATURES, Input, RequestError, is_blank
from tfrec_fusion.naming import context_input

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.client import Client

NAMES_ASKED = 100_000


def add_flags(command: argparse.ArgumentParser, signature: str) -> None:
    """Adds a flag for each input of a signature, and `--context` for those that a model was trained with."""
    for name in SIGNATURES[signature]:
        if INPUTS[name].flag:
            _add_flag(command, INPUTS[name])
    command.add_argument(
        "--context",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a context column, as its table calls it, and its value; may be given several times",
    )
    command.add_argument(
        "--url", default="http://127.0.0.1:8501", help="the model server; `grpc://host:port` for gRPC"
    )
    command.add_argument(
        "--config",
        help="of the run that is served, to say why a model is not (default: the latest under runs/)",
    )


def _add_flag(command: argparse.ArgumentParser, described: Input) -> None:
    words = described.help
    if described.low is not None:
        words += f"; {described.range_in_words()}"
        if not described.default_is_special:
            words += f" (default: {described.default:g})"
    words = words.replace("%", "%%")
    options: dict = {"dest": described.name, "help": words}
    if described.dtype == "bool":
        command.add_argument(described.flag, action="store_true", default=None, **options)
    elif described.is_setting:
        options["type"] = int if described.dtype == "int32" else float
        command.add_argument(described.flag, metavar="N", default=None, **options)
    elif described.axes == 2:
        if described.name != "categories":  # names of categories have commas, ids seldom
            options["help"] += (
                "; comma-separated, '\"a,b\"' in quotes for an id with a comma; may be given several times"
            )
            options["metavar"] = "IDS"
        else:
            options["metavar"] = "NAME"
        command.add_argument(described.flag, action="append", default=[], **options)
    else:
        command.add_argument(described.flag, default="", metavar=described.flag.strip("-").upper(), **options)


def recommend(options: argparse.Namespace) -> int:
    """`tfrec recommend`."""
    from tfrec_fusion.serving.client.client import Client

    given = _given(options, "recommend")
    if not any(name in given for name in ("user_id", "text", "history")):
        said = " A text of white space alone says nothing." if options.text else ""
        raise RequestError(f"Nothing was asked. Give --user, --text or --history.{said}")
    unfit = [INPUTS[name].flag for name in RANKING_ONLY if name in given]
    if unfit and options.model == "retrieval":
        raise RequestError(
            f"{' and '.join(unfit)} need `--model recommender`: retrieval alone ranks nothing."
        )
    with Client.connect(options.url, options.model) as client:
        start = time.perf_counter()
        found = client.recommend(**given)
        seconds = time.perf_counter() - start
        _say(given, found.known_user, found.unknown_items)
        unknown = found.unknown_categories
        names = _categories(client) if unknown else []
    for name in unknown:
        _note(f"no item has the category {name!r}; {_near(name, names)}")
    for rank, item in enumerate(found, 1):
        print(f"{rank:>3}  {item.score:>8.3f}  {safe(item.item_id):>8}  {safe(item.title)}")
    if not found:
        _note("no item is left of what was asked for")
    print(f"({1000 * seconds:.0f} ms, connection and metadata included)", file=sys.stderr)
    return 0 if found or not (unknown or _all_unknown(given.get("allow"), found.unknown_items)) else 1


def rank(options: argparse.Namespace) -> int:
    """`tfrec rank`."""
    from tfrec_fusion.serving.client.client import Client

    given = _given(options, "rank")
    ids, texts = given.pop("item_ids", []), [text for text in options.texts if not is_blank(text)]
    candidates = ids + [""] * len(texts)
    if len(texts) < len(options.texts):
        _note(f"--text: {len(options.texts) - len(texts)} of white space alone left out")
    if not candidates:
        raise RequestError(
            "There is nothing to rank. Give --items, or --text for an item that is in no catalogue."
        )
    with Client.connect(options.url, "ranking") as client:
        answer = client.rank(item_ids=candidates, texts=[""] * len(ids) + texts, **given)
    _say({**given, "item_ids": ids}, answer.known_user, answer.unknown_items)
    titles = answer.pop("titles")
    heads = sorted(answer)
    print("  ".join(f"{safe(head):>8}" for head in heads) + "        id  title")
    for index in sorted(range(len(candidates)), key=lambda index: -answer[heads[-1]][index]):
        scores = "  ".join(f"{answer[head][index]:>8.3f}" for head in heads)
        print(f"{scores}  {safe(candidates[index]) or 'new':>8}  {safe(titles[index]) or '(unknown)'}")
    return 0


def _given(options: argparse.Namespace, signature: str) -> dict:
    """What was typed, by input; checked where a range is known."""
    given: dict = {}
    for name in SIGNATURES[signature]:
        described, value = INPUTS[name], getattr(options, name, None)
        if value is None or not INPUTS[name].flag:
            continue
        if described.is_setting:
            described.check(value)
        elif described.axes == 2 and name != "categories":
            value = _ids(value)
        elif name == "text" and is_blank(value):
            continue
        if described.is_setting or value:
            given[name] = value
    for pair in options.context:
        name, sign, value = pair.partition("=")
        if not sign:
            raise RequestError(
                f"`--context` must be NAME=VALUE. Received: {pair!r}. Write the feature's name first."
            )
        # A column may be called as one of the contract's own inputs is, which have flags.
        given[context_input(name) if name in INPUTS else name] = value
    return given


def _ids(texts: Iterable[str]) -> list[str]:
    """Ids of comma-separated lists; one in quotes may hold a comma, a line break or, doubled, a quote."""
    found = []
    for text in texts:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise RequestError(
                "Ids must be separated by commas, with quotes around one that holds a comma. Received:"
                f" {text!r} ({error}). Double a quote that belongs to an id, and put that id in quotes."
            ) from error
        found += [part.strip() for row in rows for part in row if part.strip()]
    return found


def _say(given: dict, known_user: bool | None, unknown: tuple[str, ...]) -> None:
    """Says what of a question the model does not know."""
    history = [item for item in given.get("history", ()) if item not in unknown]
    rest = [name for name, value in (("text", given.get("text")), ("history", history)) if value]
    basis = f"goes by the {' and the '.join(rest)} alone" if rest else "is what is popular"
    if "item_ids" in given:
        basis = "goes by the history alone" if history else "holds for a user without history"
    if known_user is False:
        _note(f"{given['user_id']!r} is not a known user; what follows {basis}")
    for name, outcome in (
        ("history", "left out" if history or given.get("user_id") or rest else f"what follows {basis}"),
        ("exclude", "nothing to leave out"),
        ("allow", "left out"),
        ("item_ids", "scored as an unknown item"),
    ):
        missing = [item for item in dict.fromkeys(given.get(name, ())) if item in unknown]
        if missing:
            named = ", ".join(map(repr, missing[:10])) + (
                f" and {len(missing) - 10} more" if missing[10:] else ""
            )
            _note(
                f"{INPUTS[name].flag}: {named} {'is' if len(missing) == 1 else 'are'} in no catalogue;"
                f" {outcome}"
            )


def _all_unknown(ids: list[str] | None, unknown: tuple[str, ...]) -> bool:
    return bool(ids) and set(ids or ()) <= set(unknown)


def _categories(client: Client) -> list[str]:
    """Names of all categories; none of a model that cannot say them."""
    from tfrec_fusion.serving.client.errors import ServingError

    try:
        answer = client.predict({"count": NAMES_ASKED}, signature_name="describe")
    except ServingError:
        return []
    return list(answer["categories"])


def _near(name: str, known: list[str]) -> str:
    """Which names a misspelt one may stand for."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if near:
        return "near: " + ", ".join(repr(folded[one]) for one in near)
    if not known:
        return "this model has no categories"
    return f"there are: {', '.join(map(repr, known[:10]))}" + (
        f" and {len(known) - 10} more" if known[10:] else ""
    )


def _note(text: str) -> None:
    print(safe(text), file=sys.stderr)
