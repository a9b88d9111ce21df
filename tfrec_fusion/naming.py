"""Names for TensorFlow, files and requests, made of what columns are called.

A column may be called anything. TensorFlow's scopes and the inputs of a SavedModel take letters, digits and
`_`, and a file system may not tell `Size` from `size`. What a column is called is therefore data, shown to
users and never used as a name; these functions are the only place where a name is made of it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable

__all__ = ["context_input", "context_inputs", "digest", "find_input", "identifier", "request_inputs"]

# TensorFlow takes `Size` and `size` for one name where it exports, and so do some file systems.
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_PLAIN_IN_ANY_CASE = re.compile(_PLAIN.pattern, re.IGNORECASE | re.ASCII)
_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
CONTEXT = "context_"
# Means of what users wrote, in Examples and batches (`features.reviews`).
USER_REVIEWS, ITEM_REVIEWS, ITEM_REVIEWS_NOW = "user_reviews", "item_reviews", "item_reviews_now"


def digest(name: str) -> str:
    """16 hexadecimal digits that stand for a name: different ones for different names, whatever they look
    like."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def identifier(name: str) -> str:
    """Letters, digits and `_` that stand for a name, different ones for different names, in whatever case
    they are read.

    Args:
        name: any string.

    Returns:
        The name itself where it is plain (`a` to `z`, digits and `_`, no `_` first, at most 64), else `_`,
        what is plain of it, and its digest. A plain name has no `_` first, so that the two never meet.

    >>> identifier("device")
    'device'
    >>> identifier("Größe (cm)")
    '_grosse_cm_ac079a7818cf791e'
    """
    if _PLAIN.fullmatch(name):
        return name
    letters = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")[:24].strip("_")
    return f"_{words}_{digest(name)}" if words else f"_{digest(name)}"


def context_input(column: str) -> str:
    """The input of a signature that takes a context column: `context_device` for `device`, `context_Device`
    for `Device`."""
    return CONTEXT + (column if _PLAIN_IN_ANY_CASE.fullmatch(column) else identifier(column))


def context_inputs(columns: Iterable[str]) -> list[str]:
    """The inputs that take some context columns, each by `context_input`, but for columns that differ in case
    alone: of those, such as `Device` beside `device`, what is not all lower case goes by its `identifier`."""
    columns = list(columns)
    lower = [context_input(column).lower() for column in columns]
    return [
        context_input(column) if lower.count(name) == 1 else CONTEXT + identifier(column)
        for column, name in zip(columns, lower, strict=True)
    ]


def request_inputs(features: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """The inputs of a signature that take context features.

    Args:
        features: what the features are called.
        taken: inputs that the signature has already.

    Returns:
        Input → feature: the feature's own name where a signature can have such an input, else that of a
        context column so called.

    Raises:
        ValueError: if two features would have one input.
    """
    features = list(features)
    lower = [feature.lower() for feature in features]
    results: dict[str, str] = {}
    for feature, column in zip(features, context_inputs(features), strict=True):
        own = _INPUT.fullmatch(feature) and feature.lower() not in taken and lower.count(feature.lower()) == 1
        name = feature if own else column
        if name.lower() in (known.lower() for known in results):
            raise ValueError(
                f"Each context feature needs an input of its own. Received: {feature!r}, whose {name!r} is"
                " there already. Rename it."
            )
        results[name] = feature
    return results


def find_input(name: str, inputs: Collection[str]) -> str:
    """The input that somebody means: one of that name, else the one that takes the context column of that
    name.

    Args:
        name: of an input, or of a column as its table has it.
        inputs: what the signature takes.

    Returns:
        One of `inputs`, or `name` as it is where none is meant.
    """
    candidates = (name, context_input(name), CONTEXT + identifier(name))
    return next((candidate for candidate in candidates if candidate in inputs), name)
