"""The features of a run, derived from the tables' columns: the one list that schemas, Transform, trainers,
slices and signatures are made from, and the one owner of what each is called where.

A column may be called anything, also `index`, `activity` or what the pipeline itself calls something. So
every feature made of a column has a name that no other feature can have:

| where | name | `Price (EUR)` among the items' numbers |
|---|---|---|
| in Examples, in Transform's graph and in models | `RawFeature.name` | `item_number___price_eur_a8e7…` |
| the file of its vocabulary | `RawFeature.vocabulary` | letters and digits, safe on case-blind file systems |
| as an input of a request (context alone) | `RawFeature.name` | |
| shown to users, and in `evaluation.slices` | `RawFeature.shown` | `item_Price (EUR)` |

Names of what the pipeline makes itself hold no `__` and do not begin with `context_`; names made of columns
do.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tfrec_fusion import naming
from tfrec_fusion.config import FeatureKind, Modality
from tfrec_fusion.datasets.edges import NodeKind
from tfrec_fusion.datasets.media import MediaKind
from tfrec_fusion.datasets.tables import Items, Tables
from tfrec_fusion.naming import ITEM_REVIEWS, ITEM_REVIEWS_NOW, USER_REVIEWS

GRAPH = "graph"
ITEM_VOCABULARY = "item_id"
USER_VOCABULARY = "user_id"
Role = Literal["user", "item", "context", "text"]


@dataclasses.dataclass(frozen=True)
class RawFeature:
    """A column in one of its roles, as it stands in the Examples before Transform.

    Attributes:
        role: whose column it is, `text` for what the text tower reads of items.
        kind: as in `tfrec_fusion.config.Feature`; text is `categorical`, a string.
        column: what its table calls it.
        given_name: the name that it has instead of one made of the column: of context the input of a request
            that takes it, of a graph's vectors a name of the pipeline's own.
        width: numbers of a `vector`, where the configuration says it; None: the files do.
        modality: of vectors that are made of pictures or sounds, which.
    """

    role: Role
    kind: FeatureKind
    column: str
    given_name: str = ""
    width: int | None = None
    modality: Modality = ""

    @property
    def name(self) -> str:
        """What it is called in Examples, in Transform's graph and in models."""
        if self.given_name:
            return self.given_name
        kind = "" if self.role == "text" else f"_{self.kind}"
        return f"{self.role}{kind}__{naming.identifier(self.column)}"

    @property
    def vocabulary(self) -> str:
        """What the file of its values is called."""
        return f"values_{naming.digest(self.name)}"

    @property
    def shown(self) -> str:
        """The shown name: `item_price`."""
        return f"{self.role}_{self.column}"


def label_feature(label: str) -> str:
    """What a further label is called in Examples; in batches and answers it has its own name."""
    return f"label__{label}"


def user_features(tables: Tables) -> list[RawFeature]:
    """Side features of users."""
    columns: dict[FeatureKind, tuple[str, ...]] = {}
    if tables.users:
        columns = {"categorical": tables.users.categories, "number": tables.users.numbers}
    return [*_features("user", columns), *_graph_features("user", tables), *_own_reviews(tables)]


def context_features(tables: Tables) -> list[RawFeature]:
    """What is known of the moment of a choice."""
    columns = list(dict.fromkeys(tables.interactions.context))
    return [
        RawFeature("context", "categorical", column, request)
        for column, request in zip(columns, naming.context_inputs(columns), strict=True)
    ]


def item_features(tables: Tables) -> list[RawFeature]:
    """Side features of items, without their text."""
    items = tables.items
    columns: dict[FeatureKind, tuple[str, ...]] = {
        "categorical": items.categories,
        "categories": items.lists,
        "number": items.numbers,
        "vector": items.vectors,
    }
    return [*_features("item", columns), *_graph_features("item", tables), *media_features(items)]


def media_features(items: Items) -> list[RawFeature]:
    """The vectors that `media_vectors` makes of pictures and sounds, in place of what their columns hold."""
    named: dict[MediaKind, Modality] = {"images": "image", "audio": "sound"}
    return [
        RawFeature(
            "item",
            "vector",
            column,
            f"item_{named[kind]}__{naming.identifier(column)}",
            items.media.dim,
            named[kind],
        )
        for kind, column in items.media_columns
    ]


def _graph_features(role: Role, tables: Tables) -> list[RawFeature]:
    """The vectors that `node_vectors` makes of the graph, which stand in no table."""
    edges = tables.graph.of("items" if role == "item" else "users") if tables.graph else ()
    if tables.graph is None or not edges:
        return []
    return [RawFeature(role, "vector", GRAPH, f"{role}_{GRAPH}", tables.graph.dim)]


def _own_reviews(tables: Tables) -> list[RawFeature]:
    """The mean of what the user wrote, which differs from one of the user's examples to the next."""
    table = tables.interactions
    if table.text is None:
        return []
    return [RawFeature("user", "vector", "reviews", USER_REVIEWS, table.text_dim)]


def pair_features(tables: Tables) -> list[RawFeature]:
    """What examples say of their item at their moment: the mean of what was written about it before. The
    ranking model reads it where it learns ratings: of drawn negatives nobody knows the moment."""
    table = tables.interactions
    if table.text is None or table.label is None:
        return []
    return [RawFeature("item", "vector", "reviews", ITEM_REVIEWS, table.text_dim)]


def catalogue_reviews(tables: Tables) -> list[RawFeature]:
    """What the catalogue says of the texts about each item: as training knows them, and as they are now."""
    return [
        dataclasses.replace(feature, given_name=name)
        for feature in pair_features(tables)
        for name in (ITEM_REVIEWS, ITEM_REVIEWS_NOW)
    ]


def graph_feature(tables: Tables, kind: NodeKind) -> str | None:
    """What the vectors of items or users are called in Examples and models; None without such edges."""
    features = _graph_features("item" if kind == "items" else "user", tables)
    return features[0].name if features else None


def text_features(tables: Tables) -> list[RawFeature]:
    """The text fields, in the order in which the text tower reads them."""
    return _features("text", {"categorical": tables.items.texts})


def _features(role: Role, columns: dict[FeatureKind, tuple[str, ...]]) -> list[RawFeature]:
    # A column that is named twice in one role is one feature.
    return [
        RawFeature(role, kind, column) for kind, names in columns.items() for column in dict.fromkeys(names)
    ]


def shown_names(tables: Tables) -> dict[str, str]:
    """Name in Examples → shown name, of all features that are made of columns."""
    result = user_features(tables) + context_features(tables) + item_features(tables) + text_features(tables)
    return {feature.name: feature.shown for feature in result}
