"""Exploration of the top of a list: Thompson sampling or UCB with propensities, at a bounded cost.

Scores are estimates, those of items that were shown seldom are uncertain ones. Thompson sampling shows an
item with the probability that it is the best one:

    s̃ᵢ ~ N(sᵢ, wᵢ²),   wᵢ = width · sd(s) / sqrt(1 + nᵢ / prior)

with `sd(s)` the standard deviation of the candidates' scores and `nᵢ` how often item i was shown. This
probability is an integral of one dimension, `∫ φᵢ(x) Π_{j≠i} Φⱼ(x) dx`, which is computed and not simulated.
UCB shows the item whose upper confidence bound `sᵢ + wᵢ` is the highest. It draws nothing: what varies is
what the bounded cost and `floor` leave to chance, and items that are neither best nor bounded highest have
`floor` alone for their propensity, so that its logs say less of other policies.
Items are drawn from the computed probabilities, position by position among those left, so that the
probability that is logged is exactly the one drawn from: that of the item at its position, given the items
above it.

The cost is bounded in each position: exploring is mixed with the best item left, so that the score given up
in expectation is at most `max_cost` of the distance between the best candidate and the worst.

Reference: Thompson, 1933; Chapelle & Li, 2011,
https://papers.nips.cc/paper/4321-an-empirical-evaluation-of-thompson-sampling; Li et al., 2010 (LinUCB, whose
bound is a multiple of the standard deviation too), https://doi.org/10.1145/1772690.1772758
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tfrec_fusion.experiments.checks import ExperimentError, vector


def _log_ndtr(z: float) -> float:
    """Logarithm of the normal distribution function."""
    if z < -30:  # where it would underflow: the first terms of its expansion
        return -(z**2) / 2 - math.log(-z) - math.log(2 * math.pi) / 2 - 1 / z**2
    return math.log(math.erfc(-z / math.sqrt(2)) / 2)


# A table: the image that serves has NumPy and no SciPy.
_GRID = np.linspace(-40.0, 40.0, 16_001)
_LOG_NDTR = np.array([_log_ndtr(z) for z in _GRID.tolist()])
_POINTS = 25
_NARROWEST = 1e-6
METHODS = ("thompson", "ucb")
_CUTS = np.array([[-4.0], [-2.0], [0.0], [2.0], [4.0]])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclasses.dataclass(frozen=True)
class Exploration:
    """How much is explored.

    Attributes:
        method: `thompson`, or `ucb`.
        top: how many of the best items are candidates.
        keep: positions at the head of the list that stay as they are.
        width: uncertainty of an item that was never shown, in standard deviations of the candidates' scores,
            and how far its upper bound is above its score; 0 explores nothing.
        prior: after so many impressions, the variance is half of that.
        max_cost: the most score that a position gives up in expectation, as a share of the distance between
            the best candidate's score and the worst's.
        floor: within exploration, the least probability of each candidate, so that weights stay bounded.
    """

    top: int = 30
    keep: int = 0
    width: float = 1.0
    prior: float = 100.0
    max_cost: float = 0.05
    floor: float = 0.001
    method: Literal["thompson", "ucb"] = "thompson"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ExperimentError(f"`method` must be one of {', '.join(METHODS)}. Received: {self.method!r}.")
        for name, low, high in (
            ("top", 1, 1000),
            ("keep", 0, 1000),
            ("width", 0, 1e6),
            ("prior", 1e-6, 1e12),
            ("max_cost", 0, 1),
            ("floor", 0, 1),
        ):
            value = getattr(self, name)
            kinds = int if name in ("top", "keep") else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                raise ExperimentError(f"`{name}` must be between {low:g} and {high:g}. Received: {value!r}.")
        if self.floor * self.top > 1:
            raise ExperimentError(
                f"`floor` must be at most 1 / `top` ({1 / self.top:g}). Received: {self.floor!r}."
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Exploration:
        """From what a JSON or YAML file says; raises ExperimentError for unknown keys."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or set(values) - known:
            raise ExperimentError(
                f"Exploration has the keys {', '.join(sorted(known))}. Received: {values!r}."
            )
        return cls(**values)


