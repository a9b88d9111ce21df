"""Quotas of a request as text: `Comedy=2`, at most two items of the category."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["QUOTA", "RULE", "quota_texts"]

QUOTA = r"(?s)(.+)=([0-9]{1,6})"
"""Of a whole text, in the syntax of `re` and of RE2: the name, up to the last `=`, and the number."""
RULE = "`quotas` must be NAME=N, where N is from 0 to 999999"


def quota_texts(value: Any) -> Any:
    """Quotas as a request holds them.

    Args:
        value: texts, or mappings from a category's name to a number; in a list, or in a list of lists for
            many rows.

    Returns:
        The same with texts alone. What is neither is left for others to refuse.

    Raises:
        ValueError: for a text that is no quota.

    >>> quota_texts({"Comedy": 2, "War": 0})
    ['Comedy=2', 'War=0']
    """
    if isinstance(value, Mapping):
        return [_checked(f"{name}={number}") for name, number in value.items()]
    if isinstance(value, (str, bytes)):
        return _checked(value if isinstance(value, str) else value.decode("utf-8", "replace"))
    return [quota_texts(one) for one in value] if isinstance(value, Iterable) else value


def _checked(text: str) -> str:
    if text and not re.fullmatch(QUOTA, text):
        raise ValueError(f"{RULE}. Received: {text!r}. Leave `quotas` out for none.")
    return text
