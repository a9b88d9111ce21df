"""Widths and recency of a blend's solved parts, as validation is worth them and memory and time allow.

A width is judged by how likely it makes what users chose in validation, with popularity beside it. The
smallest width is taken that is no more than a standard error, or a negligible amount, worse than the best
(the one-standard-error rule of Breiman et al., 1984, Classification and Regression Trees): a small noisy data
set gets few numbers, one with much to tell as many as it can use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.sparse

from tfrec_fusion.models.hybrid.blend_rows import Rows
from tfrec_fusion.models.hybrid.blend_solving import Choices, logistic_weights
from tfrec_fusion.models.hybrid.estimators import (
    CollaborativeFactors,
    ContentFactors,
    LogPopularity,
    Spectrum,
)

Setting = TypeVar("Setting")

WIDTHS = (32, 64, 128, 256, 512, 1024)
# Always affordable. Of what is wider items times width is bounded, since a search reads all of it: 8 MB of
# factors and 4 MB of content. So is the time that solving takes, which grows with rows and columns times the
# square of the width.
LEAST, MOST_NUMBERS, MOST_CONTENT, MOST_WORK = 64, 2**21, 2**20, 2**33
ROWS, SCORES = 500, 1_000_000
# Components whose variance is the ridge of the content part; None: no ridge.
# Only among the leading eighth: the last ones are noise.
RIDGES, RIDGES_WITHIN = (None, 16, 4), 8
# How fast older items of a history count less in the recent factors (`Blend.recency`); 0: there are none.
RECENCIES = (0.0, 0.5, 1.0, 1.5)
# Powers of an item's interactions that its factors are divided by (`CollaborativeFactors.divisor`).
DAMPINGS = (0.0, 0.25, 0.5, 0.75)
# Nats of a mean log likelihood: what a wider part must be worth at least.
WORTH = 0.005


@dataclasses.dataclass(frozen=True)
class Question:
    """Choices of validation that a part alone, or with popularity, is asked about.

    Attributes:
        rows, items: integer `[n]` each, which history holds which item.
        since: float32 `[n]`, the logarithm of one plus how many newer items it holds.
        shape: of a matrix of histories by items.
        candidates: sorted item indices `[m]`.
        target: integer `[rows]`, the position of what was chosen among them.
        allowed: bool `[rows, m]`.
        weight: float64 `[rows]`, sums to 1.
        towers: float32 `[rows, m]`, what the towers say of the candidates; zeros where nobody asked them.
    """

    rows: np.ndarray
    items: np.ndarray
    since: np.ndarray
    shape: tuple[int, int]
    candidates: np.ndarray
    target: np.ndarray
    allowed: np.ndarray
    weight: np.ndarray
    towers: np.ndarray

    @classmethod
    def draw(
        cls,
        rows: Rows,
        known: np.ndarray,
        num_items: int,
        rng: np.random.Generator,
        towers: Callable[[Rows, np.ndarray], np.ndarray] | None = None,
    ) -> Question:
        """A sample of rows whose users have a history, against known items or a sample of them.

        Args:
            rows: choices of known items; at least one.
            known: sorted indices of the items that training saw.
            num_items: row 0 included.
            rng: of the draws.
            towers: rows and candidates → what the towers say, float32 `[rows, m]`.
        """
        rows = rows.take(np.sort(rng.permutation(len(rows))[:ROWS]))
        candidates = known
        if len(known) * len(rows) > SCORES:
            drawn = rng.choice(known, SCORES // len(rows), replace=False)
            candidates = np.unique(np.concatenate([drawn, rows.target]))
        history = rows.batch["history"]
        row, column = np.nonzero(history)
        items = history[row, column]
        newer = np.cumsum(history[:, ::-1] > 0, axis=1)[:, ::-1] - 1
        since = np.log1p(newer[row, column]).astype(np.float32)
        allowed = np.ones((len(rows), len(candidates)), bool)
        position = np.minimum(np.searchsorted(candidates, items), len(candidates) - 1)
        among = candidates[position] == items
        allowed[row[among], position[among]] = False
        target = np.searchsorted(candidates, rows.target)
        weight = rows.weight / rows.weight.sum()
        said = np.zeros(allowed.shape, np.float32) if towers is None else towers(rows, candidates)
        return cls(row, items, since, (len(rows), num_items), candidates, target, allowed, weight, said)

    def history(self, recency: float) -> scipy.sparse.csr_matrix:
        """How much each item of a history counts (`Blend.recency`), float32 `[rows, items]`."""
        return scipy.sparse.csr_matrix((np.exp(-recency * self.since), (self.rows, self.items)), self.shape)

    def losses(self, *scores: np.ndarray) -> np.ndarray:
        """Negative log likelihood of each choice under the likeliest weights of some parts, float64 `[rows]`.

        Args:
            *scores: float32 `[rows, m]` or `[m]` of each part.
        """
        shape = self.allowed.shape
        stacked = np.stack([np.broadcast_to(part, shape) for part in scores], -1)
        choices = Choices(stacked, self.target, self.allowed, self.weight)
        return choices.losses(logistic_weights(choices)[0])


def affordable(interactions: scipy.sparse.csr_matrix) -> list[int]:
    """The widths of `WIDTHS` that a matrix `[users, items]` can be solved and served with, the smallest
    first; the last one may be its rank's bound."""
    users, items = interactions.shape
    most = min(MOST_NUMBERS // items, int(np.sqrt(MOST_WORK / (users + items))))
    most = min(max(LEAST, most), min(users, items) - 1)
    return [width for width in WIDTHS if width < most] + ([most] if 0 < most <= WIDTHS[-1] else [])


class FactorsSettings(NamedTuple):
    """Width of the collaborative factors, recency of those that stand beside them, 0 for none, and damping of
    items that many chose."""

    width: int
    recency: float = 0.0
    damping: float = 0.0


def factors_settings(
    question: Question, spectrum: Spectrum, counts: np.ndarray, widths: Sequence[int]
) -> FactorsSettings:
    """The settings of the collaborative factors that make likeliest what was chosen, beside the towers and
    popularity: what the towers know already, the factors need not tell again.

    Damping and then recency are chosen at the width that is nearest to `LEAST`, then the width.

    Args:
        question: what validation asks.
        spectrum: of the interactions, at least as wide as the widest.
        counts: int64 `[items]`, interactions of each.
        widths: to choose among, the smallest first.
    """
    popularity = LogPopularity().fit(counts).scores

    def losses(width: int, recency: float, damping: float) -> np.ndarray:
        factors = CollaborativeFactors(width).fit_spectrum(spectrum)
        divisor = factors.divisor(counts, damping)[:, None]
        items = (factors.vectors / divisor)[question.candidates].T
        histories = [question.history(each) for each in sorted({0.0, recency})]
        scores = [_unit((history @ factors.vectors) * factors.gain) @ items for history in histories]
        return question.losses(*scores, popularity[question.candidates], question.towers)

    first = min(widths, key=lambda width: abs(width - LEAST))
    weight = question.weight
    damping = simplest(lambda tried: losses(first, 0.0, tried), DAMPINGS, weight, errors=0.0)
    recency = simplest(lambda tried: losses(first, tried, damping), RECENCIES, weight, errors=0.0)
    if recency:
        twice = 2 * question.shape[1]
        widths = [width for width in widths if width <= LEAST or width * twice <= MOST_NUMBERS] or widths[:1]
    width = simplest(lambda width: losses(width, recency, damping), widths, weight)
    return FactorsSettings(width, recency, damping)


def content_settings(
    question: Question,
    text: Callable[[np.ndarray], np.ndarray],
    content: ContentFactors,
    widths: Sequence[int],
) -> tuple[int, int | None]:
    """Width and ridge of the content part, by what it says alone: so it must speak for new items.

    Args:
        question: what validation asks.
        text: item indices `[n]` → float32 `[n, text_dim]`.
        content: fitted with the widest width and no ridge.
        widths: to choose among, the smallest first. Of each width the ridge is chosen by the
            same rule, none being the simplest.
    """
    needed = np.unique(np.concatenate([question.candidates, question.items]))
    history, vectors = question.history(0.0)[:, needed], text(needed)
    candidates = np.searchsorted(needed, question.candidates)
    best: dict[int, int | None] = {}
    ridges = [ridge for ridge in RIDGES if ridge is None or ridge <= vectors.shape[1] // RIDGES_WITHIN]

    def losses(width: int) -> np.ndarray:
        by_ridge = {}
        for ridge in ridges:
            items = content.narrowed(width, ridge).transform(vectors)
            by_ridge[ridge] = question.losses(_unit(history @ items) @ items[candidates].T)
        best[width] = simplest(by_ridge.__getitem__, ridges, question.weight)
        return by_ridge[best[width]]

    width = simplest(losses, widths, question.weight)
    return width, best[width]


def content_widths(text_dim: int, num_items: int) -> list[int]:
    """The widths of `WIDTHS` below `text_dim`, and that itself, that a catalogue can be served with."""
    most = min(text_dim, max(LEAST, MOST_CONTENT // num_items))
    return [width for width in WIDTHS if width < most] + [most]


def simplest(
    losses: Callable[[Setting], np.ndarray],
    settings: Sequence[Setting],
    weight: np.ndarray,
    errors: float = 1.0,
) -> Setting:
    """The first of some settings that is no more than some standard errors, or `WORTH`, worse than the best.

    Args:
        losses: setting → float64 `[rows]`.
        settings: the simplest first; at least one.
        weight: float64 `[rows]`, sums to 1.
        errors: how many; 0 where a setting costs nothing.
    """
    tried = [losses(setting) for setting in settings]
    best = min(tried, key=lambda values: weight @ values)
    for setting, values in zip(settings, tried, strict=True):
        lost = values - best
        mean = weight @ lost
        if mean <= max(WORTH, errors * np.sqrt(weight**2 @ (lost - mean) ** 2)):
            return setting
    raise AssertionError("The best is no worse than itself.")


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
