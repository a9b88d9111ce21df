"""Tables as the arrays that models take, in memory: read, split by time, and encoded, without TFX.

Reading, order, splits, features and text vectors are those of a run of the pipeline; the same code makes
them, from whole columns at once.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfrec_fusion.config import (
    ConfigError,
    FeatureSpace,
    LabelKind,
    SplitConfig,
    TextConfig,
    TransformConfig,
)
from tfrec_fusion.config.preparation import check_repeats
from tfrec_fusion.datasets.edges import NodeKind
from tfrec_fusion.datasets.events import NO_CHOICE
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import SPLITS
from tfrec_fusion.datasets.tables import Items, Tables
from tfrec_fusion.features.columns import (
    USER_VOCABULARY,
    context_features,
    graph_feature,
    media_features,
    user_features,
)
from tfrec_fusion.features.interaction_arrays import Columns, RequestTransform, SplitRows
from tfrec_fusion.features.item_arrays import described, item_arrays
from tfrec_fusion.features.media_vectors import check_any, encode_media
from tfrec_fusion.features.node_vectors import node_vectors
from tfrec_fusion.features.reviews import check_reviews
from tfrec_fusion.features.statistics import encoded, vocabulary_of
from tfrec_fusion.features.whole_tables import Rejected, read_choices, read_entities
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training.batches import chosen_rows

__all__ = ["Known", "Prepared", "prepare"]


@dataclasses.dataclass(frozen=True)
class Known:
    """What a served model knows beside its catalogue.

    Attributes:
        tables: what was read, with nothing left open.
        profiles: the users, with everything that they chose.
        transform: what becomes of a request's columns.
    """

    tables: Tables
    profiles: Profiles
    transform: RequestTransform


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A split data set in the arrays that models take.

    Attributes:
        space: sizes and features.
        catalogue: the items, with tokens where there is a text tower.
        train, validation, test: one entry per interaction: `user_index` int32 `[n]`, `history` int32 `[n, H]`
            (`split.history_length` in training, more in the others), `item_index` int32 `[n]`, the user and
            context features, the labels (float32 `[n]`), and `weight` where choices have weights; in training
            also `history_weight`.
        users: int64 per row of `test`, equal where two rows are of one user, also of one that training never
            saw.
        seen: per row of `test` int32, the items that its user chose before.
        labels: label name → its kind, as the ranking model takes them.
        known: what is served beside the models; None where nothing is.
        rejects: (table, reason) → how many rows could not be used.
        times, test_times: int64 per row of `train` and `test`, nanoseconds since 1970; None where nobody
            knows.
    """

    space: FeatureSpace
    catalogue: Catalogue
    train: Columns
    validation: Columns
    test: Columns
    users: np.ndarray
    seen: list[np.ndarray]
    labels: dict[str, LabelKind] = dataclasses.field(default_factory=lambda: {"click": "binary"})
    known: Known | None = None
    rejects: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    times: np.ndarray | None = None
    test_times: np.ndarray | None = None


