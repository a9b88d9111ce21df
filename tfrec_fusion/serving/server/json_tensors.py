"""JSON ↔ tensors of TF Serving's predict call: rows (`instances`) and columns (`inputs`).

Regular input (lists of one size, one kind of value) is converted by a few C-speed passes. Anything else goes
to a walk over the document in TF Serving's own order, which finds the first mistake and words it the same
way.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server import deadline
from tfrec_fusion.serving.server.json_text import members, type_name, value_to_string

INT32 = (-(2**31), 2**31 - 1)
_INTEGERS: dict[str, tuple[int, int]] = {
    "int8": INT32,
    "int16": INT32,
    "uint8": INT32,
    "int32": INT32,
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOATS = ("float", "double")
_NUMPY: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "bool": np.bool_,
    "string": object,
    **{name: np.dtype(name).type for name in _INTEGERS},
}
_FLOAT_MAX = float(np.finfo(np.float32).max)
_NUMBER_TYPES = ({int}, {float}, {int, float})
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_SPACES = str.maketrans("", "", " \t\n\r\v\f")

MAX_AXES = 64
"""NumPy's limit; TensorFlow's own is 254."""

ROWS = "instances"
COLUMNS = "inputs"

DtypeMap = Mapping[str, str]
"""Input names of a signature to TensorFlow's names of their types (`float`, `int64`, `string`, …)."""


