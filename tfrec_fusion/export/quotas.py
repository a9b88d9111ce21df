"""Names with numbers in a request, as text: quotas (`Comedy=2`, at most two items of the category) and
weights of labels (`purchase=0.5`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["QUOTA", "RULE", "WEIGHT", "WEIGHT_RULE", "quota_texts"]

QUOTA = r"(?s)(.+)=([0-9]{1,6})"
"""Of a whole text, in the syntax of `re` and of RE2: the name, up to the last `=`, and the number."""
RULE = "`quotas` must be NAME=N, where N is from 0 to 999999"
WEIGHT = r"(?s)(.+)=([0-9]{1,6}(?:\.[0-9]{1,6})?)"
"""The same of weights."""
WEIGHT_RULE = "`label_weights` must be LABEL=N, where N is a number from 0 to 999999"
FORMS = {"quotas": (QUOTA, RULE), "label_weights": (WEIGHT, WEIGHT_RULE)}
"""Of each input its form, and the rule in words."""


def quota_texts(value: Any, name: str = "quotas") -> Any:
    """Quotas or weights as a request holds them.

    Args:
        value: texts, or mappings from a name to a number; in a list, or in a list of lists for many rows.
        name: of the input.

    Returns:
        The same with texts alone. What is neither is left for others to refuse.

    Raises:
        ValueError: for a text that is none.

    >>> quota_texts({"Comedy": 2, "War": 0})
    ['Comedy=2', 'War=0']
    """
    if isinstance(value, Mapping):
        return [_checked(f"{key}={number}", name) for key, number in value.items()]
    if isinstance(value, (str, bytes)):
        return _checked(value if isinstance(value, str) else value.decode("utf-8", "replace"), name)
    return [quota_texts(one, name) for one in value] if isinstance(value, Iterable) else value


def _checked(text: str, name: str) -> str:
    form, rule = FORMS[name]
    if text and not re.fullmatch(form, text):
        raise ValueError(f"{rule}. Received: {text!r}. Leave `{name}` out for none.")
    return text