def read_exploration(path: str | os.PathLike[str]) -> Exploration:
    """Exploration of a JSON file: `{"top": 30, "max_cost": 0.05}`.

    Raises:
        ExperimentError: the file cannot be read, or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return Exploration.from_mapping(json.load(file))
    except (OSError, ValueError) as error:
        if isinstance(error, ExperimentError):
            raise
        raise ExperimentError(f"Exploration cannot be read from {os.fspath(path)}: {error}.") from None


@dataclasses.dataclass(frozen=True)
class Explored:
    """A list with exploration.

    Attributes:
        order: integer `[k]`: which candidate stands at each position.
        propensities: float64 `[k]`: its probability there, given the items above it.
        cost: float64 `[k]`: the score that the position gives up in expectation.
    """

    order: np.ndarray
    propensities: np.ndarray
    cost: np.ndarray


def best_probabilities(means: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The probability of each of several independent normal variables to be the largest.

    Args:
        means: float `[n]`.
        widths: float `[n]`, their standard deviations, above 0.

    Returns:
        float64 `[n]`, which sum to 1; by Gauss–Legendre quadrature over where the maximum can lie.
    """
    # The maximum is hardly ever below any variable's own low end. Between, pieces as the variables lie.
    low, high = (means - 6 * widths).max(), (means + 6 * widths).max()
    cuts = np.sort((means + _CUTS * widths).ravel())
    cuts = cuts[(cuts > low) & (cuts < high)]
    if len(cuts) > _POINTS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, _POINTS).astype(np.int64)]
    edges = np.concatenate([[low], cuts, [high]])
    half, middle = (edges[1:] - edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2
    x = (middle[:, None] + half[:, None] * _NODES).ravel()
    mass = (half[:, None] * _WEIGHTS).ravel()
    z = (x - means[:, None]) / widths[:, None]
    z = np.minimum(np.maximum(z, -40.0), 40.0)  # beyond, all is 0 or 1
    log_below = np.interp(z, _GRID, _LOG_NDTR)
    log_density = -(z**2) / 2 - np.log(widths)[:, None]
    values = np.exp(log_below.sum(0) - log_below + log_density) @ mass
    return values / values.sum()


def probabilities(scores: np.ndarray, shown: np.ndarray, exploration: Exploration) -> np.ndarray:
    """With which probability each candidate is drawn for the next position.

    Args:
        scores: float `[n]`.
        shown: float `[n]`, at least 0: how often each was shown.
        exploration: how much is explored; `top` and `keep` are not looked at.

    Returns:
        float64 `[n]`, which sum to 1. The expected score is below the best one by at most `max_cost` times
        the distance between best and worst.
    """
    best = int(np.argmax(scores))
    greedy = np.zeros(len(scores))
    greedy[best] = 1.0
    spread, distance = float(scores.std()), float(scores.max() - scores.min())
    if len(scores) == 1 or not exploration.width:
        return greedy
    if not math.isfinite(distance):
        return greedy
    widths = np.maximum(exploration.width / np.sqrt(1 + shown / exploration.prior), _NARROWEST)
    if not spread and (exploration.method == "thompson" or not exploration.max_cost):
        return np.full(len(scores), 1 / len(scores)) if exploration.max_cost else greedy
    scaled = (scores - scores[best]) / (spread or 1.0)
    if exploration.method == "thompson":
        explored = best_probabilities(scaled, widths)
    else:
        explored = np.zeros(len(scores))
        explored[np.argmax(scaled + widths)] = 1.0
    explored = exploration.floor + (1 - exploration.floor * len(scores)) * explored
    cost = float(explored @ (scores[best] - scores))
    rate = min(1.0, exploration.max_cost * distance / cost) if cost else 1.0
    drawn = rate * explored + (1 - rate) * greedy
    return drawn / drawn.sum()


def explore(
    scores: np.ndarray,
    k: int,
    exploration: Exploration,
    rng: np.random.Generator,
    shown: np.ndarray | None = None,
) -> Explored:
    """Draws a list.

    Args:
        scores: float `[n]`, the candidates' scores; the best `exploration.top` of them take part.
        k: length of the list.
        exploration: how much is explored.
        rng: draws. Seeded by the request's id, the list can be made again.
        shown: float `[n]`, how often each candidate was shown before; where None, all are as uncertain as one
            that never was.

    Returns:
        The list, with propensities; positions below the candidates that take part are filled in the order of
        the scores, with propensity 1.

    Raises:
        ExperimentError: scores or counts that are no numbers, or counts below 0.
    """
    values = vector("scores", scores)
    counts = np.zeros(len(values)) if shown is None else vector("shown", shown, len(values))
    if (counts < 0).any():
        raise ExperimentError(f"`shown` must hold counts of at least 0. Received: {counts.min():g}.")
    if k < 1:
        raise ExperimentError(f"`k` must be at least 1. Received: {k}.")
    ranking = np.argsort(-values, kind="stable")
    left, rest = list(ranking[: exploration.top]), list(ranking[exploration.top :])
    order: list[int] = []
    propensities: list[float] = []
    cost: list[float] = []
    while left and len(order) < k:
        here = np.asarray(left)
        if len(order) < exploration.keep:
            place, drawn = 0, np.eye(1, len(left))[0]
        else:
            drawn = probabilities(values[here], counts[here], exploration)
            place = int(rng.choice(len(left), p=drawn))
        order.append(left.pop(place))
        propensities.append(float(drawn[place]))
        cost.append(float(drawn @ (values[here[0]] - values[here])))
    for item in rest[: k - len(order)]:
        order.append(item)
        propensities.append(1.0)
        cost.append(0.0)
    return Explored(np.asarray(order, np.int64), np.asarray(propensities), np.asarray(cost))
