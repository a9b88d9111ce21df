"""Lists and sparse tensors as dense arrays of one width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["arrays", "end_to_end", "left_padded", "objects", "stack", "with_row_0"]


def arrays(outputs: Mapping[str, tf.Tensor | tf.SparseTensor]) -> dict[str, np.ndarray]:
    """Dense arrays, whole numbers as int32."""
    results = {}
    for name, value in outputs.items():
        array = (tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value).numpy()
        results[name] = array.astype(np.int32) if array.dtype == np.int64 else array
    return results


def objects(values: Iterable[Any]) -> np.ndarray:
    """Values of any kind as they are, one an entry."""
    listed = list(values)
    array = np.empty(len(listed), object)
    for position, value in enumerate(listed):  # at once, NumPy makes rows of lists of one length
        array[position] = value
    return array


def left_padded(rows: Sequence[Sequence[float]], width: int, dtype: type = np.int32) -> np.ndarray:
    padded: np.ndarray = np.zeros((len(rows), width), dtype)
    for position, row in enumerate(rows):
        if row:
            padded[position, -len(row) :] = row
    return padded


def end_to_end(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of items one after the other, int32, and where each begins, int64."""
    splits = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return np.array([item for row in rows for item in row], np.int32), splits


def stack(arrays: list[np.ndarray]) -> np.ndarray:
    """End to end, padded with 0 to the widest."""
    if arrays[0].ndim == 2:
        width = max(array.shape[1] for array in arrays)
        arrays = [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]
    return np.concatenate(arrays)


def with_row_0(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(values[:1]), values])
