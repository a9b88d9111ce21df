"""Rows with a text and a class, divided as interactions are."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from tfrec_fusion.config import ConfigError, SplitConfig, TextConfig
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import SPLITS, SplitExample, split_users
from tfrec_fusion.datasets.tables import IdRule, Tables
from tfrec_fusion.features.columns import text_features
from tfrec_fusion.features.reviews import check_words, review_vectors
from tfrec_fusion.features.whole_tables import Rejected, read_choices, read_entities

__all__ = ["LabelledTexts", "check_counts", "check_label", "classes_of", "read_labelled"]


@dataclasses.dataclass(frozen=True)
class LabelledTexts:
    """Rows by split.

    Attributes:
        classes: their names.
        users, items: ids by index, those of training; row 0 is nobody's. Where items' texts are read, `items`
            are all of them.
        parts: split → `user_index` and `item_index` int32 `[n]`, 0 for one that training does not know,
            `text` float32 `[n, any]`, the vectors, and `label` int32 `[n]`.
        owners: split → int64 `[n]`, equal where two rows are of one user.
        item_vectors: float32 `[items, any]`, of the items' own texts; None where users' are read.
        trained: bool `[items]`, which of them training has.
        left_out: reason → rows that could not be used.
        id_rules: how ids of users and of items are written, as in `Tables`.
    """

    classes: tuple[str, ...]
    users: np.ndarray
    items: np.ndarray
    parts: dict[str, dict[str, np.ndarray]]
    owners: dict[str, np.ndarray]
    item_vectors: np.ndarray | None
    trained: np.ndarray
    left_out: dict[str, int]
    id_rules: tuple[IdRule, IdRule]


def read_labelled(
    tables: Tables,
    config: ClassifierConfig,
    split: SplitConfig,
    text: TextConfig | None,
    vectors: str | None = None,
) -> LabelledTexts:
    """Reads classes and texts.

    Args:
        tables: where they are.
        config: which columns.
        split: how rows are divided.
        text: which encoder.
        vectors: folder that keeps text vectors for the next time; None keeps none.

    Raises:
        ConfigError: for columns that hold no classes or no texts: the rule, what was seen, the way out.
    """
    if text is None:
        raise ConfigError(
            "`classifier` needs a text encoder. Received: `text: none`. Name one, such as text: {encoder:"
            " subwords}, or leave the classifier out."
        )
    tables = settle(_with_classes(tables, config)).tables
    rejects: Rejected = collections.Counter()
    items = read_entities(tables.items, "items", tables, rejects)
    own = {item: _joined(row, tables) for item, row in items.items()}
    events = read_choices(tables, items, rejects, texts=config.text == "written")
    examples, left_out = (
        split_users(events, split),
        collections.Counter(
            {f"{table}: {reason}": count for (table, reason), count in rejects.items() if count}
        ),
    )
    rows: dict[str, list[Row]] = {part: _usable(examples[part], config, own, left_out) for part in SPLITS}
    total = sum(len(examples[part]) for part in SPLITS)
    if config.text == "written" and left_out["without a class"] < total:
        texts = [row[2] for part in SPLITS for row in rows[part]]
        check_words(texts, tables.interactions.text or "", total)
    found = collections.Counter(row[3] for row in rows["train"])
    classes = classes_of(found, {row[3] for part in rows.values() for row in part}, config, total)
    for part in SPLITS:
        kept = [row for row in rows[part] if row[3] in classes]
        left_out["another class"] += len(rows[part]) - len(kept)
        rows[part] = kept
    _check_rows(rows, classes, config)
    users, trained = (_known(row[place] for row in rows["train"]) for place in (0, 1))
    known = _known(items) if config.text == "items" else trained
    has_rows = np.isin(known, trained)
    parts: dict[str, dict[str, np.ndarray]] = {
        part: _arrays(rows[part], users, known, classes) for part in SPLITS
    }
    encoded = review_vectors([row[2] for part in SPLITS for row in rows[part]], text, vectors)
    ends = np.cumsum([len(rows[part]) for part in SPLITS])
    for part, values in zip(SPLITS, np.split(encoded, ends[:-1]), strict=True):
        parts[part]["text"] = values
        index = parts[part]["item_index"]
        parts[part]["item_index"] = np.where(has_rows[index], index, 0).astype(np.int32)
    item_vectors = None
    if config.text == "items":
        item_vectors = review_vectors([own.get(item, "") for item in known], text, vectors)
    return LabelledTexts(
        classes,
        users,
        known,
        parts,
        {part: _owners(rows[part]) for part in SPLITS},
        item_vectors,
        has_rows,
        {reason: count for reason, count in left_out.items() if count},
        (tables.user_ids, tables.item_ids),
    )


Row = tuple[str, str, str, str]  # user, item, text, class


def _with_classes(tables: Tables, config: ClassifierConfig) -> Tables:
    """The tables with the classes as the one column of context, a string each; what else rows are is not
    looked at."""
    table = tables.interactions
    check_label(tables, config)
    changes: dict[str, Any] = {"context": (config.label,), "label": None, "label_values": {},
                               "label_nulls": (), "labels": {}, "dislikes_below": None}  # fmt: skip
    if config.text == "items":
        changes |= {"text": None, "text_time": None}
    interactions = dataclasses.replace(table, **changes)
    return dataclasses.replace(tables, interactions=interactions, impressions=None, graph=None)


def check_label(tables: Tables, config: ClassifierConfig) -> None:
    """Refuses a label that is the text or an id, and tables without what is read.

    Raises:
        ConfigError: naming what the column is, or what is missing.
    """
    table = tables.interactions
    if config.text == "written" and table.text is None:
        raise ConfigError(
            "`classifier.text: written` reads `data.interactions.text`. Received: none. Name the column"
            " of what users wrote, or set `classifier: {text: items}`."
        )
    if config.text == "items" and not text_features(tables):
        raise ConfigError(
            "`classifier.text: items` reads `data.items.text`. Received: none. Name the columns, or set"
            " `classifier: {text: written}`."
        )
    keys = {"text": table.text, "user": table.user, "item": table.item}
    taken = {f"data.interactions.{key}": column for key, column in keys.items()}
    for key, column in taken.items():
        if column == config.label:
            raise ConfigError(
                f"`classifier.label` must be a column of classes. Received: {config.label!r}, which is"
                f" `{key}`. A text or an id is no class: name another column."
            )


def _joined(row: Mapping[str, object], tables: Tables) -> str:
    """An item's texts as one, as `features.graph.item_text` joins them."""
    fields = (row.get(feature.name) for feature in text_features(tables))
    return ". ".join(str(field) for field in fields if field)


