"""Tensors → JSON, byte for byte as TF Serving writes it: four spaces of indent, rows on one line each.

Numbers are written as `%.6g` where that reads back, else with all digits; strings keep their bytes, so a
model that answers with bytes that are not UTF-8 should name its output `…_bytes`, which is written as base64.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server import deadline
from tfrec_fusion.serving.server.json_tensors import ROWS
from tfrec_fusion.serving.server.json_text import format_decimal, quote

_PLAIN_BYTES = re.compile(rb'[^"\\\x00-\x1f]*')
_INDENT = "    "
_VECTORISE_FROM = 24
_UNWRITABLE = {"float16": "half", "complex64": "complex64", "complex128": "complex128", "uint16": "uint16"}


def estimated_bytes(outputs: Mapping[str, np.ndarray], form: str) -> int:
    """About how long the body of `encode_predict` will be, without writing it."""
    total = 0
    for array in outputs.values():
        indent = 2 if form == ROWS else 4 * (array.ndim + 2)
        elements = math.prod([size or 1 for size in array.shape])
        total += elements * (12 + indent)
        if array.dtype.kind == "O":
            total += sum(map(len, array.ravel().tolist()))
    return total


def encode_predict(outputs: Mapping[str, np.ndarray], form: str) -> bytes:
    """The body that answers a predict request.

    Args:
        outputs: tensors by output name; strings are object arrays of `bytes`.
        form: `ROWS` answers `predictions`, `COLUMNS` answers `outputs`.

    Raises:
        StatusError: INVALID_ARGUMENT where rows are asked for and the outputs' first dimensions differ, or
            where a type has no JSON form.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    return _rows(outputs) if form == ROWS else _columns(outputs)


def encode_classifications(results: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """`{"results": [[["label", score], …], …]}`, one list an example."""
    if not results:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    rows = (
        "["
        + ", ".join(f"[{_string(label)}, {format_decimal(float(score), 9)}]" for label, score in classes)
        + "]"
        for classes in results
    )
    return _to_bytes(f'{{\n{_INDENT}"results": [{", ".join(rows)}\n{_INDENT}]\n}}')


def encode_regressions(values: Sequence[float]) -> bytes:
    """`{"results": [value, …]}`, one value an example."""
    if not len(values):
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    joined = ", ".join(format_decimal(float(value), 9) for value in values)
    return _to_bytes(f'{{\n{_INDENT}"results": [{joined}]\n}}')


def encode_error(message: str) -> bytes:
    """`{"error": …}`, indented as answers are; what is not UTF-8 in the message is replaced, so that any
    reader takes it."""
    text = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f'{{\n{_INDENT}"error": {quote(text)}\n}}'.encode()


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _rows(outputs: Mapping[str, np.ndarray]) -> bytes:
    batch = -1
    for name in sorted(outputs):
        array = outputs[name]
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and batch != array.shape[0]:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {batch}"
            )
        batch = array.shape[0]
    head = f'{{\n{_INDENT}"predictions": ['
    tail = f"\n{_INDENT}]\n}}"
    if batch == 0:
        return _to_bytes(head + "]\n}")
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _to_bytes(head + ", ".join(_inline(array, name, 2)) + tail)
    names = sorted(outputs)
    columns = [_inline(outputs[name], name, 3) for name in names]
    keys = [f"\n{_INDENT * 3}{quote(name)}: " for name in names]
    rows = []
    for values in zip(*columns, strict=True):
        members = ",".join([key + value for key, value in zip(keys, values, strict=True)])
        rows.append(f"\n{_INDENT * 2}{{{members}\n{_INDENT * 2}}}")
    return _to_bytes(head + ",".join(rows) + tail)


