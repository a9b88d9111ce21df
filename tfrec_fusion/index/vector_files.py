"""Vectors in files, larger than memory: what many workers wrote, read as one array."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np


class VectorFiles:
    """Matrices in `.npy` files, one after the other, as one matrix of which only what is asked for is read.

    Each worker of a Beam job writes its part with `np.save`; `build_index` takes them together as it takes an
    array.

    Args:
        paths: the files in the order of rows, each float `[any, dim]` of one dtype.

    Raises:
        ValueError: if there is no file, or they differ in `dim` or dtype.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for part in (0, 1):
        ...     np.save(f"{folder}/part-{part}.npy", np.full([2, 3], part, "float32"))
        >>> vectors = VectorFiles(sorted(os.path.join(folder, name) for name in os.listdir(folder)))
        >>> vectors.shape, vectors[np.array([3, 0])].sum(axis=1).tolist()
        ((4, 3), [3.0, 0.0])
    """

    ndim = 2

    def __init__(self, paths: Iterable[str | os.PathLike]):
        self.paths = [os.fspath(path) for path in paths]
        self._parts = [np.load(path, mmap_mode="r") for path in self.paths]
        kinds = {(part.ndim, part.shape[-1], part.dtype) for part in self._parts}
        if len(kinds) != 1 or self._parts[0].ndim != 2:
            shapes = ", ".join(f"{path}: {part.dtype} {part.shape}" for path, part in self._named())
            raise ValueError(
                f"The files must hold matrices of one width and dtype. Received: {shapes or 'no file'}. Leave"
                " the others out."
            )
        self.dtype = self._parts[0].dtype
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape = (int(self._ends[-1]), self._parts[0].shape[1])
        self.size = self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """An array of the rows of a slice without a step, or of integers from 0, `rows.shape + [dim]`."""
        if isinstance(rows, slice):
            start, end, step = rows.indices(len(self))
            if step != 1:
                raise ValueError(f"A slice must have no step. Received: {rows}.")
            rows = np.arange(start, max(start, end))
        flat = np.asarray(rows).reshape(-1)
        owners = np.searchsorted(self._ends, flat, side="right")
        found = np.empty((len(flat), self.shape[1]), self.dtype)
        for owner in np.unique(owners):
            mine = owners == owner
            first = self._ends[owner] - len(self._parts[owner])
            found[mine] = self._parts[owner][flat[mine] - first]
        return found.reshape(*np.shape(rows), self.shape[1])

    def _named(self) -> Iterable[tuple[str, np.ndarray]]:
        return zip(self.paths, self._parts, strict=True)


Vectors = np.ndarray | VectorFiles
