"""Starts a model from what is already known: from an older model with other vocabularies, or from factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.models.base import Model


def old_rows(new_ids: Sequence[str], old_ids: Sequence[str]) -> np.ndarray:
    """Where each new id stood in an older vocabulary.

    Args:
        new_ids: ids by index, index 0 the unknown one.
        old_ids: the same of the older model.

    Returns:
        int64 `[len(new_ids)]`, rows of the older model; 0 for index 0 and -1 for an id that it did not know.
    """
    rows = {key: row for row, key in enumerate(old_ids) if row > 0}
    return np.array([0] + [rows.get(key, -1) for key in new_ids[1:]], np.int64)


def warm_start(
    model: Model, old: Model, item_rows: np.ndarray, user_rows: np.ndarray, solved: bool = True
) -> None:
    """Carries over what an older model of the same configuration has learned.

    Embeddings of items and users move by id. An item or user that the older model did not know starts from
    what stood for the unknown one, so that it is scored as before; old items and users are scored as before
    too. Embeddings of categorical features may have more rows, for values that came after the older ones
    (`features.statistics.grown`), which start from the unknown one's. Texts are the new model's own.

    Args:
        model: the new model, its variables in place.
        old: the older model.
        item_rows: from `old_rows`, one per item of `model`.
        user_rows: from `old_rows`, one per user of `model`.
        solved: whether what is solved beside the network is carried over; without, it is to be solved again.

    Raises:
        ValueError: if the models differ in more than their vocabularies.
    """
    # Keyed by id(), since variables are not hashable by value.
    by_row = {}
    for rows, layers in ((item_rows, model.item_embeddings()), (user_rows, model.user_embeddings())):
        for layer, unknown in layers:
            by_row[id(layer.embeddings)] = (rows, unknown)
    unknowns = {id(unknown): index for index, unknown in enumerate(model.trainable_weights)}
    if len(model.trainable_weights) != len(old.trainable_weights):
        raise ValueError(
            f"Both models must have the same configuration. Received: {len(model.trainable_weights)} and "
            f"{len(old.trainable_weights)} weights. Build the new one like the older one."
        )
    for weight, source in zip(model.trainable_weights, old.trainable_weights, strict=True):
        values = source.numpy()
        if id(weight) in by_row:
            rows, unknown = by_row[id(weight)]
            start = values[0] if unknown is None else old.trainable_weights[unknowns[id(unknown)]].numpy()
            values = np.where((rows >= 0)[:, None], values[np.maximum(rows, 0)], start)
        elif _has_grown(weight, values):
            values = np.concatenate([values, np.repeat(values[:1], weight.shape[0] - len(values), 0)])
        if values.shape != tuple(weight.shape):
            raise ValueError(
                f"Both models must have the same configuration. Received: {weight.name} of the shapes "
                f"{tuple(weight.shape)} and {values.shape}. Build the new one like the older one."
            )
        weight.assign(values)
    for now, before in zip(_centres(model), _centres(old), strict=True):
        now.assign(before)  # not trained, and part of what was learned
    if solved:
        model.start_from(old, item_rows)


def _centres(model: Model) -> list[tf.Variable]:
    """Where the text adaptor has its origin, if there is one, and what texts about items are held against."""
    adaptor = getattr(getattr(model, "item_tower", None), "text_adaptor", None)
    reviews = getattr(model, "reviews", None)
    return [*([] if adaptor is None else [adaptor.centre]), *([] if reviews is None else reviews.standards())]


def _has_grown(weight: tf.Variable, values: np.ndarray) -> bool:
    """Whether a feature's embedding has got more rows."""
    return (
        "embedding" in weight.name
        and values.ndim == 2
        and weight.shape[0] > values.shape[0]
        and tuple(weight.shape[1:]) == values.shape[1:]
    )


def initialise_embedding(layer: tf_keras.layers.Embedding, factors: np.ndarray) -> None:
    """Starts id embeddings from text vectors (`tower.id_start: text`) or from factors, such as
    `baselines.ALS.item_factors`.

    The factors are turned to their principal axes and cut, or padded with zeros, to the embedding's width,
    then scaled to the size the embedding had. Dot products between rows keep their order as far as the width
    allows.

    Args:
        layer: a built embedding.
        factors: float `[rows, any]`, as many rows as the embedding has.

    Raises:
        ValueError: if the rows differ.
    """
    before = tf.convert_to_tensor(layer.embeddings).numpy()  # parameter servers hold it in pieces
    if len(factors) != len(before):
        raise ValueError(
            f"`factors` must have one row per embedding row ({len(before)}). Received: {len(factors)} rows. "
            "Build both from the same vocabulary."
        )
    left, values, _ = np.linalg.svd(np.asarray(factors, np.float64), full_matrices=False)
    turned = (left * values)[:, : before.shape[1]]
    turned = np.pad(turned, [(0, 0), (0, before.shape[1] - turned.shape[1])])
    size = np.sqrt(np.mean(turned**2))
    scaled = turned * (np.sqrt(np.mean(before**2)) / size if size > 0 else 1.0)
    layer.embeddings.assign(tf.cast(scaled, layer.embeddings.dtype))
