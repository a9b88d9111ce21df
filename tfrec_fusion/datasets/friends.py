"""Friendships as interactions: users choose users, so that models recommend whom to know."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.cells import as_python
from tfrec_fusion.datasets.edge_lists import EdgeList, ids_of, read_edges
from tfrec_fusion.datasets.edges import Edges
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.tables import IdRule, Interactions, Items, Tables, Users
from tfrec_fusion.files import whole_file

__all__ = ["friend_tables"]

USER, FRIEND, TIME, WEIGHT = "user_id", "friend_id", "time", "weight"
DAYS_1 = 86_400


def friend_tables(
    edges: Sequence[Edges],
    work: str,
    items: Items | None = None,
    users: Users | None = None,
    rule: IdRule = "as_written",
    max_reject_share: float = 1.0,
) -> Tables:
    """Writes friendships as Parquet and says where.

    Each edge is two interactions of one moment: its order among the others is a hash of both ends, so that a
    split by time holds out both directions or neither, and what is asked for cannot be read off the other.
    Each user chose themselves first of all: so nobody is recommended to themselves, and what two histories
    have in common counts friends of friends. With `A` the adjacency, `(A + I)² = A² + 2 A + I` holds the
    common neighbours of any two, which `A²` alone tells of their friends.

    Args:
        edges: the files.
        work: folder that receives `interactions.parquet`, and `items.parquet` without `items`.
        items: what is known of users as those who are recommended; None: their ids.
        users: what is known of them as those who are asked for.
        rule: how ids are written.
        max_reject_share: of the edges, the share that may be unusable.

    Raises:
        ConfigError: if a file cannot be read or lacks a column, or too many edges cannot be used.
    """
    known = _listed(items, rule) if items else ids_of(edges, "users", rule)
    found = read_edges(edges, "users", known, rule)
    lost, read = len(found.rejects), len(found.rejects) + len(found)
    if not len(found) or lost > max_reject_share * read:
        example = f", such as {found.rejects[0][0]}: {found.rejects[0][1]}" if lost else ""
        raise ConfigError(
            f"At most {max_reject_share:.1%} of the edges of `data.graph.users` may be unusable"
            f" (`data.max_reject_share`), and one must be left. Received: {lost:,} of {read:,}{example}. Mend"
            " them, or the columns that are named."
        )
    target = pathlib.Path(work)
    target.mkdir(parents=True, exist_ok=True)
    _write(interactions(found, known), target / "interactions.parquet")
    if items is None:
        _write(pd.DataFrame({USER: known}), target / "items.parquet")
        items = Items(str(target / "items.parquet"), USER)
    weight = None if (found.weights == 1).all() else WEIGHT
    path = str(target / "interactions.parquet")
    chosen = Interactions(path, USER, FRIEND, TIME, time_format="s", weight=weight)
    return Tables(chosen, items, users, rule, rule)


def interactions(edges: EdgeList, known: Sequence[str]) -> pd.DataFrame:
    """`user_id`, `friend_id`, `time` in seconds and `weight`: both directions of each edge, and before them
    of each known user a row for themselves, with weight 1."""
    names = np.array(edges.keys, object)
    ends = names[edges.sources], names[edges.targets]
    times = [_moment(one, other) for one, other in zip(*ends, strict=True)]
    both = pd.DataFrame({USER: ends[0], FRIEND: ends[1], TIME: times, WEIGHT: edges.weights})
    turned = both.rename(columns={USER: FRIEND, FRIEND: USER})
    own = pd.DataFrame({USER: known, FRIEND: known, TIME: 0, WEIGHT: 1.0})
    return pd.concat([own, both, turned[list(both)]], ignore_index=True)


def _moment(one: str, other: str) -> int:
    """Seconds after the first day of 1970, the same for both directions."""
    text = "\x1f".join(sorted((one, other))).encode("utf-8", "surrogatepass")
    return DAYS_1 + int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") // 2


def _listed(items: Items, rule: IdRule) -> list[str]:
    found: dict[str, None] = {}
    for file in find_files(items.path, "items"):
        for batch in read_batches(file, (items.id,), "items", csv=items.csv, report=lambda _: None):
            where = f"column {items.id!r} of the items table"
            found.update(dict.fromkeys(as_python(ids(batch.column(0), rule, where).unique().drop_null())))
    return list(found)


def _write(frame: pd.DataFrame, path: pathlib.Path) -> None:
    with whole_file(path, binary=True) as stream:
        frame.to_parquet(stream, index=False)
