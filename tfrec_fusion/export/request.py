"""The inputs and answers of the signatures that a pushed model is asked by.

Each input is described here once: its dtype, shape, default, range and meaning. The signatures, the clients'
defaults and checks, the flags of `tfrec recommend` and `tfrec rank`, the printed `curl` line and the table in
the documents are made from it. Nothing here needs TensorFlow or NumPy.

TF Serving has no optional inputs over REST: what a caller leaves out is sent with its default.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tfrec_fusion.errors import TfrecError
from tfrec_fusion.export.quotas import quota_texts
from tfrec_fusion.layers.blank_texts import is_blank

__all__ = [
    "EVALUATE",
    "EXPLAINED",
    "INPUTS",
    "OUTPUTS",
    "PADDING",
    "SIGNATURES",
    "Input",
    "RequestError",
    "curl_line",
    "is_blank",
    "markdown",
    "refusal",
]


class RequestError(TfrecError, ValueError):
    """A request that asks for what there is not: the rule, the value, the way out."""


EVALUATE = "serving_default"
"""Key of the signature that answers labelled Examples. TFMA evaluates whatever has this name."""

CANDIDATES = 100
"""How many items a recommender ranks where a request does not say."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a signature.

    Attributes:
        name: in the signature.
        dtype: `string`, `int32`, `float32` or `bool`.
        axes: 0 for a setting of the whole request, 1 for one value a row, 2 for a list a row.
        help: what it is for.
        absent: what the default means.
        default: what stands for an input that is not given; of a list, of each padded entry.
        low, high: the range of a number. The default is allowed beside it. For None, `high` is the model's
            `max_k`.
        off: a value outside the range that stands for "not at all".
        choices: the words that a setting may be; any where empty.
        numbered: whether each entry of a list is a name with a number (`quotas.FORMS`).
        flag: of the command line; none where empty.
    """

    name: str
    dtype: str
    axes: int
    help: str
    absent: str
    default: Any = ""
    low: float | None = None
    high: float | None = None
    off: float | None = None
    choices: tuple[str, ...] = ()
    numbered: bool = False
    flag: str = ""

    @property
    def is_setting(self) -> bool:
        """Whether one value holds for all rows of a request."""
        return self.axes == 0

    def range_in_words(self, high: float | None = None) -> str:
        """For example `from 1 to 1000`; empty where there is no range."""
        if self.choices:
            return " or ".join(self.choices)
        high = self.high if high is None else high
        if self.low is None:
            return ""
        words = f"at least {self.low:g}" if high is None else f"from {self.low:g} to {high:g}"
        if self.default_is_special:
            words += f", {'' if self.off is not None else 'or '}{self.default:g} for {self.absent}"
        return words if self.off is None else f"{words}, or {self.off:g} for not at all"

    @property
    def default_is_special(self) -> bool:
        """Whether the default is no value of the range, but stands for what the model decides."""
        return self.low is not None and (self.default < self.low or self.off is not None)

    def as_sent(self, value: Any) -> Any:
        """A caller's value as a request holds it: of names with numbers, texts (`quotas.quota_texts`).

        Raises:
            RequestError: for what is no name with a number.
        """
        try:
            return quota_texts(value, self.name) if self.numbered else value
        except ValueError as error:
            raise RequestError(str(error)) from None

    def check(self, value: Any) -> None:
        """Raises RequestError for what is no number of the type, or outside the range, or no such word."""
        if self.choices and value not in self.choices:
            raise RequestError(
                f"`{self.name}` must be {self.range_in_words()}. Received: {value!r}. Leave it out for"
                f" {self.absent}."
            )
        if self.low is None:
            return
        kind, word = (numbers.Integral, "an integer") if self.dtype == "int32" else (numbers.Real, "a number")
        number = isinstance(value, kind) and not isinstance(value, bool)
        high = self.high if self.high is not None else 2**31 - 1  # the model's own `max_k` is below
        inside = number and self.low <= value <= high
        if not inside and not (number and value in (self.default, self.off)):
            raise RequestError(
                f"`{self.name}` must be {word} {self.range_in_words()}. Received: {value!r}. "
                f"Leave it out for {self.absent}."
            )


_ALL = (
    Input("user_id", "string", 1, "the user's id", "nobody in particular", flag="--user"),
    Input(
        "history",
        "string",
        2,
        "ids of items that the user chose, latest last; they replace what is known of the user",
        "the known history",
        flag="--history",
    ),
    Input("text", "string", 1, "what is asked for, in words", "no words", flag="--text"),
    Input("k", "int32", 0, "how many items", "10 items", 10, low=1, flag="-k"),
    Input("exclude", "string", 2, "ids of items that must not come", "none", flag="--exclude"),
    Input(
        "include_seen",
        "bool",
        0,
        "whether items may come that the user has chosen before",
        "they may where `split.repeats` says so, else not",
        False,
        flag="--include-seen",
    ),
    Input("allow", "string", 2, "ids of the items to choose among", "all items", flag="--allow"),
    Input(
        "categories",
        "string",
        2,
        "names of categories; only items come that have one of them",
        "all categories",
        flag="--category",
    ),
    Input(
        "probes",
        "int32",
        0,
        "cells that an inverted file reads; an exact index does not look at it",
        "as many as its recall target needs",
        0,
        low=1,
        flag="--probes",
    ),
    Input(
        "diversity",
        "float32",
        0,
        "how much being unlike the others counts against the score",
        "the order of the scores",
        0.0,
        low=0,
        high=1,
        flag="--diversity",
    ),
    Input(
        "diversity_by",
        "string",
        0,
        "what unlike is: mmr, as the nearest of the items before; dpp, as all of them together",
        "mmr",
        "mmr",
        choices=("mmr", "dpp"),
        flag="--diversity-by",
    ),
    Input(
        "calibration",
        "float32",
        0,
        "how much a list whose categories are mixed like the history's counts against the scores",
        "any mixture",
        0.0,
        low=0,
        high=1,
        flag="--calibration",
    ),
    Input(
        "max_per_category",
        "int32",
        0,
        "how many items of one category at most",
        "any number",
        0,
        low=1,
        flag="--max-per-category",
    ),
    Input(
        "quotas",
        "string",
        2,
        "how many items of a category at most, as `Comedy=2`; before `max_per_category`",
        "none",
        numbered=True,
        flag="--quota",
    ),
    Input(
        "category_column",
        "string",
        0,
        "the items' column whose categories `max_per_category` and `calibration` count",
        "all columns of categories",
        flag="--category-column",
    ),
    Input(
        "candidates",
        "int32",
        0,
        "how many items are retrieved and ranked; never fewer than `k`",
        f"{CANDIDATES} items",
        0,
        low=1,
        flag="--candidates",
    ),
    Input(
        "rank_weight",
        "float32",
        0,
        "what the ranking's score counts against the retrieval's",
        "the weight that validated best",
        0.0,
        low=0,
        high=1,
        off=-1.0,
        flag="--rank-weight",
    ),
    Input("item_ids", "string", 2, "ids of the candidates", "candidates by text alone", flag="--items"),
    Input(
        "texts",
        "string",
        2,
        "texts of candidates, for those in no catalogue; where an id is given too, the text replaces the"
        " catalogue's",
        "the catalogue's texts",
    ),
    Input("item_id", "string", 1, "an item's id", "an item in no catalogue", flag="--item"),
    Input(
        "label",
        "string",
        0,
        "which label's prediction is explained",
        "the one that orders items",
        flag="--label",
    ),
    Input(
        "label_weights",
        "string",
        2,
        "how much each label counts in `score`, as `purchase=0.5`; those not named count nothing",
        "the main label alone: `rating` where there is one, else `click`",
        numbered=True,
        flag="--label-weight",
    ),
    Input(
        "text_weight",
        "float32",
        0,
        "what likeness of texts counts against likeness by who chooses what",
        "half of each, or what the model has of the two",
        -1.0,
        low=0,
        high=1,
        flag="--text-weight",
    ),
    Input(
        "count",
        "int32",
        0,
        "how many of each list at most",
        "10 of each",
        10,
        low=0,
        high=100_000,
        flag="--count",
    ),
)
INPUTS: dict[str, Input] = {one.name: one for one in _ALL}
"""Every input by name. A model that was trained with context takes a string a row for each context feature
besides."""

_RETRIEVAL = (
    "user_id",
    "history",
    "text",
    "k",
    "exclude",
    "include_seen",
    "allow",
    "categories",
    "probes",
)
_LIST = ("diversity", "diversity_by", "calibration", "max_per_category", "quotas", "category_column")
SIGNATURES: dict[str, tuple[str, ...]] = {
    "recommend": (*_RETRIEVAL, *_LIST, "candidates", "rank_weight"),
    "rank": ("user_id", "history", "item_ids", "texts", "label_weights"),
    "embed_query": ("user_id", "history", "text"),
    "embed_item": ("item_id", "text"),
    "embed_text": ("text",),
    "describe": ("count",),
    "explain": (
        "user_id",
        "history",
        "text",
        "item_ids",
        "texts",
        "count",
        "k",
        "exclude",
        "include_seen",
        "allow",
        "categories",
        "probes",
        "candidates",
        "rank_weight",
        "label",
    ),
    "similar": ("item_id", "text", "k", "exclude", "allow", "categories", "text_weight"),
}
"""The inputs of each signature. The retrieval model's `recommend` and `explain` have neither `candidates` nor
`rank_weight`; `label` is of the ranking model's `explain`, which has `user_id`, `history`, the candidates and
`count` beside; `label_weights` is of models with further labels."""

RANKING_ONLY = ("candidates", "rank_weight")
LABEL_ONLY = ("label",)
FURTHER_LABELS_ONLY = ("label_weights",)
RETRIEVAL_ONLY = ("text", *(name for name in SIGNATURES["recommend"] if name not in ("user_id", "history")))
"""Inputs of `explain` that the ranking model alone does not have."""

OUTPUTS: dict[str, str] = {
    "item_ids": "ids, best first; empty where fewer than `k` items are left",
    "scores": "of each item; 0 where there is none",
    "titles": "of each item; empty where there is none",
    "num_results": "how many items of a row are real; they come first",
    "known_user": (
        "whether `user_id` is a user of the training data; others get what is popular, or what history and"
        " text say"
    ),
    "unknown_items": (
        "ids in `history`, `exclude`, `allow` or `item_ids` that are in no catalogue, each in its place;"
        " empty elsewhere"
    ),
    "unknown_categories": (
        "names in `categories`, and then in `quotas`, that no item has, each in its place; empty elsewhere"
    ),
}
"""Outputs of `recommend`; the recommender adds `retrieval_score` and a prediction for each label of the
ranking, 0 where there is no item. `rank` answers with a score for each label, with further labels their
weighted mean `score`, and `titles`, `known_user` and `unknown_items`."""

EXPLAINED: dict[str, str] = {
    "item_ids": "the items that were asked about: `[batch, n]`; `scores` and `titles` have the same shape",
    "scores": "what `recommend` (of the ranking model alone: `rank`) gives the item",
    "titles": "of each item; the text itself for an item without one",
    "part_names": "string `[parts]`: what scores are sums of",
    "parts": "float32 `[batch, n, parts]`; they sum to the score",
    "base": "`[batch, n, parts]`: what of a part no source accounts for",
    "others": "`[batch, n, parts]`: the sum of the sources beyond the first `count`",
    "completeness_error": (
        "`[batch, n, parts]`: the rest, of sources found by integrated gradients. A part is `base`, `others`,"
        " this and its `contributions`"
    ),
    "source_kinds": (
        "string `[batch, n, count]`, the largest first: `history` (an item of it), `user`, `feature` (of the"
        " user or the context), `word` (of `text`), and of the item itself `item` (its id), `item_feature`"
        " and `item_text`; empty where there are no more"
    ),
    "sources": "`[batch, n, count]`: the history item's id, the feature's name, the word",
    "source_titles": "`[batch, n, count]`: of sources that are items",
    "contributions": "float32 `[batch, n, count, parts]`",
    "states": (
        "`[batch, n]`: `recommended`, or why not: `unknown`, `not_offered`, `excluded`, `history`, `seen`, "
        "`not_allowed`, `category`, `not_retrieved` (not among the candidates that are ranked), `missed` (by "
        "an inverted file) or `outscored`; the ranking model alone says `ranked` or `unknown`"
    ),
    "ranks": "int32 `[batch, n]`, from 1, of `recommended` items; else 0",
    "last_id": "`[batch]`: the last of the `k` items that `recommend` gives; `last_title` is its title",
    "last_parts": "float32 `[batch, parts]`: its parts, which an item that is outscored is held against",
}
"""Outputs of `explain`, beside `known_user` and `unknown_items`. The ranking model alone has no `ranks` and
`last_…`."""

DIAGNOSES = ("num_results", "known_user", "unknown_items", "unknown_categories")
"""Outputs that say something about the request and are no scores."""

PADDING = 0.0
"""The score where fewer than `k` items are left: JSON has no infinity."""


def default_of(name: str, dtype: str) -> Any:
    """What stands for an input that is not given: the contract's default, else the empty value of its type.

    Args:
        name: the input.
        dtype: as TensorFlow names it: `string`, `int32`, `float32`, `bool`, …
    """
    known = INPUTS.get(name)
    if known is not None and known.dtype == dtype:
        return known.default
    if dtype == "string":
        return ""
    if dtype == "bool":
        return False
    return 0 if "int" in dtype else 0.0


def is_setting(name: str) -> bool:
    """Whether an input holds for a whole request, however a signature declares its shape."""
    return name in INPUTS and INPUTS[name].is_setting


REFUSED = r"assertion failed: \[(`\w+` must be .*?)\] \[(.*?)\]"
"""The rule and the value in TensorFlow's error for a setting that is out of range."""


