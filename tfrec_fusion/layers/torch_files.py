"""PyTorch's weight files as NumPy arrays, without PyTorch.

Such a file is a pickle, which may call anything. What is read here may make tensors and dictionaries and
nothing else: a file that names another function is refused.
"""

from __future__ import annotations

import collections
import os
import pickle
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from tfrec_fusion.errors import TfrecError

__all__ = ["TorchFileError", "read_torch_weights"]

_MAGIC = 0x1950A86A20F9469CFC6C
# What a pickle that was cut, or holds other bytes than were written, raises.
UNREADABLE = (
    pickle.UnpicklingError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    struct.error,
)
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}


class TorchFileError(TfrecError, ValueError):
    """A file that holds no weights which can be read here; says what was seen, and the way out."""


class _Reader(pickle.Unpickler):
    """Makes dictionaries, and tensors as `(storage, offset, shape, strides)`; `dtypes` of each storage."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in _DTYPES:
            return name
        raise TorchFileError(
            f"A file of weights must hold tensors alone. Received: one that names {module}.{name}. Save it"
            " with `torch.save(model.state_dict(), path)`."
        )

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.dtypes[str(key)] = _DTYPES[kind]
        return str(key)


def read_torch_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote of a `state_dict` before PyTorch 1.6.

    Args:
        path: of the file.

    Returns:
        Name → array, of its own dtype and shape.

    Raises:
        TorchFileError: for a file of another form, a cut one, or one that holds anything but tensors.
    """
    with open(path, "rb") as stream:
        try:
            magic, _protocol, _system = (_Reader(stream).load() for _ in range(3))
            if magic != _MAGIC:
                raise ValueError(f"it begins with {magic!r}")
            reader = _Reader(stream)
            tensors = reader.load()
            storages = {str(key): _content(stream, reader.dtypes[str(key)]) for key in _Reader(stream).load()}
            return {name: _array(storages[key], *layout) for name, (key, *layout) in tensors.items()}
        except TorchFileError:
            raise
        except UNREADABLE as error:
            raise TorchFileError(
                "A file of weights must be a whole `state_dict` in PyTorch's form before 1.6. Received:"
                f" {os.fspath(path)!r} ({type(error).__name__}: {error}). Install the package anew, or save"
                " with `_use_new_zipfile_serialization=False`."
            ) from error


def _content(stream: BinaryIO, dtype: str) -> np.ndarray:
    """The numbers of the next storage."""
    (count,) = struct.unpack("<q", stream.read(8))
    content = stream.read(count * np.dtype(dtype).itemsize)
    return np.frombuffer(content, dtype, count)


def _array(storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """A tensor of a storage, in whatever order of dimensions it lies there."""
    steps = [(count - 1) * stride for count, stride in zip(shape, strides, strict=True)]
    if offset < 0 or min([0, *shape, *strides]) < 0 or offset + sum(steps) >= max(len(storage), 1):
        raise ValueError(f"a tensor of {shape} lies outside of its {len(storage)} numbers")
    width = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * width for stride in strides]
    ).copy()
