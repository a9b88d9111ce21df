"""The catalogue: what is known about each item, as NumPy arrays with one row per item index."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Items by index; row 0 stands for padding and for the unknown item.

    Interactions carry an item's index alone; models gather everything else from here, so that text and features are
    stored once an item and never travel with interactions.

    Attributes:
        ids: `N + 1` strings, row 0 empty.
        titles: `N + 1` strings, row 0 empty.
        features: per item feature an array whose first dimension is `N + 1` (see `config.Feature` for the rest).
        text_vectors: float16 or float32 `[N + 1, text_dim]`, row 0 zeros; None without text.
        counts: int64 `[N + 1]`, training interactions of each item; 0 marks an item that training never saw, whose
            id embedding means nothing.

    Raises:
        ValueError: if an array does not have one row per id.
    """

    ids: np.ndarray
    titles: np.ndarray
    features: dict[str, np.ndarray]
    text_vectors: np.ndarray | None
    counts: np.ndarray

    def __post_init__(self):
        arrays = {"titles": self.titles, "counts": self.counts, **self.features}
        if self.text_vectors is not None:
            arrays["text_vectors"] = self.text_vectors
        for name, array in arrays.items():
            if len(array) != len(self.ids):
                raise ValueError(
                    f"`{name}` must have one row per id, row 0 included ({len(self.ids)}). Received: {len(array)} rows. "
                    "Build it from the same list of items."
                )

    def __len__(self) -> int:
        """Rows, row 0 included."""
        return len(self.ids)