def prepare(
    tables: Tables,
    split: SplitConfig | None = None,
    transform: TransformConfig | None = None,
    text: TextConfig | None = None,
    *,
    click_threshold: float = 4.0,
    max_reject_share: float = 1.0,
    vectors: str | None = None,
    known: Mapping[str, Sequence[bytes]] | None = None,
    test_from: int | None = None,
) -> Prepared:
    """Reads, splits and encodes. Rows that cannot be used are left out and counted, as in a run.

    Args:
        tables: where the three tables are, and what their columns mean.
        split: how interactions are divided.
        transform: how raw features become numbers.
        text: which encoder reads the items' texts; None for none.
        click_threshold: a label at or above it counts as a click.
        max_reject_share: of a table's rows, the share that may be unusable.
        vectors: folder that keeps vectors of texts, pictures and sounds for the next time; None: none.
        known: vocabularies of features that an earlier model learned, whose values keep their indices.
        test_from: nanoseconds since 1970 from which all is test, in place of the share `split.test`;
            validation is its share of what was before.

    Raises:
        ConfigError: if a table cannot be read, too many of its rows cannot be used, or a split is empty.
    """
    split, transform = split or SplitConfig(), transform or TransformConfig()
    rejects: Rejected = collections.Counter()
    tables = settle(tables).tables
    check_repeats(split, tables.interactions.time is not None)
    items = read_entities(tables.items, "items", tables, rejects)
    users = read_entities(tables.users, "users", tables, rejects) if tables.users else {}
    check_reviews(tables, text)
    events = read_choices(tables, items, rejects, texts=tables.interactions.text is not None)
    kept = {"items": len(items), "users": len(users), "interactions": sum(map(len, events.values()))}
    for name, count in kept.items():
        _check_rejects(name, count, rejects, max_reject_share)
    _add_media(tables.items, items, vectors, rejects, max_reject_share)
    _add_vectors(tables, "items", items, items, rejects, max_reject_share)
    _add_vectors(tables, "users", users, [*events, *users], rejects, max_reject_share)
    rows = SplitRows(tables, users, events, split, click_threshold, test_from, text, vectors)
    ids = vocabulary_of(items)
    by_bytes = {encoded(item): item for item in items}
    items = {by_bytes[item]: items[by_bytes[item]] for item in ids}
    item_index = {item: index for index, item in enumerate(items, 1)}
    request = RequestTransform(
        tables, transform.vocabulary_size, rows.learn(transform.vocabulary_size, known)
    )
    parts = {part: rows.encode(part, item_index, request) for part in SPLITS}
    counts = np.bincount(chosen_rows(parts["train"])["item_index"], minlength=len(items) + 1)
    catalogue, features = item_arrays(
        tables, items, ids, counts, text, vectors, transform.vocabulary_size, known, rows.reviews
    )
    statistics = request.statistics
    space = FeatureSpace(
        num_users=statistics.size(USER_VOCABULARY),
        num_items=len(catalogue),
        user_features=described(user_features(tables), statistics, {}),
        item_features=features,
        context_features=described(context_features(tables), statistics, {}),
        text_dim=None if catalogue.text_vectors is None else catalogue.text_vectors.shape[1],
        history_length=split.history_length,
        review_dim=None if catalogue.reviews is None else catalogue.reviews.shape[1],
        repeats=split.repeats,
    )
    test = rows.examples["test"]
    return Prepared(
        space,
        catalogue,
        **parts,
        users=np.unique(np.array([user for user, _ in test], object), return_inverse=True)[1],
        seen=[np.array([item_index[item] for item in example.seen], np.int32) for _, example in test],
        labels=tables.labels,
        known=Known(tables, rows.profiles(item_index, request), request),
        rejects={reason: count for reason, count in rejects.items() if count},
        times=np.array([example.event.time for _, example in rows.examples["train"]], np.int64),
        test_times=np.array([example.event.time for _, example in test], np.int64),
    )


def _add_vectors(
    tables: Tables,
    kind: NodeKind,
    rows: dict[str, dict[str, Any]],
    known: Iterable[str],
    rejects: Rejected,
    most: float,
) -> None:
    """Adds the vector of each item or user that has edges to its row."""
    name = graph_feature(tables, kind)
    if tables.graph is None or name is None:
        return
    rule = tables.item_ids if kind == "items" else tables.user_ids
    nodes = node_vectors(tables.graph, kind, known, rule)
    for reason, count in nodes.counted().items():
        rejects[f"graph.{kind}", reason] += count
    _check_rejects(f"graph.{kind}", nodes.edges, rejects, most)
    for key in nodes.keys:
        rows[key] = {**rows.get(key, {}), name: nodes.of(key)}


def _add_media(
    table: Items, rows: dict[str, dict[str, Any]], folder: str | None, rejects: Rejected, most: float
) -> None:
    """Puts the vectors of items' pictures and sounds in place of what their files are called."""
    for feature, (kind, column) in zip(media_features(table), table.media_columns, strict=True):
        names = dict.fromkeys(row[feature.name] for row in rows.values() if row.get(feature.name))
        found = encode_media(kind, names, table.media, folder)
        check_any(found, column)
        for reason, count in found.counted().items():
            rejects[f"items.{column}", reason] += count
        _check_rejects(f"items.{column}", len(found.keys), rejects, most)
        for key, row in rows.items():
            rows[key] = {**row, feature.name: found.of(row.get(feature.name))}


def _check_rejects(table: str, kept: int, rejects: Mapping[tuple[str, str], int], most: float) -> None:
    reasons = {
        reason: count
        for (name, reason), count in rejects.items()
        if name == table and count and not reason.startswith(NO_CHOICE)
    }
    lost = sum(reasons.values())
    if lost > most * (kept + lost):
        words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        raise ConfigError(
            f"At most {most:.1%} of the {table} table's rows may be unusable (`data.max_reject_share`)."
            f" Received: {lost:,} of {kept + lost:,}: {words}. Mend them, or the columns that are named, or"
            " raise the share."
        )
