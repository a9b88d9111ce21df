"""A configuration's tables as arrays in memory, without TFX: for studies that train many models from one
preparation.

Reading, ordering, splits, features and text vectors are those of a run. What differs is what memory allows:
whole columns at once, and vocabularies counted here.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from pipeline.components.table_reading import ReadEntities, ReadInteractions, most_frequent
from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.data import features as names
from pipeline.data.text_vectors import encode_items
from tfrec_fusion.config import ConfigError, Feature, FeatureSpace, TextConfig
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import SPLITS, Event, SplitExample, cutoffs_of, in_order, split_person
from tfrec_fusion.datasets.tables import IdRule, Tables
from tfrec_fusion.models.catalogue import Catalogue

TOKENIZED = 4096  # texts at once
Rows = dict[str, dict[str, Any]]
Example = tuple[str, SplitExample]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A split data set in the arrays that models take.

    Attributes:
        space: sizes and features.
        catalogue: the items, with tokens where there is a text tower.
        train, validation, test: one entry per interaction: `user_index` int32 `[n]`, `history` int32 `[n, H]`
            (`split.history_length` in training, more in the others), `item_index` int32 `[n]`, and the user
            and context features; in training also `weight` and `history_weight` where choices have weights.
        person: int64 per row of `test`, equal where two rows are of one person, also of one that training
            never saw.
        seen: per row of `test` int32, the items that its person had met before.
    """

    space: FeatureSpace
    catalogue: Catalogue
    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    person: np.ndarray
    seen: list[np.ndarray]


def prepare(config: PipelineConfig) -> Prepared:
    """Reads, splits and encodes.

    Args:
        config: `data`, `split`, `transform` and `text` count. Rows that cannot be used are left out, as in a
            run.

    Returns:
        The arrays. Text vectors are kept in the configuration's home, where a run keeps its own.

    Raises:
        ConfigError: if a table cannot be read or a split is empty.
    """
    tables = settle(tables_of(config)).tables
    items = _entities(tables.items, tables.items.path, "items", tables.item_ids)
    users = _entities(tables.users, tables.users.path, "users", tables.user_ids) if tables.users else {}
    examples = _split(_events(tables, items), config)
    size = config.transform.vocabulary_size
    item_index = {item: place for place, item in enumerate(items, 1)}
    people = _vocabulary((user for user, _ in examples["train"]), None)
    columns, side = _interaction_columns(tables, examples, users, size)
    parts = {}
    for part in SPLITS:
        width = config.split.history_length if part == "train" else config.split.held_out_history
        histories = [[item_index[item] for item in example.history] for _, example in examples[part]]
        parts[part] = columns[part] | {
            "user_index": np.array([people.get(user, 0) for user, _ in examples[part]], np.int32),
            "history": _left_padded(histories, width),
            "item_index": np.array(
                [item_index[example.event.item] for _, example in examples[part]], np.int32
            ),
        }
    if tables.interactions.weighted:
        parts["train"]["weight"] = np.array([row.event.weight for _, row in examples["train"]], np.float32)
        earlier = [row.history_weights for _, row in examples["train"]]
        parts["train"]["history_weight"] = _left_padded(earlier, config.split.history_length, np.float32)
    counts = np.bincount(parts["train"]["item_index"], minlength=len(items) + 1)
    catalogue, item_features = _catalogue(tables, items, counts, config.text, str(config.home), size)
    space = FeatureSpace(
        num_users=len(people) + 1,
        num_items=len(catalogue),
        user_features=tuple(side[feature.name] for feature in names.user_features(tables)),
        item_features=item_features,
        context_features=tuple(side[feature.name] for feature in names.context_features(tables)),
        text_dim=None if catalogue.text_vectors is None else catalogue.text_vectors.shape[1],
        history_length=config.split.history_length,
    )
    seen = [
        np.array([item_index[item] for item in example.seen], np.int32) for _, example in examples["test"]
    ]
    _, person = np.unique(np.array([user for user, _ in examples["test"]]), return_inverse=True)
    return Prepared(space, catalogue, **parts, person=person, seen=seen)


def _rows(reader: beam.DoFn, path: str, table: str) -> Iterable[Any]:
    """What a reader of the pipeline makes of a table's files, rejects left out."""
    for file in find_files(path, table):
        for row in reader.process(file):
            if not isinstance(row, beam.pvalue.TaggedOutput):
                yield row


def _entities(table, path: str, name: str, rule: IdRule) -> Rows:
    rows: dict[str, list[dict[str, Any]]] = {}
    for key, row in _rows(ReadEntities(table, name, rule), path, name):
        rows.setdefault(key, []).append(row)
    return {key: most_frequent(same) if table.distinct else same[0] for key, same in rows.items()}


def _events(tables: Tables, items: Rows) -> dict[str, list[Event]]:
    """Each person's interactions with known items, in order."""
    people: dict[str, list[Event]] = {}
    reader = ReadInteractions(tables)
    for item, (user, time, label, context, weight) in _rows(reader, tables.interactions.path, "interactions"):
        if item in items:
            people.setdefault(user, []).append(Event(time, item, label, context, weight))
    return {user: in_order(user, events)[0] for user, events in people.items()}


