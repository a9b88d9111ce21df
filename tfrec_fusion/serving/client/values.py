"""Values that callers pass, as JSON has them: NumPy, pandas, Arrow and TensorFlow to lists, ids to strings.

Nothing here imports those libraries.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from tfrec_fusion.export.request import RequestError

__all__ = ["plain", "strings"]


def plain(value: Any) -> Any:
    """Lists, numbers, strings and bytes of a value; arrays, scalars and other containers included."""
    if value is None or (
        isinstance(value, (bool, int, float, str, bytes)) and type(value).__module__ == "builtins"
    ):
        return value
    for method in ("to_pylist", "as_py", "tolist", "to_list", "numpy"):
        if callable(getattr(value, method, None)):
            converted = getattr(value, method)()
            return converted if converted is value else plain(converted)
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, Mapping):
        return {key: plain(element) for key, element in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)  # an order, so that one request has one body
    if isinstance(value, Iterable):
        return [plain(element) for element in value]
    return value


def strings(name: str, value: Any) -> Any:
    """The same for an input of strings: integers as their digits.

    Raises:
        RequestError: for what is no string and no integer. Of a float, `12.0` or `12` could be the id.
    """
    value = plain(value)
    if isinstance(value, list):
        return [strings(name, element) for element in value]
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    raise RequestError(
        f"`{name}` takes strings or integers. Received: {value!r} ({type(value).__name__}). "
        "Give ids as they stand in the table."
    )
