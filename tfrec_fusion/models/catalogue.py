"""The catalogue: what is known about each item, as NumPy arrays with one row per item index."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Items by index; row 0 stands for padding and for the unknown item.

    Interactions carry an item's index alone; models gather everything else from here, so that text and
    features are stored once an item and never travel with interactions.

    Attributes:
        ids: `N + 1` strings, row 0 empty.
        titles: `N + 1` strings, row 0 empty.
        features: per item feature an array whose first dimension is `N + 1` (see `config.Feature` for the
            rest).
        text_vectors: float16 or float32 `[N + 1, text_dim]`, row 0 zeros; None without text.
        counts: int64 `[N + 1]`, training interactions of each item; 0 marks an item that training never saw,
            whose id embedding means nothing.
        names: per categorical item feature the value that each index stands for, strings `[size]`, index 0
            empty; what a request may filter by. A feature that is not listed cannot be filtered by.
        text_tokens: `input_ids` and `attention_mask`, int32 `[N + 1, length]`, row 0 zeros; needed where the
            text encoder is trained (`TextConfig.stage`).
        model_index: int32 `[N + 1]`, the row of each item in the tables of the model that serves it, 0 for an
            item newer than the model; the same row where None. See `models.new_items`.
        reviews: float32 `[N + 1, any]`, the mean of what users wrote about each item as training knows it;
            None where no such texts are read. See `features.reviews`.
        reviews_now: the same of all texts, for a refit to all rows.
        num_offered: items that may be recommended, which are rows 1 to this; those behind them are known from
            histories only. All where None.

    Raises:
        ValueError: if an array does not have one row per id, or a feature of numbers holds one that is not
            finite.
    """

    ids: np.ndarray
    titles: np.ndarray
    features: dict[str, np.ndarray]
    text_vectors: np.ndarray | None
    counts: np.ndarray
    names: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    text_tokens: dict[str, np.ndarray] | None = None
    model_index: np.ndarray | None = None
    num_offered: int | None = None
    reviews: np.ndarray | None = None
    reviews_now: np.ndarray | None = None

    def __post_init__(self) -> None:
        arrays = {"titles": self.titles, "counts": self.counts, **self.features, **(self.text_tokens or {})}
        if self.text_vectors is not None:
            arrays["text_vectors"] = self.text_vectors
        for name in ("reviews", "reviews_now"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        if self.model_index is not None:
            arrays["model_index"] = self.model_index
        for name, array in arrays.items():
            if len(array) != len(self.ids):
                raise ValueError(
                    f"`{name}` must have one row per id, row 0 included ({len(self.ids)}). Received:"
                    f" {len(array)} rows. Build it from the same list of items."
                )
        for name, values in self.features.items():
            check_numbers(name, values, self.ids)

    @property
    def offered(self) -> int:
        """How many items may be recommended; they are rows 1 to this."""
        return len(self) - 1 if self.num_offered is None else self.num_offered

    def members(self) -> dict[str, np.ndarray]:
        """The items of each named category that are offered: its name → int32 `[any]` of indices, from 1."""
        rows: dict[str, list[np.ndarray]] = {}
        for feature, names in self.names.items():
            values = self.features[feature].reshape(len(self), -1)[: self.offered + 1]
            items, columns = np.nonzero(values)
            categories = values[items, columns]
            order = np.argsort(categories, kind="stable")
            edges = np.searchsorted(categories[order], np.arange(1, len(names) + 1))
            for index, (start, end) in enumerate(itertools.pairwise(edges), 1):
                rows.setdefault(str(names[index]), []).append(items[order[start:end]])
        return {name: np.unique(np.concatenate(parts)).astype(np.int32) for name, parts in rows.items()}

    def item_categories(self, numbers: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """The categories of each item, each once, of all named features together.

        Args:
            numbers: name of a category → its number, from 1; others are left out.

        Returns:
            int32 `[any]` numbers, and int64 `[N + 2]`: those of row `r` are
            `numbers[splits[r]:splits[r + 1]]`.
        """
        width = max(numbers.values(), default=0) + 1
        pairs = [np.zeros(0, np.int64)]
        for feature, names in self.names.items():
            values = self.features[feature].reshape(len(self), -1)
            number = np.array([0, *(numbers.get(str(name), 0) for name in names[1:])], np.int64)
            items, columns = np.nonzero((values > 0) & (values < len(names)))
            found = number[values[items, columns]]
            pairs.append((items * width + found)[found > 0])
        unique = np.unique(np.concatenate(pairs))
        splits = np.searchsorted(unique, np.arange(len(self) + 1) * width)
        return (unique % width).astype(np.int32), splits.astype(np.int64)

    def __len__(self) -> int:
        """Rows, row 0 included."""
        return len(self.ids)


def check_numbers(name: str, values: np.ndarray, ids: np.ndarray) -> None:
    """Raises ValueError where a feature of items holds a number that is not finite: training would end in
    NaN.

    Args:
        name: of the feature.
        values: `[N + 1, ...]`; integers are left alone.
        ids: `N + 1` strings.
    """
    rows = np.asarray(values).reshape(len(values), -1)
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return
    wrong = np.flatnonzero(~np.isfinite(rows).all(1))
    row = rows[wrong[0]]
    others = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
    raise ValueError(
        f"Feature {name!r} must hold finite numbers. Received: {row[~np.isfinite(row)][0]} of item "
        f"{str(ids[wrong[0]])!r}{others}. Give it a number there, or leave the feature out."
    )