def _usable(
    examples: Sequence[tuple[str, SplitExample]],
    config: ClassifierConfig,
    own: Mapping[str, str],
    left_out: collections.Counter[str],
) -> list[Row]:
    rows: list[Row] = []
    for user, example in examples:
        event = example.event
        said = own[event.item] if config.text == "items" else event.written.text if event.written else ""
        label = event.context[0].strip()
        if not label:
            left_out["without a class"] += 1
        elif not said.strip():
            left_out["without a text"] += 1
        else:
            rows.append((user, event.item, said, label))
    return rows


def classes_of(
    found: Mapping[str, int], every: Set[str], config: ClassifierConfig, total: int
) -> tuple[str, ...]:
    """The classes to be told apart, in order.

    Args:
        found: class → its rows of training.
        every: the classes of all rows.
        config: which may be named there.
        total: how many rows there are.

    Raises:
        ConfigError: if there are too many, or fewer than two.
    """
    where = f"`classifier.label` ({config.label!r})"
    if config.classes:
        return config.classes
    if len(every) > config.max_classes:
        seen = ", ".join(map(repr, sorted(every)[:3]))
        raise ConfigError(
            f"{where} must hold at most {config.max_classes} classes. Received: {len(every):,}, such as"
            f" {seen}. Name those to be told apart with `classifier.classes`, another column, or raise"
            " `classifier.max_classes`."
        )
    if len(found) < 2:
        seen = repr(next(iter(found))) + " alone" if found else f"none, in {total:,} rows"
        raise ConfigError(
            f"{where} must hold at least two classes in training. Received: {seen}. Name another column, or"
            " give more rows."
        )
    return tuple(sorted(every, key=_order))


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by their value, words after them."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def check_counts(found: Mapping[str, int], classes: Sequence[str], config: ClassifierConfig) -> None:
    """Refuses classes with fewer than `min_rows` rows.

    Args:
        found: class → its rows of training, or of the whole table.
        classes: to be told apart.
        config: how many each needs.

    Raises:
        ConfigError: naming those.
    """
    few = [name for name in classes if found.get(name, 0) < config.min_rows]
    if few:
        seen = ", ".join(f"{name!r} with {found.get(name, 0)}" for name in few[:5])
        raise ConfigError(
            f"Each class needs at least {config.min_rows} rows of training with a text"
            f" (`classifier.min_rows`). Received: {seen}. Name the others with `classifier.classes`, give"
            " more rows, or lower `min_rows`."
        )


def _check_rows(rows: Mapping[str, Sequence[Row]], classes: Sequence[str], config: ClassifierConfig) -> None:
    check_counts(collections.Counter(row[3] for row in rows["train"]), classes, config)
    for part in SPLITS:
        if not rows[part]:
            raise ConfigError(
                f"The {part} split must have rows with a class and a text. Received: none. Change `split`, or"
                " give more rows."
            )


def _known(ids: Iterable[str]) -> np.ndarray:
    return np.array(["", *sorted(set(ids))], object)


def _arrays(
    rows: Sequence[Row], users: np.ndarray, items: np.ndarray, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    places = [{name: row for row, name in enumerate(names)} for names in (users, items, classes)]
    return {
        "user_index": np.array([places[0].get(row[0], 0) for row in rows], np.int32),
        "item_index": np.array([places[1].get(row[1], 0) for row in rows], np.int32),
        "label": np.array([places[2][row[3]] for row in rows], np.int32),
    }


def _owners(rows: Sequence[Row]) -> np.ndarray:
    return np.unique(np.array([row[0] for row in rows], object), return_inverse=True)[1].reshape(-1)
