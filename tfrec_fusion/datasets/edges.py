"""Graphs beside the three tables: files of edges between items, or between users, and what their columns
mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config import ConfigError, Settings
from tfrec_fusion.datasets.csv_format import Csv

__all__ = ["Edges", "Graph", "NodeKind"]

NodeKind = Literal["items", "users"]


@dataclasses.dataclass(frozen=True)
class Edges(Settings):
    """A file of edges: friendships, citations, or the triples of a knowledge graph.

    Edges have no direction: what one end is near to, the other is.

    Attributes:
        path: file or glob.
        source, target: columns of the ids of both ends.
        relation: optional column that says what an edge means, the middle of a triple.
        relations: with `relation`: the relations that are read, and how much an edge of each counts; those of
            0 are left out on purpose, those not named are rejected. All count 1 where empty.
        weight: optional column of a number above 0, how much an edge counts. An empty one counts 1.
        entities: whether an end that is no item stands for a further thing, such as an actor or a genre,
            which becomes a node of its own. False: both ends must be known. None: true with a `relation`.
            Users have no further entities.
        csv: how a CSV file is written.
    """

    path: str
    source: str = "source"
    target: str = "target"
    relation: str | None = None
    relations: dict[str, Annotated[float, Interval(ge=0)]] = dataclasses.field(default_factory=dict)
    weight: str | None = None
    entities: bool | None = None
    csv: Csv = Csv()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == self.target:
            raise ConfigError(
                "The two ends of an edge must be two columns. Received:"
                f" `source` and `target` are both {self.source!r}. Name the other one."
            )
        if self.relations and not self.relation:
            raise ConfigError(
                f"`relations` needs `relation`. Received: {self.relations} without the column. Name it."
            )
        if self.relations and not any(self.relations.values()):
            raise ConfigError(
                f"`relations` must count at least one relation above 0. Received: {self.relations}. No edge"
                " would be left."
            )

    @property
    def with_entities(self) -> bool:
        """Whether ends that are no items become nodes of their own."""
        return self.relation is not None if self.entities is None else self.entities

    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        optional = (name for name in (self.relation, self.weight) if name)
        return tuple(dict.fromkeys((self.source, self.target, *optional)))


@dataclasses.dataclass(frozen=True)
class Graph(Settings):
    """Edges between items and between users, and how they become a vector of each (`features.node_vectors`).

    Attributes:
        items: files of edges whose ends are items, or further entities.
        users: files of edges whose ends are users.
        hops: how far a node sees: 1, its neighbours alone.
        dim: numbers of a vector; more tell more nodes apart. A multiple of 8.
    """

    items: tuple[Edges, ...] = ()
    users: tuple[Edges, ...] = ()
    hops: Annotated[int, Interval(ge=1, le=10)] = 3
    dim: Annotated[int, Interval(ge=8, le=512)] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.items and not self.users:
            raise ConfigError(
                "`graph` must name edges of `items` or of `users`. Received: neither. For example:"
                " `graph: {users: [{path: friends.csv, source: user, target: friend}]}`."
            )
        if self.dim % 8:
            raise ConfigError(
                f"`graph.dim` must be a multiple of 8. Received: {self.dim}. Take {self.dim // 8 * 8 + 8}."
            )
        for edges in self.users:
            if edges.with_entities:
                raise ConfigError(
                    "Edges of `graph.users` are between users alone. Received:"
                    f" {'`entities: true`' if edges.entities else '`relation` ' + repr(edges.relation)} for"
                    f" {edges.path!r}. Set `entities: false`, and further things as `users.categories`."
                )

    def of(self, kind: NodeKind) -> tuple[Edges, ...]:
        """The files of edges between items, or between users."""
        return self.items if kind == "items" else self.users

    def moved(self, path: Callable[[str, str], str]) -> Graph:
        """The same edges in other places, which `path` makes of the name and the path of each file."""

        def all_of(name: str, several: tuple[Edges, ...]) -> tuple[Edges, ...]:
            return tuple(dataclasses.replace(edges, path=path(name, edges.path)) for edges in several)

        items, users = all_of("graph.items", self.items), all_of("graph.users", self.users)
        return dataclasses.replace(self, items=items, users=users)

    def columns(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, path and needed columns of each file."""
        return [
            (f"graph.{kind}", edges.path, edges.columns())
            for kind, several in (("items", self.items), ("users", self.users))
            for edges in several
        ]
