"""Team-draft interleaving: two rankings in one list. Whose items are clicked more is told by `preferences`.

As two captains choose players, each round is begun by one ranking or the other (a fair coin), and both put in
turn their best item that is not yet in the list. A click counts for the ranking that put the item there. Much
fewer users are needed than with arms, since each compares both rankings.

Reference: Radlinski et al., 2008, https://doi.org/10.1145/1458082.1458092; Chapelle et al., 2012,
https://doi.org/10.1145/2094072.2094078
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from tfrec_fusion.experiments.checks import ExperimentError

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