def _inline(array: np.ndarray, name: str, depth: int) -> list[str]:
    """Each row of an array as text on one line; `depth` counts the brackets around a row."""
    leaves = _leaves(array, name, depth + max(array.ndim - 1, 0))
    for size in reversed(array.shape[1:]):
        if size:
            groups = range(0, len(leaves), size)
            leaves = ["[" + ", ".join(leaves[start : start + size]) + "]" for start in groups]
        else:
            # An axis of no elements leaves no leaves: its brackets are counted from the axes in front of it.
            return ["[]" if array.ndim == 2 else _empty(array.shape[1:])] * array.shape[0]
    return leaves


def _empty(shape: tuple[int, ...]) -> str:
    if not shape[0]:
        return "[]"
    return "[" + ", ".join([_empty(shape[1:])] * shape[0]) + "]"


def _columns(outputs: Mapping[str, np.ndarray]) -> bytes:
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _to_bytes(f'{{\n{_INDENT}"outputs": {_lines(array, name, 1)}\n}}')
    members = [f"{_INDENT * 2}{quote(name)}: {_lines(outputs[name], name, 2)}" for name in sorted(outputs)]
    return _to_bytes(f'{{\n{_INDENT}"outputs": {{\n' + ",\n".join(members) + f"\n{_INDENT}}}\n}}")


def _lines(array: np.ndarray, name: str, depth: int) -> str:
    """An array as text with each element on a line of its own, inside `depth` brackets."""
    leaves = _leaves(array, name, depth + array.ndim)
    return _nest(iter(leaves), array.shape, depth)


def _nest(leaves: Any, shape: tuple[int, ...], depth: int) -> str:
    if not shape:
        return next(leaves)
    if not shape[0]:
        return "[]"
    deadline.check()
    indent = "\n" + _INDENT * (depth + 1)
    parts = [_nest(leaves, shape[1:], depth + 1) for _ in range(shape[0])]
    return "[" + indent + ("," + indent).join(parts) + "\n" + _INDENT * depth + "]"


def _leaves(array: np.ndarray, name: str, depth: int) -> list[str]:
    """Every element as JSON text, row-major; `depth` counts the brackets around an element."""
    kind = array.dtype.kind
    values = array.ravel().tolist()
    if kind == "f" and array.dtype.itemsize in (4, 8):
        return _decimals(values, array.dtype)
    if kind in "iu" and array.dtype != np.uint16:
        return list(map(str, values))
    if kind == "b":
        return ["true" if value else "false" for value in values]
    if kind in "OSU":
        if name.endswith("_bytes"):
            inner, outer = _INDENT * (depth + 1), _INDENT * depth
            return [
                f'{{\n{inner}"b64": "{base64.b64encode(_bytes(value)).decode()}"\n{outer}}}'
                for value in values
            ]
        return [_string(_bytes(value)) for value in values]
    if not values:
        return []
    raise StatusError(
        "INVALID_ARGUMENT",
        f"Failed to write JSON value for tensor type: {_UNWRITABLE.get(array.dtype.name, array.dtype.name)}",
    )


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _string(value: bytes) -> str:
    text = value.decode("utf-8", "surrogateescape")
    return f'"{text}"' if _PLAIN_BYTES.fullmatch(value) else quote(text)


def _decimals(values: list[float], dtype: np.dtype) -> list[str]:
    full_digits = 9 if dtype == np.float32 else 17
    if len(values) < _VECTORISE_FROM:
        return [format_decimal(value, full_digits) for value in values]
    short = ("%.6g " * len(values) % tuple(values)).split()
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.array(short, np.float64).astype(dtype) == np.array(values, dtype)
    full = f"%.{full_digits}g"
    return [
        text + ("" if "." in text or "e" in text else ".0")
        if same and text[-1] not in "fn"
        else format_decimal(value, full_digits)
        if text[-1] in "fn"
        else _whole(full % value)
        for text, same, value in zip(short, exact.tolist(), values, strict=True)
    ]


def _whole(text: str) -> str:
    return text if "." in text or "e" in text else text + ".0"
