"""TensorProto ↔ NumPy, with the fields that TF Serving fills (`float_val` and the like)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.serving.protocol.status import invalid_argument

TensorProto: Any = type(tf.make_tensor_proto(0))

_INT_VAL = ("int32", "int16", "int8", "uint8", "uint16")
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    **dict.fromkeys(_INT_VAL, "int_val"),
}
_COMPLEX = {"complex64": ("scomplex_val", np.float32), "complex128": ("dcomplex_val", np.float64)}
_MAX_BYTES = MAX_ELEMENTS = 2**31 - 1
"""What a message of the largest size could hold; a shape that claims more is an attack on memory."""


def to_array(name: str, proto: TensorProto, max_elements: int = MAX_ELEMENTS) -> np.ndarray:
    """The array that a request's tensor holds; strings as an object array of `bytes`.

    It is read as `Tensor::FromProto` does: `tensor_content` goes before typed fields; of these, too few
    values repeat the last one, none stand for zeros, and too many are cut off.

    Args:
        name: the input's, for the message.
        proto: the tensor.
        max_elements: the most elements that its shape may claim.

    Raises:
        StatusError: INVALID_ARGUMENT `tensor parsing error: NAME`.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    count = math.prod(sizes)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes) or count > max_elements:
        raise invalid_argument(f"tensor parsing error: {name}")
    try:
        return _values(proto, count).reshape(sizes)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        raise invalid_argument(f"tensor parsing error: {name}") from None


def _values(proto: TensorProto, count: int) -> np.ndarray:
    dtype = tf.dtypes.as_dtype(proto.dtype)
    if dtype == tf.string:
        strings = _split_strings(proto.tensor_content, count) if proto.tensor_content else proto.string_val
        return _sized(_strings(strings[:count]), count, b"")
    numpy_dtype = dtype.as_numpy_dtype
    if not count:
        return np.zeros(0, numpy_dtype)
    if proto.tensor_content:
        values = np.frombuffer(proto.tensor_content, np.uint8 if dtype == tf.bool else numpy_dtype)
        if dtype == tf.bool and (values > 1).any():
            raise ValueError("A byte of a bool is 0 or 1")
        return values.astype(numpy_dtype)
    if dtype.name in _COMPLEX:
        field, part = _COMPLEX[dtype.name]
        numbers = getattr(proto, field)
        values = np.array(numbers[: min(2 * count, len(numbers) // 2 * 2)], part).view(numpy_dtype)
    elif dtype.name in ("float16", "bfloat16"):
        values = np.array(proto.half_val[:count], np.int32).astype(np.uint16).view(numpy_dtype)
    else:
        values = np.array(getattr(proto, _FIELDS[dtype.name])[:count]).astype(numpy_dtype)
    return _sized(values, count, 0)


def _sized(values: np.ndarray, count: int, empty: Any) -> np.ndarray:
    if len(values) == count:
        return values
    if count * values.itemsize > _MAX_BYTES:
        raise ValueError("Few values stand for too many")
    sized = np.full(count, values[-1] if len(values) else empty, values.dtype)
    sized[: len(values)] = values
    return sized


def _strings(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Strings out of `tensor_content`: `count` lengths as varints, then the bytes."""
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("The lengths do not add up to the content")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _join_strings(values: Sequence[bytes]) -> bytes:
    """The reverse of `_split_strings`."""
    lengths = bytearray()
    for value in values:
        length = len(value)
        while length >= 0x80:
            lengths.append(length & 0x7F | 0x80)
            length >>= 7
        lengths.append(length)
    return bytes(lengths) + b"".join(values)


def to_proto(array: np.ndarray, as_content: bool = False) -> TensorProto:
    """A TensorProto in typed fields, or in `tensor_content` where asked for."""
    if array.dtype.kind in "OSU":
        proto = TensorProto(dtype=tf.string.as_datatype_enum)
        values = [
            value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()
        ]
        if as_content:
            proto.tensor_content = _join_strings(values)
        else:
            proto.string_val.extend(values)
    else:
        dtype = tf.dtypes.as_dtype(array.dtype)
        proto = TensorProto(dtype=dtype.as_datatype_enum)
        if as_content:
            proto.tensor_content = array.tobytes()
        elif dtype.name in _FIELDS:
            getattr(proto, _FIELDS[dtype.name]).extend(array.ravel().tolist())
        elif dtype.name in ("float16", "bfloat16"):
            proto.half_val.extend(array.ravel().view(np.uint16).tolist())
        elif dtype.is_complex:
            field = proto.scomplex_val if dtype == tf.complex64 else proto.dcomplex_val
            field.extend(array.ravel().view(np.float32 if dtype == tf.complex64 else np.float64).tolist())
        else:
            proto.tensor_content = array.tobytes()
    # An empty shape message says "scalar"; it must be there.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto
