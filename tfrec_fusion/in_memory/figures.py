"""Figures of fitted models, as the pipeline's Evaluators count them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import CLICK, RATING, ConfigError
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.export.evaluated import evaluated
from tfrec_fusion.features.columns import context_features
from tfrec_fusion.features.padding import arrays
from tfrec_fusion.features.rows import InteractionReader, Reject
from tfrec_fusion.features.statistics import sparse
from tfrec_fusion.in_memory.fitted import Fitted, HeldOut
from tfrec_fusion.metrics.pointwise import auc
from tfrec_fusion.metrics.ranks import first_choices, per_user_figures

__all__ = ["figures", "held_out"]

ROWS = 1024  # judged at once
SHOWN = ("ndcg", "recall", "hit_rate", "map")


def held_out(fitted: Fitted, tables: Tables, files: Sequence[str], click_threshold: float) -> HeldOut:
    """Interactions of a table as models take them, after everything that the models were fitted to.

    Args:
        fitted: the models.
        tables: how the interactions are read.
        files: theirs.
        click_threshold: a label at or above it counts as a click.

    Raises:
        ConfigError: if no interaction is with a known item.
    """
    known, catalogue = fitted.known, fitted.catalogue
    item_index = {item: row for row, item in enumerate(catalogue.ids) if row}
    reader, rows, lost = InteractionReader(tables), [], 0
    for file in files:
        for entry in reader.read(file):
            if isinstance(entry, Reject) or entry[0] not in item_index:
                lost += 1
            elif entry[1][4] > 0:  # what was shown and not chosen is nothing to judge by
                rows.append(entry)
    if not rows:
        raise ConfigError(
            f"The test table must hold interactions with known items. Received: {lost} rows, none with one."
        )
    users = [user for _, (user, *_) in rows]
    user_row = {user: row for row, user in enumerate(known.profiles.ids) if row}
    profile = np.array([user_row.get(user, 0) for user in users], np.int64)
    columns = {name: values[profile] for name, values in known.profiles.features.items()}
    contexts = context_features(tables)
    if contexts:
        values = {
            feature: [context[position] or None for _, (_, _, _, context, *_) in rows]
            for position, feature in enumerate(contexts)
        }
        raw = {feature.name: sparse(some, feature) for feature, some in values.items()}
        columns |= arrays(known.transform(raw))
    columns["history"] = np.stack([_padded(fitted, row) for row in profile])
    columns["item_index"] = np.array([item_index[item] for item, _ in rows], np.int32)
    labels = [label for _, (_, _, label, *_) in rows]
    columns["click"] = np.array([label is None or label >= click_threshold for label in labels], np.float32)
    if tables.interactions.label:
        columns["rating"] = np.array([np.nan if label is None else label for label in labels], np.float32)
    for place, label in enumerate(tables.further_labels):
        given = [further[place] for _, (*_, further) in rows]
        columns[label] = np.array([np.nan if value is None else value for value in given], np.float32)
    splits = known.profiles.seen_splits
    seen = [known.profiles.seen_items[splits[row] : splits[row + 1]] for row in profile]
    owners = np.unique(np.array(users, object), return_inverse=True)[1].reshape(-1)
    return HeldOut(columns, owners, seen)


def _padded(fitted: Fitted, row: int) -> np.ndarray:
    profiles = fitted.known.profiles
    items = profiles.history_items[profiles.history_splits[row] : profiles.history_splits[row + 1]]
    return np.pad(items, (profiles.history_length - len(items), 0))


def figures(fitted: Fitted, data: HeldOut, cutoffs: Sequence[int]) -> dict[str, float]:
    """Accuracy of the retrieval, and errors of the ranking.

    Args:
        fitted: the models.
        data: what is judged by.
        cutoffs: the values of `k`.

    Returns:
        `mrr`, and `ndcg@k`, `recall@k`, `hit_rate@k` and `map@k` over the whole catalogue, seen items left
        out unless `split.repeats`, as means over users; `rmse` and `mae` of ratings, and `auc` of clicks
        where there are both kinds, over interactions; of each further label `auc_of_LABEL`, or
        `rmse_of_LABEL` and `mae_of_LABEL`, over those where it is known; `users` and `held_out_items`, how
        many there are to judge by.

    Raises:
        ConfigError: if every interaction repeats what its user chose before.
    """
    ranks = _ranks(fitted, data)
    usable = ~np.isnan(ranks)
    if not usable.any():
        raise ConfigError(
            "A test interaction must be with an item that its user did not choose before. Received:"
            f" {len(ranks)},"
            " and none is. Leave what was given to `fit` out of the test table."
        )
    users, items, ranks = data.users[usable], data.columns["item_index"][usable], ranks[usable]
    by_user = per_user_figures(users, ranks, list(cutoffs), items)
    pairs = len(first_choices(users, items, ranks))
    names = ["mrr", *(f"{name}@{k}" for k in cutoffs for name in SHOWN)]
    means = {name: float(by_user[name].mean()) for name in names}
    if fitted.ranking is not None:
        means |= _errors(fitted.ranking, data)
    return means | {"users": float(len(np.unique(users))), "held_out_items": float(pairs)}


def _ranks(fitted: Fitted, data: HeldOut) -> np.ndarray:
    """The rank of each held-out item: NaN where it cannot be recommended, infinite without a score."""
    serving = fitted.serving(fitted.kinds[0])
    width = max(1, *map(len, data.seen))
    ranks = []
    for start in range(0, len(data.users), ROWS):
        part = slice(start, start + ROWS)
        batch = {name: tf.constant(values[part]) for name, values in data.columns.items()}
        seen = np.stack([np.pad(items, (0, width - len(items))) for items in data.seen[part]])
        answer = serving.judged(batch, batch["item_index"], tf.constant(seen, tf.int32))
        ranks.append(evaluated({"rank": answer["rank"].numpy()})["rank"])
    return np.concatenate(ranks)


def _errors(ranking: Any, data: HeldOut) -> dict[str, float]:
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(data.users), ROWS):
        batch = {name: tf.constant(values[start : start + ROWS]) for name, values in data.columns.items()}
        for name, values in ranking(batch).items():
            parts.setdefault(name, []).append(values.numpy())
    predicted = {name: np.concatenate(values) for name, values in parts.items()}
    errors: dict[str, float] = {}
    for label, scores in predicted.items():
        values = data.columns.get(label)
        if values is None:
            continue
        end = "" if label in (CLICK, RATING) else f"_of_{label}"
        known = ~np.isnan(values)
        values, scores = values[known], scores[known]
        if ranking.labels[label] == "rating" and len(values):
            error = (scores - values).astype(np.float64)
            errors |= {f"rmse{end}": float(np.sqrt(np.mean(error**2))),
                       f"mae{end}": float(np.mean(np.abs(error)))}  # fmt: skip
        elif ranking.labels[label] == "binary" and 0 < values.sum() < len(values):
            errors[f"auc{end}"] = float(auc(values, scores))
    return errors
