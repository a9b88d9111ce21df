"""Names for TensorFlow, files and requests, made of what columns are called.

A column may be called anything. TensorFlow's scopes and the inputs of a SavedModel take letters, digits and `_`, and a
file system may not tell `Size` from `size`. What a column is called is therefore data, shown to people and never used as
a name; these functions are the only place where a name is made of it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection

__all__ = ["context_input", "digest", "find_input", "identifier", "request_input"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
CONTEXT = "context_"


def digest(name: str) -> str:
    """16 hexadecimal digits that stand for a name: different ones for different names, whatever they look like."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def identifier(name: str) -> str:
    """Letters, digits and `_` that stand for a name, different ones for different names.

    Args:
        name: any string.

    Returns:
        The name itself where it is plain (ASCII letters, digits and `_`, no `_` first, at most 64), else `_`, what is
        plain of it, and its digest. A plain name has no `_` first, so that the two never meet.

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
    """The input of a signature that takes a context column: `context_device` for `device`."""
    return CONTEXT + identifier(column)


def request_input(feature: str, taken: Collection[str]) -> str:
    """The input of a signature that takes a context feature.

    Args:
        feature: what the feature is called.
        taken: inputs that the signature has already.

    Returns:
        The feature's own name where a signature can have such an input, else that of a context column so called.
    """
    return feature if _INPUT.fullmatch(feature) and feature not in taken else context_input(feature)


def find_input(name: str, inputs: Collection[str]) -> str:
    """The input that somebody means: one of that name, else the one that takes the context column of that name.

    Args:
        name: of an input, or of a column as its table has it.
        inputs: what the signature takes.

    Returns:
        One of `inputs`, or `name` as it is where none is meant.
    """
    return name if name in inputs or context_input(name) not in inputs else context_input(name)
