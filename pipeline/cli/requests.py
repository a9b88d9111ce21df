"""`tfrec recommend` and `tfrec rank`: options made from the contract of a request, a question, and the answer
as rows.

What a model says of the question (an unknown user, unknown ids, unknown categories) goes to standard error.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline.config.terminal import safe
from tfrec_fusion.export.request import INPUTS, SIGNATURES, Input, RequestError, is_blank
from tfrec_fusion.naming import context_input
from tfrec_fusion.serving.client.errors import NotFound

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.client import Client

NAMES_ASKED = 100_000


def inputs_of(signature: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Adds an option for each input of a signature, by the input's name, and `context`, `url` and `config`.

    `context` holds the inputs that a model was trained with beside those of the contract.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        options: list[Callable[[Callable[..., int]], Callable[..., int]]] = [
            *(_option(INPUTS[name]) for name in SIGNATURES[signature] if INPUTS[name].flag),
            click.option(
                "--context",
                multiple=True,
                metavar="NAME=VALUE",
                help="a context column, as its table calls it, and its value; may be given several times",
            ),
            click.option(
                "--url",
                default="http://127.0.0.1:8501",
                help="the model server; `grpc://host:port` for gRPC (default: http://127.0.0.1:8501)",
            ),
            click.option(
                "--config",
                help=(
                    "of the run that is served, to say why a model is not (default: the latest under runs/)"
                ),
            ),
        ]
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _option(described: Input) -> Callable[[Callable[..., int]], Callable[..., int]]:
    words = described.help
    if described.low is not None:
        words += f"; {described.range_in_words()}"
        if not described.default_is_special:
            words += f" (default: {described.default:g})"
    if described.dtype == "bool":
        # Both: what stands for neither is the model's to say.
        flags = f"{described.flag}/{described.flag.replace('--', '--no-', 1)}"
        return click.option(flags, described.name, default=None, help=words)
    if described.is_setting:
        kind: type = {"int32": int, "float32": float, "string": str}[described.dtype]
        metavar = "|".join(described.choices) or ("NAME" if kind is str else "N")
        return click.option(described.flag, described.name, type=kind, metavar=metavar, help=words)
    if described.axes == 2:
        metavar = "NAME"
        if described.numbered:
            metavar = "NAME=N"
        elif described.name != "categories":  # names of categories have commas, ids seldom
            words += (
                "; comma-separated, '\"a,b\"' in quotes for an id with a comma; may be given several times"
            )
            metavar = "IDS"
        return click.option(described.flag, described.name, multiple=True, metavar=metavar, help=words)
    metavar = described.flag.strip("-").upper()
    return click.option(described.flag, described.name, default="", metavar=metavar, help=words)


@contextlib.contextmanager
def explained(kind: str, config: str | None) -> Iterator[None]:
    """Where the server has no such model, the error also says what the runs here know of it.

    Args:
        kind: the model that is asked.
        config: of the run that is served; None for the latest under `runs/`.

    Raises:
        NotFound: with the reasons.
    """
    try:
        yield
    except NotFound as error:
        from pipeline.runner import unpushed

        lines = [error.message, *unpushed.seen_from_here(kind, config)]
        raise NotFound(error.code, "\n".join(lines), error.http_status) from error


def given_inputs(signature: str, values: Mapping[str, Any], context: Sequence[str]) -> dict[str, Any]:
    """What was typed, by input; checked where a range is known.

    Args:
        signature: whose inputs they are.
        values: of the options that `inputs_of` adds; what was not typed is None or empty.
        context: `NAME=VALUE` of each.

    Raises:
        RequestError: for a value out of range, ids that cannot be told apart, or a pair without a sign.
    """
    given: dict[str, Any] = {}
    for name in SIGNATURES[signature]:
        described, value = INPUTS[name], values.get(name)
        if value is None or not described.flag:
            continue
        if described.is_setting:
            described.check(value)
        elif described.axes == 2:
            names = described.numbered or name == "categories"
            value = described.as_sent(list(value)) if names else _ids(value)
        elif name == "text" and is_blank(value):
            continue
        if described.is_setting or value:
            given[name] = value
    for pair in context:
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
    ids = []
    for text in texts:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise RequestError(
                "Ids must be separated by commas, with quotes around one that holds a comma. Received:"
                f" {text!r} ({error}). Double a quote that belongs to an id, and put that id in quotes."
            ) from error
        ids += [part.strip() for row in rows for part in row if part.strip()]
    return ids


def tell_unknown(given: Mapping[str, Any], known_user: bool | None, unknown: tuple[str, ...]) -> None:
    """Says on standard error what of a question the model does not know."""
    history = [item for item in given.get("history", ()) if item not in unknown]
    rest = [name for name, value in (("text", given.get("text")), ("history", history)) if value]
    basis = f"goes by the {' and the '.join(rest)} alone" if rest else "is what is popular"
    if "item_ids" in given:
        basis = "goes by the history alone" if history else "holds for a user without history"
    if known_user is False:
        note(f"{given['user_id']!r} is not a known user; what follows {basis}")
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
            note(
                f"{INPUTS[name].flag}: {named} {'is' if len(missing) == 1 else 'are'} in no catalogue;"
                f" {outcome}"
            )


def all_unknown(ids: list[str] | None, unknown: tuple[str, ...]) -> bool:
    """Whether ids were given of which the model knows none."""
    return bool(ids) and set(ids or ()) <= set(unknown)


def category_names(client: Client) -> list[str]:
    """Names of all categories; none of a model that cannot say them."""
    from tfrec_fusion.serving.client.errors import ServingError

    try:
        answer = client.predict({"count": NAMES_ASKED}, signature_name="describe")
    except ServingError:
        return []
    return list(answer["categories"])


def nearest(name: str, known: list[str]) -> str:
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


def note(text: str) -> None:
    """Prints a line to standard error."""
    print(safe(text), file=sys.stderr)