def refusal(message: str) -> str | None:
    """The rule and the value in an error of TensorFlow's that says a setting is out of range, without what
    stands around them."""
    found = re.search(REFUSED, message)
    return f"{found[1]} {found[2]}." if found else None


def columns(names: Iterable[str], **given: Any) -> dict[str, Any]:
    """One row as columns: the given values, everything else at its default.

    Args:
        names: the inputs.
        **given: values by name, in the shape of a column.
    """
    shapes = {0: lambda value: value, 1: lambda value: [value], 2: lambda value: [[]]}
    return {name: given.get(name, shapes[INPUTS[name].axes](INPUTS[name].default)) for name in names}


def curl_line(url: str, model: str, signature: str, inputs: Mapping[str, Any]) -> str:
    """A shell command that asks a model over REST.

    Args:
        url, model: of the server, and the model's name there.
        signature: its name.
        inputs: every input of it, as columns.
    """
    body = json.dumps({"signature_name": signature, "inputs": inputs}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    return f"curl -d '{quoted}' {url}/v1/models/{model}:predict"


def markdown(names: Iterable[str]) -> str:
    """The inputs as a table for the documents."""
    shapes = ("`[]`", "`[batch]`", "`[batch, any]`")
    lines = ["| input | type | default | range | what it is | default means |", "|---|---|---|---|---|---|"]
    for one in (INPUTS[name] for name in names):
        high = " (`index.max_k` at most)" if one.name in ("k", "candidates") else ""
        default = "[]" if one.axes == 2 else json.dumps(one.default)
        lines.append(
            f"| `{one.name}` | {one.dtype} {shapes[one.axes]} | `{default}` | {one.range_in_words()}{high} "
            f"| {one.help} | {one.absent} |"
        )
    return "\n".join(lines)
