"""Batches of columns in memory: the same for the same rows, in whatever order these come.

Beam writes the Examples of a run in an order of its own. A canonical order, shuffled by a seed, makes a run
and training in memory go through the same batches.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import Feature
from tfrec_fusion.models.windows import joined

__all__ = [
    "MOST_BYTES",
    "batches",
    "canonical_order",
    "check_inputs",
    "chosen_rows",
    "only_chosen",
    "only_disliked",
    "read_columns",
]

MOST_BYTES = 2**29
"""Of columns that are held in memory; a constant, so that memory does not follow the data."""

EXACT = ("click", "rating", "weight", "history_weight", "chosen", "exposure")
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64's


def batches(columns: Mapping[str, np.ndarray], size: int, shuffle: int | None = None) -> tf.data.Dataset:
    """Batches of rows.

    Args:
        columns: by name `[rows, ...]`.
        size: rows of a batch.
        shuffle: a seed, for another order each time that the data set is gone through, and whole batches
            alone unless there is not even one; None for the canonical order and all rows.

    Returns:
        A data set of dicts of tensors.
    """
    order = canonical_order(columns)
    # On the CPU: what a map function of tf.data captures is read there.
    with tf.device("CPU"):
        tensors = {name: tf.constant(np.asarray(values)[order]) for name, values in columns.items()}
    rows = tf.data.Dataset.range(len(order))
    if shuffle is not None:
        rows = rows.shuffle(max(1, len(order)), seed=shuffle, reshuffle_each_iteration=True)
    whole = shuffle is not None and len(order) >= size
    chosen = rows.batch(size, drop_remainder=whole)
    return chosen.map(
        lambda some: {name: tf.gather(values, some) for name, values in tensors.items()}
    ).prefetch(tf.data.AUTOTUNE)


def chosen_rows(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows that are choices, without those of items that were shown and not chosen; all rows where nothing is
    known of such."""
    if "chosen" not in columns:
        return dict(columns)
    chosen = columns["chosen"] > 0
    return {name: values[chosen] for name, values in columns.items()}


def only_chosen(dataset: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches of choices alone, of the same size; `chosen` and `exposure` are no inputs of such a model."""
    if "chosen" not in dataset.element_spec:
        return dataset

    def choices(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        chosen = batch["chosen"] > 0
        kept = {name: values for name, values in batch.items() if name not in ("chosen", "exposure")}
        return {name: tf.boolean_mask(values, chosen) for name, values in kept.items()}

    return dataset.map(choices).rebatch(size).prefetch(tf.data.AUTOTUNE)


def only_disliked(dataset: tf.data.Dataset, size: int) -> tf.data.Dataset | None:
    """Batches of what users disliked; None where nothing is known of such rows."""
    if "chosen" not in dataset.element_spec:
        return None

    def dislikes(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        disliked = batch["chosen"] < 0
        kept = {name: values for name, values in batch.items() if name not in ("chosen", "exposure")}
        return {name: tf.boolean_mask(values, disliked) for name, values in kept.items()}

    return dataset.map(dislikes).rebatch(size).prefetch(tf.data.AUTOTUNE)


def canonical_order(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """A fixed shuffle of rows that rests on what they hold: int64 `[rows]`.

    Whole numbers and what is copied from the tables decide; numbers that were computed may differ in their
    last bit. Padding counts nothing.
    """
    total = np.zeros(len(next(iter(columns.values()))), np.uint64)
    for name in sorted(columns):
        values = np.asarray(columns[name])
        if values.dtype.kind not in "iub" and name not in EXACT:
            continue
        bits = values.astype(np.float32).view(np.uint32) if values.dtype.kind == "f" else values
        bits = bits.reshape(len(values), -1).astype(np.uint64)
        if name in ("history", "history_weight"):
            bits = bits[:, ::-1]  # padded on the left
        factors = np.random.default_rng(zlib.crc32(name.encode())).integers(
            0, 2**63, bits.shape[1], np.uint64
        )
        total += _mixed((bits * (2 * factors + np.uint64(1))).sum(1, dtype=np.uint64))
    return np.argsort(_mixed(total), kind="stable")


def read_columns(dataset: tf.data.Dataset, most_bytes: int = MOST_BYTES) -> dict[str, np.ndarray] | None:
    """All batches of a data set end to end; None where they are larger than `most_bytes`."""
    parts: dict[str, list[np.ndarray]] = {}
    size = 0
    for batch in dataset.as_numpy_iterator():
        for name, values in batch.items():
            parts.setdefault(name, []).append(values)
            size += values.nbytes
        if size > most_bytes:
            return None
    return {name: joined(parts.pop(name)).numpy() for name in list(parts)}


def check_inputs(features: Sequence[Feature], batches: tf.data.Dataset, what: str) -> None:
    """Raises ValueError where a feature of users or context holds a number that is not finite.

    Args:
        features: which; those that are no numbers are left alone.
        batches: what the model is given.
        what: these are, for the message.
    """
    numbers = [feature for feature in features if feature.kind in ("number", "vector")]
    for batch in batches if numbers else ():
        for feature in numbers:
            values = np.asarray(batch[feature.name])
            values = values.reshape(len(values), -1)
            wrong = np.flatnonzero(~np.isfinite(values).all(1))
            if len(wrong):
                seen = values[wrong[0]][~np.isfinite(values[wrong[0]])][0]
                user = int(batch["user_index"][wrong[0]])
                raise ValueError(
                    f"Feature {feature.shown!r} must hold finite numbers. Received: {seen} in `{what}`, of"
                    f" the user with `user_index` {user}. Give it a number there, or leave the feature out."
                )


def _mixed(values: np.ndarray) -> np.ndarray:
    """Well spread 64-bit numbers of others (Steele et al., 2014, SplitMix64's finaliser)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
