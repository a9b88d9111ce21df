"""Team-draft interleaving: two rankings in one list, and clicks say whose items are preferred.

As two captains choose players, each round is begun by one ranking or the other (a fair coin), and both put in
turn their best item that is not yet in the list. A click counts for the ranking that put the item there. Much
fewer users are needed than with arms, since each compares both rankings.

Reference: Radlinski et al., 2008, https://doi.org/10.1145/1458082.1458092; Chapelle et al., 2012,
https://doi.org/10.1145/2094072.2094078
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from scipy import stats

from tfrec_fusion.experiments.checks import ExperimentError, check_share, vector
from tfrec_fusion.experiments.sequential import always_valid

Item = TypeVar("Item", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Interleaved:
    """A list of two rankings.

    Attributes:
        items: in the order to show them.
        teams: 0 or 1 for each: the ranking that put it there.
    """

    items: tuple[Hashable, ...]
    teams: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Preference:
    """Whose items are clicked more.

    Attributes:
        value: mean over units of `(second - first) / (first + second)` clicks, from -1 (only the first) to 1.
        low, high, p_value: of a single look.
        always_low, always_high, always_p: at every look at once.
        units: that clicked at all; the others say nothing.
    """

    value: float
    low: float
    high: float
    p_value: float
    always_low: float
    always_high: float
    always_p: float
    units: int


def team_draft(
    first: Sequence[Item], second: Sequence[Item], k: int, rng: np.random.Generator
) -> Interleaved:
    """Interleaves two rankings.

    Args:
        first, second: items, best first; one that occurs again in a ranking is passed over.
        k: length of the list; shorter where both rankings have fewer different items.
        rng: throws the coins. Seeded by the request's id, the list can be made again.

    Returns:
        The list, and who put each item there. Once one ranking is used up, the rest is the other's.
    """
    if k < 1:
        raise ExperimentError(f"`k` must be at least 1. Received: {k}.")
    rankings: tuple[Sequence[Item], Sequence[Item]] = (first, second)
    places = [0, 0]
    items: list[Item] = []
    teams: list[int] = []
    taken: set[Item] = set()
    while len(items) < k:
        begins = int(rng.integers(2))
        before = len(items)
        for team in (begins, 1 - begins):
            ranking = rankings[team]
            while places[team] < len(ranking) and ranking[places[team]] in taken:
                places[team] += 1
            if places[team] < len(ranking) and len(items) < k:
                item = ranking[places[team]]
                items.append(item)
                teams.append(team)
                taken.add(item)
        if len(items) == before:
            break
    return Interleaved(tuple(items), tuple(teams))


def coins(salt: str, unit: str) -> np.random.Generator:
    """The coins of one list: the same for the same salt and unit (a user, or a request)."""
    digest = hashlib.blake2b(f"{salt}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def preference(
    first: np.ndarray, second: np.ndarray, *, scale: float = 0.1, confidence: float = 0.95
) -> Preference:
    """Which ranking is preferred.

    Args:
        first, second: float `[units]`, at least 0: each unit's (user's) clicks on items of either ranking.
        scale: the preference that would matter, for the always-valid interval.
        confidence: of the intervals.

    Returns:
        The mean preference over units that clicked, so that no user counts more than another.

    Raises:
        ExperimentError: fewer than two units clicked, or there are counts below 0.
    """
    check_share("confidence", confidence)
    one = vector("first", first)
    two = vector("second", second, len(one))
    if (one < 0).any() or (two < 0).any():
        raise ExperimentError("Clicks must be counts of at least 0. Received: some below 0.")
    total = one + two
    clicked = total > 0
    if clicked.sum() < 2:
        raise ExperimentError(f"At least two units must have clicked. Received: {int(clicked.sum())}.")
    values = (two - one)[clicked] / total[clicked]
    count, mean = len(values), float(values.mean())
    # Two made-up units that contradict each other: a handful of real ones that agree is no certainty.
    error = float(np.append(values, [-1.0, 1.0]).std(ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    low, high, always_p = always_valid(mean, error, scale, confidence)
    return Preference(
        mean,
        max(-1.0, mean - reach),
        min(1.0, mean + reach),
        p_value,
        max(-1.0, low),
        min(1.0, high),
        always_p,
        count,
    )
