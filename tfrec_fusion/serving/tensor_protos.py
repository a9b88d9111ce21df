"""TensorProto ↔ NumPy, with the fields that TF Serving fills (`float_val` and the like)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.serving.status import invalid_argument

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
_MAX_ELEMENTS = 2**31 - 1
"""What a message of the largest size could hold as bytes; a shape that claims more is an attack on memory."""


def to_array(name: str, proto: TensorProto) -> np.ndarray:
    """The array that a request's tensor holds; strings as an object array of `bytes`.

    Raises:
        StatusError: INVALID_ARGUMENT `tensor parsing error: NAME`.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes) or math.prod(sizes) > _MAX_ELEMENTS:
        raise invalid_argument(f"tensor parsing error: {name}")
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        raise invalid_argument(f"tensor parsing error: {name}") from None


def to_proto(array: np.ndarray, as_content: bool = False) -> TensorProto:
    """A TensorProto in typed fields, or in `tensor_content` where asked for (strings never are)."""
    if array.dtype.kind in "OSU":
        proto = TensorProto(dtype=tf.string.as_datatype_enum)
        values: Sequence[object] = array.ravel().tolist()
        proto.string_val.extend(
            [value if isinstance(value, bytes) else str(value).encode() for value in values]
        )
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
