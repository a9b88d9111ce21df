"""Profiles of users as they are served: features, latest history, and all items seen."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Profiles:
    """One row per user; row 0 stands for an unknown user.

    Attributes:
        ids: `U + 1` strings, row 0 empty.
        features: `user_index` int32 `[U + 1]` and each user feature, transformed (see `config.Feature`).
        history_items: int32 `[T]` indices of the latest items seen, newest last, one user after the other.
        history_splits: int64 `[U + 2]`, where each user's items start in `history_items`.
        history_length: how many there are of a user at most, and how many of a request's history count.
        seen_items: int32 `[S]` indices of all items seen, one user after the other.
        seen_splits: int64 `[U + 2]`, where each user's items start in `seen_items`.
    """

    ids: np.ndarray
    features: dict[str, np.ndarray]
    history_items: np.ndarray
    history_splits: np.ndarray
    history_length: int
    seen_items: np.ndarray
    seen_splits: np.ndarray

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) - 1 for name in ("history_splits", "seen_splits")}
        sizes |= {name: len(values) for name, values in self.features.items()}
        for name, size in sizes.items():
            if size != len(self.ids):
                raise ValueError(
                    f"`{name}` must have one row per id, row 0 included ({len(self.ids)}). Received: {size}"
                    " rows. Build it from the same list of users."
                )
