"""Columns that a guess left out, in words, with the keys of the configuration that would use them."""

from __future__ import annotations

import re
from typing import Any

from pipeline.onboarding.yaml_writing import Inline, dump
from tfrec_fusion.guessing.ledger import LeftOut


def shown(entry: LeftOut) -> str:
    """What was left out and why, with the keys of `data.interactions` that would use it."""
    return f"{entry}{_offer(entry)}"


def _offer(entry: LeftOut) -> str:
    if not entry.offer:
        return ""
    return ". To use it: " + ", ".join(
        dump({key: plain(value)}).strip() for key, value in entry.offer.items()
    )


def reason(entry: LeftOut) -> str:
    """The same without the names of table and column."""
    return f"{entry.why}{_offer(entry)}"


def plain(value: Any, name: str = "") -> Any:
    """A field's value as YAML knows it."""
    if isinstance(value, tuple):
        return [_number(entry) if name == "label_nulls" else entry for entry in value]
    if isinstance(value, dict):
        return Inline({key: int(entry) if entry % 1 == 0 else entry for key, entry in value.items()})
    return value


def _number(text: str) -> Any:
    """`-1` as YAML writes numbers."""
    return int(text) if re.fullmatch(r"-?\d{1,15}", text) else text
