"""Planted graphs: groups of users and items of which edges alone tell, or of which edges tell nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from tfrec_fusion import Recommender

__all__ = ["Planted", "ndcg", "planted"]


@dataclasses.dataclass(frozen=True)
class Planted:
    """What is fitted, and what is asked.

    Users choose what is of their group, and nothing but the edges names the groups. New items were never
    chosen, new users never chose.

    Attributes:
        interactions, items, users: the tables, without any feature.
        item_edges, user_edges: between members of one group, or of any where the graph is noise.
        new_items, new_users: their ids.
        liked: user → the items of their group.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    item_edges: pd.DataFrame
    user_edges: pd.DataFrame
    new_items: list[str]
    new_users: list[str]
    liked: dict[str, set[str]]

    def tables(self, with_items: bool = True, with_users: bool = True) -> dict[str, Any]:
        """Arguments of `Recommender.fit`."""
        edges: dict[str, Any] = {"item_edges": self.item_edges} if with_items else {}
        edges |= {"user_edges": self.user_edges} if with_users else {}
        return {"interactions": self.interactions, "items": self.items, "users": self.users, **edges}


def planted(
    noise: bool = False, users: int = 400, items: int = 240, groups: int = 8, choices: int = 12, seed: int = 0
) -> Planted:
    """Draws a planted set.

    Args:
        noise: whether edges join nodes of any groups.
        users, items: how many; a fifth of the users and a quarter of the items are new.
        groups: how many.
        choices: of each user that is not new; one in six is of another group.
        seed: of the draws. The interactions do not depend on `noise`.
    """
    rng = np.random.default_rng(seed)
    of_user, of_item = rng.integers(groups, size=users), rng.integers(groups, size=items)
    user_ids = np.array([f"u{number}" for number in rng.permutation(users)], object)
    item_ids = np.array([f"i{number}" for number in rng.permutation(items)], object)
    old_users, old_items = np.arange(users) >= users // 5, np.arange(items) >= items // 4
    rows = []
    for user in np.flatnonzero(old_users):
        own, others = (np.flatnonzero(old_items & (same == (of_item == of_user[user]))) for same in (1, 0))
        few = choices // 6
        chosen = [*rng.choice(own, min(len(own), choices - few), False), *rng.choice(others, few, False)]
        rows += [(user_ids[user], item_ids[item], rng.integers(10**6)) for item in chosen]
    edges = np.random.default_rng(seed + 1)
    return Planted(
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]),
        pd.DataFrame({"item_id": item_ids}),
        pd.DataFrame({"user_id": user_ids}),
        _edges(item_ids, of_item, noise, edges),
        _edges(user_ids, of_user, noise, edges),
        list(item_ids[~old_items]),
        list(user_ids[~old_users]),
        {user: set(item_ids[of_item == group]) for user, group in zip(user_ids, of_user, strict=True)},
    )


def _edges(ids: np.ndarray, groups: np.ndarray, noise: bool, rng: np.random.Generator) -> pd.DataFrame:
    """Six edges a node."""
    groups = rng.permutation(groups) if noise else groups
    pairs = []
    for node, group in enumerate(groups):
        others = np.flatnonzero(groups == group)
        others = others[others != node]
        pairs += [(node, other) for other in rng.choice(others, min(3, len(others)), False)]
    ends = np.unique(np.sort(pairs, 1), axis=0)
    return pd.DataFrame({"source": ids[ends[:, 0]], "target": ids[ends[:, 1]]})


def ndcg(model: Recommender, data: Planted, users: list[str], k: int = 10, **inputs: Any) -> np.ndarray:
    """NDCG@k of each user's list, by what is of their group: float `[users]`.

    Args:
        model: fitted.
        data: what it was fitted to.
        users: who is asked.
        k: length of the lists.
        **inputs: of the request, such as `allow`.
    """
    answers = model.recommend(users, k, **inputs)
    liked = [item in data.liked[user] for user, item in zip(answers.user_id, answers.item_id, strict=True)]
    gains = answers.assign(gain=np.array(liked) / np.log2(1 + answers["rank"]))
    best = (1 / np.log2(2 + np.arange(k))).sum()
    return gains.groupby("user_id")["gain"].sum().reindex(users, fill_value=0.0).to_numpy() / best