def _split(people: dict[str, list[Event]], config: PipelineConfig) -> dict[str, list[Example]]:
    split = config.split
    cutoffs = None
    if split.method == "temporal":
        times = (event.time for events in people.values() for event in events)
        cutoffs = cutoffs_of(times, split.validation, split.test)
    examples: dict[str, list[Example]] = {part: [] for part in SPLITS}
    for user, events in people.items():
        for example in split_person(events, split.method, cutoffs, split.history_length, split.long_history):
            examples[example.split].append((user, example))
    for part in SPLITS:
        if not examples[part]:
            sizes = {name: len(rows) for name, rows in examples.items()}
            raise ConfigError(
                f"The {part} split has no interactions (splits: {sizes}). Give more data, or change `split`."
            )
    return examples


def _interaction_columns(
    tables: Tables, examples: dict[str, list[Example]], users: Rows, size: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Feature]]:
    """User and context features by split, learned from training, and their descriptions."""
    columns: dict[str, dict[str, np.ndarray]] = {part: {} for part in SPLITS}
    described = {}
    readers: list[tuple[names.RawFeature, Callable[[Example], Any]]] = [
        (feature, lambda row, name=feature.name: users.get(row[0], {}).get(name))
        for feature in names.user_features(tables)
    ]
    readers += [
        (feature, lambda row, place=place: row[1].event.context[place] or None)
        for place, feature in enumerate(names.context_features(tables))
    ]
    for feature, read in readers:
        described[feature.name], encode = _encoder(feature, [read(row) for row in examples["train"]], size)
        for part in SPLITS:
            columns[part][feature.name] = encode([read(row) for row in examples[part]])
    return columns, described


def _catalogue(
    tables: Tables, items: Rows, counts: np.ndarray, text: TextConfig | None, home: str, size: int
) -> tuple[Catalogue, tuple[Feature, ...]]:
    described, arrays = [], {}
    for feature in names.item_features(tables):
        values = [row.get(feature.name) for row in items.values()]
        description, encode = _encoder(feature, values, size)
        described.append(description)
        arrays[feature.name] = _with_row_0(encode(values))
    vectors, tokens = _texts(tables, items, text, home) if text else (None, None)
    catalogue = Catalogue(
        ids=np.array(["", *items], object),
        titles=np.array(["", *(row.get("title") or item for item, row in items.items())], object),
        features=arrays,
        text_vectors=vectors,
        counts=counts.astype(np.int64),
        text_tokens=tokens,
    )
    return catalogue, tuple(described)


def _texts(
    tables: Tables, items: Rows, text: TextConfig, home: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Text vectors and tokens, one row an item index."""
    from tfrec_fusion.layers.tokenizer import load_tokenizer

    fields = [field.name for field in names.text_features(tables)]
    if not fields:
        raise ConfigError(
            "The text tower needs columns to read. Received: none under `data.items.text`. Name some, or set "
            "`text: none`."
        )
    texts = [". ".join(row[name] for name in fields if row.get(name)) for row in items.values()]
    tokenizer = load_tokenizer(text.encoder, max_length=text.max_length)
    batches = [tokenizer(texts[start : start + TOKENIZED]) for start in range(0, len(texts), TOKENIZED)]
    ids, mask = (
        np.concatenate([batch[name] for batch in batches]) for name in ("input_ids", "attention_mask")
    )
    vectors, _ = encode_items(ids, mask, text, f"{home}/text_vectors")
    return vectors, {"input_ids": _with_row_0(ids), "attention_mask": _with_row_0(mask)}


def _encoder(
    feature: names.RawFeature, values: Sequence[Any], size: int
) -> tuple[Feature, Callable[[Sequence[Any]], np.ndarray]]:
    """What Transform would make of a feature: learned from `values`, applied to any."""
    if feature.kind in ("categorical", "categories"):
        several = feature.kind == "categories"
        words = (word for value in values for word in ((value or ()) if several else (value,)))
        index = _vocabulary((word for word in words if word is not None), size)
        description = Feature(feature.name, feature.kind, len(index) + 1, feature.column)
        if several:
            return description, lambda rows: _right_padded(
                [[index.get(word, 0) for word in row or ()] for row in rows]
            )
        return description, lambda rows: np.array([index.get(row, 0) for row in rows], np.int32)
    if feature.kind == "number":
        known = np.array([value for value in values if value is not None], np.float64)
        mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
        scale = deviation or 1.0
        return Feature(feature.name, "number", column=feature.column), lambda rows: np.array(
            [0.0 if row is None else (row - mean) / scale for row in rows], np.float32
        )
    width = max((len(value) for value in values if value is not None), default=1)
    return Feature(feature.name, "vector", width, feature.column), lambda rows: np.array(
        [[0.0] * width if row is None else row for row in rows], np.float32
    )


def _vocabulary(values: Iterable[str], size: int | None) -> dict[str, int]:
    """Indices from 1, the most frequent value first."""
    return {value: place for place, (value, _) in enumerate(collections.Counter(values).most_common(size), 1)}


def _left_padded(rows: Sequence[Sequence[float]], width: int, dtype: type = np.int32) -> np.ndarray:
    padded = np.zeros((len(rows), width), dtype)
    for place, row in enumerate(rows):
        if row:
            padded[place, -len(row) :] = row
    return padded


def _right_padded(rows: list[list[int]]) -> np.ndarray:
    padded = np.zeros((len(rows), max([1, *map(len, rows)])), np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _with_row_0(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(values[:1]), values])
