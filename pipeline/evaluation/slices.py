"""Features of a test interaction by which figures are broken down.

They are strings under names of their own (`slice_…`), beside the features that models read: a column with
thousands of values, or with numbers, is not fit for slicing as it is.
"""

from __future__ import annotations

import collections
import datetime
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features import columns as features

PREFIX = "slice_"
DERIVED = ("item_activity", "item_reach", "user_activity", "text_length", "script", "period")
OTHER, NONE = "other values", "none"
HEAD = 0.2  # share of the catalogue that is not long tail


def check_slices(names: Sequence[str], tables: Tables) -> None:
    """Raises ConfigError for a slice that is neither derived nor a column."""
    known = [*DERIVED, *sliced_columns(tables)]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"`evaluation.slices` names `{name}`, which is no feature. Known: {', '.join(known)}."
            )


def sliced_columns(tables: Tables) -> dict[str, features.RawFeature]:
    """Columns that can be sliced by, which vectors cannot, by what the slice is called.

    That is the shown name of the feature; ` (column)` follows where something else is called so, as a column
    `activity` of the items beside the derived `item_activity`.
    """
    results: dict[str, features.RawFeature] = {}
    every = (
        features.item_features(tables) + features.user_features(tables) + features.context_features(tables)
    )
    for feature in every:
        name = feature.shown
        while name in DERIVED or name in results:
            name += " (column)"
        if feature.kind != "vector":
            results[name] = feature
    return results


def text_length(text: str) -> str:
    """`none`, `short` (under 40 characters), `medium` (under 200) or `long`."""
    length = len(text.strip())
    return "none" if not length else "short" if length < 40 else "medium" if length < 200 else "long"


def script(text: str) -> str:
    """The writing system of most letters, by the first word of their Unicode names: `Latin`, `Cyrillic`,
    `CJK`, …"""
    counts = collections.Counter(
        unicodedata.name(letter, "").split(" ")[0] for letter in text[:1000] if letter.isalpha()
    )
    if not counts:
        return NONE
    name = max(sorted(counts), key=lambda known: counts[known])
    return name if name == "CJK" else name.title()


def item_activity(count: int, rare_item: int) -> str:
    """`cold` without training interactions, `rare` with at most `rare_item`, else `common`."""
    return "cold" if count == 0 else "rare" if count <= rare_item else "common"


def item_reach(counts: np.ndarray) -> np.ndarray:
    """Where each item stands: `cold` without training interactions, `head` for the most popular fifth of the
    catalogue, else `long tail`.

    Args:
        counts: integer `[items]`, training interactions.

    Returns:
        Strings `[items]`.
    """
    order = np.argsort(-counts, kind="stable")
    position = np.empty(len(counts), np.int64)
    position[order] = np.arange(len(counts))
    head = position < max(1, round(HEAD * len(counts)))
    return np.where(counts == 0, "cold", np.where(head, "head", "long tail"))


def period_of(first: int, last: int) -> Callable[[int], str]:
    """Names the day, month or year of a moment, whichever gives a dozen periods or so between two moments.

    Args:
        first, last: seconds since 1970.
    """
    days = (last - first) / 86400
    form = "%Y-%m-%d" if days <= 14 else "%Y-%m" if days <= 500 else "%Y"

    def period(time: int) -> str:
        return datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime(form)

    return period


def value_namer(kind: str, values: Iterable[object], most: int) -> Callable[[Sequence], list[str]]:
    """How values of a column are named in slices.

    Args:
        kind: `categorical`, `categories` or `number`.
        values: all values of the column.
        most: how many distinct values keep their own name; numbers are named by quarters of the values
            instead.

    Returns:
        Takes an example's values of the column (none, one or several), returns the names of its slices.
    """
    if kind == "number":
        numbers = np.array(list(values), np.float64)
        edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1])) if len(numbers) else np.zeros(1)
        names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)] or [f"{edges[0]:g}"]

        def quarter(entries: Sequence) -> list[str]:
            if not len(entries):
                return [NONE]
            position = int(np.searchsorted(edges[1:-1], entries[0], side="left")) if len(edges) > 2 else 0
            return [names[position]]

        return quarter
    counts = collections.Counter(values)
    kept = set(sorted(counts, key=lambda value: (-counts[value], value))[:most])

    def name(entries: Sequence) -> list[str]:
        return sorted({entry if entry in kept else OTHER for entry in entries}) or [NONE]

    return name