def decode_predict(
    document: dict[str, Any], dtypes_of: Callable[[str], DtypeMap]
) -> tuple[str, dict[str, np.ndarray], str]:
    """Turns a predict request into tensors, checking in TF Serving's order.

    Args:
        document: the request's JSON object.
        dtypes_of: looks up a signature's inputs; raises `StatusError` where model or signature are unknown.

    Returns:
        The signature's name as asked for (may be empty), the tensors by input name, and the request's form
        (`ROWS` or `COLUMNS`).

    Raises:
        StatusError: what TF Serving answers.
    """
    signature = signature_name(document)
    dtypes = dtypes_of(signature)
    if not dtypes:
        raise invalid_argument(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    if ROWS in document:
        if COLUMNS in document:
            raise _format_error(
                document,
                f"Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' keys to exist ",
            )
        rows = document[ROWS]
        if type(rows) is not list:
            raise _format_error(document, f"Expecting '{ROWS}' to be an list/array")
        if not rows:
            raise _format_error(document, f"No values in '{ROWS}' array")
        return signature, _rows(rows, dtypes), ROWS
    if COLUMNS in document:
        return signature, _columns(document[COLUMNS], dtypes), COLUMNS
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def signature_name(document: dict[str, Any]) -> str:
    """The request's `signature_name`, empty where it has none."""
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise invalid_argument(
            f"JSON Value: {value_to_string(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def _format_error(value: Any, message: str) -> StatusError:
    return invalid_argument(f"JSON Value: {value_to_string(value)} {message}")


def is_base64(value: Any) -> bool:
    """Whether a value is an object whose one member is a string named `b64`."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def decode_base64(value: Any) -> bytes:
    """The bytes of a `{"b64": …}` object: standard alphabet, padding optional, white space skipped."""
    if not is_base64(value):
        raise _format_error(value, "not formatted correctly for base64 data")
    text = value["b64"].translate(_SPACES)
    digits = _BASE64.match(text).group()  # type: ignore[union-attr]  # matches nothing, too
    padding = text[len(digits) :]
    missing = -len(digits) % 4
    if missing == 3 or (padding and (len(padding) != missing or padding.strip("=."))):
        raise invalid_argument("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * missing)
    except binascii.Error:
        raise invalid_argument("Unable to base64 decode") from None


def _rows(rows: list[Any], dtypes: DtypeMap) -> dict[str, np.ndarray]:
    if len(dtypes) == 1:
        ((name, dtype),) = dtypes.items()
        first = rows[0]
        column: list[Any] | None = rows
        if type(first) is dict and not is_base64(first):
            column = _column(rows, name, 1)
        tensor = None if column is None else _regular(column, dtype)
        if tensor is not None:
            return {name: tensor}
    else:
        tensors = {}
        for name, dtype in dtypes.items():
            column = _column(rows, name, len(dtypes))
            tensor = None if column is None else _regular(column, dtype)
            if tensor is None:
                break
            tensors[name] = tensor
        else:
            return tensors
    return _walk_rows(rows, dtypes)


def _column(rows: list[Any], name: str, num_inputs: int) -> list[Any] | None:
    """The values of one input, or None unless every row is an object with as many members as there are
    inputs."""
    try:
        if all([type(row) is dict and len(row) == num_inputs for row in rows]):
            return [row[name] for row in rows]
    except KeyError:
        pass
    return None


def _columns(value: Any, dtypes: DtypeMap) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(dtypes) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as"
                " per tensorinfo_map"
            )
        ((name, dtype),) = dtypes.items()
        return {name: _tensor(value, dtype)}
    tensors = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = _tensor(value[name], dtype)
    return tensors


def _tensor(value: Any, dtype: str) -> np.ndarray:
    tensor = _regular(value, dtype) if type(value) is list else None
    if tensor is None:
        values: list[Any] = []
        shape = _shape(value)
        _fill(value, 0, shape, dtype, values)
        tensor = _make(values, shape, dtype)
    return tensor


def _regular(value: list[Any], dtype: str) -> np.ndarray | None:
    """The tensor of a well-formed nested list, or None where a closer look is needed."""
    shape = [len(value)]
    level = value
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list}:
            return None
        size = len(level[0])
        if len(level) > 1 and set(map(len, level)) != {size}:
            return None
        shape.append(size)
        level = list(chain.from_iterable(level)) if len(level) > 1 else level[0]
    if not level:
        # TF Serving sizes a tensor by its first elements alone, so only a list that is empty itself is
        # simple.
        return np.zeros(shape, _NUMPY[dtype]) if dtype in _NUMPY and len(shape) == 1 else None
    kinds = set(map(type, level))
    if dtype in _FLOATS:
        if kinds not in _NUMBER_TYPES:
            return None
        return _make(level, shape, dtype)
    if dtype == "string":
        if kinds != {str}:
            return None
        return _make([text.encode("utf-8", "surrogateescape") for text in level], shape, dtype)
    if dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if kinds != {int} or min(level) < low or max(level) > high:
            return None
        return _make(level, shape, dtype)
    if dtype == "bool" and kinds == {bool}:
        return _make(level, shape, dtype)
    return None


def _make(values: list[Any], shape: list[int], dtype: str) -> np.ndarray:
    if len(shape) > MAX_AXES:
        raise invalid_argument(f"Tensors are limited to {MAX_AXES} dimensions but got: {len(shape)}")
    if dtype == "string":
        array = np.empty(len(values), object)
        array[:] = values
    elif dtype in ("int8", "int16", "uint8"):
        array = np.array(values, np.int32).astype(_NUMPY[dtype])  # wraps, as TensorProto.int_val does
    elif dtype == "float" and values and not -_FLOAT_MAX <= min(values) <= max(values) <= _FLOAT_MAX:
        with np.errstate(
            over="ignore"
        ):  # becomes infinite, as a cast in C++ does; entering this costs microseconds
            array = np.array(values, np.float32)
    else:
        array = np.array(values, _NUMPY.get(dtype) or _without_json_form(dtype))
    return array if len(shape) == 1 else array.reshape(shape)


def _without_json_form(dtype: str) -> Any:
    """The NumPy type of an empty tensor, which alone has no element to be refused for."""
    try:
        return np.dtype(dtype)  # `half`, `uint16`, `complex64`; TensorFlow registers `bfloat16`
    except TypeError:
        return object


def _shape(value: Any) -> list[int]:
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, level: int, shape: list[int], dtype: str, values: list[Any]) -> None:
    """Appends a value's leaves to `values`, or raises what TF Serving says of the first one out of place."""
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise invalid_argument(
                f"JSON Value: {value_to_string(value)} found at incorrect level: {level + 1} in the JSON DOM."
                f" Expected at level: {rank}"
            )
        values.append(_leaf(value, dtype))
        return
    if level >= rank:
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size:"
            f" {shape[level]}"
        )
    deadline.check()
    for element in value:
        _fill(element, level + 1, shape, dtype, values)


def _leaf(value: Any, dtype: str) -> Any:
    kind = type(value)
    if isinstance(value, dict):
        if dtype == "string":
            return decode_base64(value)
        raise _type_error(value, dtype)
    if dtype in _FLOATS:
        if kind is int or kind is float:
            return value
    elif dtype == "string":
        if kind is str:
            return value.encode("utf-8", "surrogateescape")
    elif dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if kind is int and low <= value <= high:
            return value
    elif dtype == "bool":
        if kind is bool:
            return value
    else:
        raise StatusError(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {value_to_string(value)} to type: {dtype}"
        )
    raise _type_error(value, dtype)


def _type_error(value: Any, dtype: str) -> StatusError:
    return invalid_argument(
        f"JSON Value: {value_to_string(value)} Type: {type_name(value)} is not of expected type: {dtype}"
    )


def _walk_rows(rows: list[Any], dtypes: DtypeMap) -> dict[str, np.ndarray]:
    """TF Serving's own order of checks over `instances`, one row and one key after the other."""
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as"
            " per tensorinfo_map"
        )
    by_name = isinstance(rows[0], dict) and not is_base64(rows[0])
    shapes: dict[str, list[int]] = {}
    values: dict[str, list[Any]] = {}

    def add(item: Any, name: str) -> None:
        if name not in dtypes:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        row: list[Any] = []
        shape = _shape(item)
        _fill(item, 0, shape, dtypes[name], row)
        if name not in shapes:
            shapes[name], values[name] = shape, row
            return
        expected = int(np.prod(shapes[name], dtype=np.int64))
        if len(row) != expected:
            raise invalid_argument(f"Expecting tensor size: {expected} but got: {len(row)}")
        if shape != shapes[name]:
            raise invalid_argument(f"Expecting shape {_brackets(shapes[name])} but got: {_brackets(shape)}")
        values[name].extend(row)

    for position, row in enumerate(rows):
        deadline.check()
        if by_name:
            if not isinstance(row, dict) or is_base64(row):
                raise invalid_argument(f"Expecting object but got list at item {position} of input list")
            seen = set()
            for key, item in members(row):
                name = key.partition("\0")[0]  # as a C string
                seen.add(name)
                try:
                    add(item, name)
                except deadline.Ended:
                    raise
                except StatusError as error:
                    raise invalid_argument(
                        f"Failed to process element: {position} key: {name} of 'instances' list. Error:"
                        f" {error}"
                    ) from None
            if seen != dtypes.keys():
                raise invalid_argument(
                    f"Failed to process element: {position} of 'instances' list. JSON object: "
                    f"{value_to_string(row)} keys must be equal to: {','.join(sorted(dtypes))}"
                )
        else:
            if isinstance(row, dict) and not is_base64(row):
                raise invalid_argument(
                    f"Expecting value/list but got object at item {position} of input list"
                )
            try:
                add(row, next(iter(dtypes)))
            except deadline.Ended:
                raise
            except StatusError as error:
                raise invalid_argument(
                    f"Failed to process element: {position} of 'instances' list. Error: {error}"
                ) from None
    # A key twice in a row has put in more values than the tensor has room for: TensorFlow takes the first of
    # them.
    sizes = {name: [len(rows), *shape] for name, shape in shapes.items()}
    return {name: _make(values[name][: math.prod(size)], size, dtypes[name]) for name, size in sizes.items()}


def _brackets(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
