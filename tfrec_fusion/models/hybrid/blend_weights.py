"""The parts of a blend, and what validation decided of them."""

from __future__ import annotations

import dataclasses

import numpy as np

PARTS = ("tower", "recent", "factors", "content", "popularity")


@dataclasses.dataclass(frozen=True)
class Weights:
    """What validation decided of a blend beside its widths.

    Attributes:
        known, unknown: float `[5]`, above 0, in the scores of users with and without a history.
        new: float `[5]`, in the scores of items that training never saw, for users with a history.
        new_popularity: of such items' popularity, for users without one.
        offsets: of such items' scores, for users without and with a history.
        ridge: of the regression that predicts such items.
        content_ridge: the component whose variance is the ridge of the content part; None for none.
        recency: see `Blend.recency`; 0 without recent factors.
        damping: of the factors of items that many chose (`blend`'s `a`).
    """

    known: np.ndarray
    unknown: np.ndarray
    new: np.ndarray
    new_popularity: float
    offsets: tuple[float, float]
    ridge: float
    content_ridge: int | None
    recency: float = 0.0
    damping: float = 0.0

    @classmethod
    def empty(cls) -> np.ndarray:
        """As many numbers as `to_array` makes, zeros."""
        parts = np.zeros(len(PARTS))
        return cls(parts, parts, parts, 0.0, (0.0, 0.0), 0.0, None).to_array()

    def to_array(self) -> np.ndarray:
        """All of it as float32 `[n]`."""
        alone = [self.new_popularity, *self.offsets, self.ridge]
        content = -1 if self.content_ridge is None else self.content_ridge
        alone = [*alone, content, self.recency, self.damping]
        return np.concatenate([self.known, self.unknown, self.new, alone], dtype=np.float32)

    @classmethod
    def from_array(cls, values: np.ndarray) -> Weights:
        """What `to_array` made an array of."""
        known, unknown, new, rest = np.split(values.astype(np.float64), np.arange(1, 4) * len(PARTS))
        ridge = None if rest[4] < 0 else int(rest[4])
        numbers = (float(rest[3]), ridge, float(rest[5]), float(rest[6]))
        return cls(known, unknown, new, rest[0], (rest[1], rest[2]), *numbers)
