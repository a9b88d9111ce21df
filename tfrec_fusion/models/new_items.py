"""A catalogue that changed since its model was trained: items that are new, that say something else, that are
gone.

The model stays as it is. A new item has no row in its tables and is encoded from what is said about it, as a
changed one is beside its id; the vectors of all others are those of the model, to the last bit.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.tower import TEXT, ItemTower
from tfrec_fusion.models.two_tower import TwoTower

_ROWS_PER_CHUNK = 8192


def renewed(known: Catalogue, items: Catalogue) -> Catalogue:
    """What a model that was trained on `known` serves when `items` are all that is offered.

    Args:
        known: the catalogue that the model was trained on.
        items: the items as they are now, with the same features; its `counts` and `names` are not looked at.

    Returns:
        A catalogue of the items in their order, then those of `known` that are not offered any more:
        histories speak of them, and they are never recommended.

    Raises:
        ValueError: if an id occurs twice, or a feature is missing or of another width.
    """
    rows = {str(item): row for row, item in enumerate(known.ids)}
    ids = [str(item) for item in items.ids]
    repeated, times = collections.Counter(ids).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"An item must be listed once. Received: {repeated!r} {times} times. Leave the others out."
        )
    model_index = np.array([rows.get(item, 0) for item in ids], np.int32)
    gone = np.setdiff1d(np.arange(1, len(known)), model_index)

    def joined(name: str, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        new, old = np.asarray(new), np.asarray(old)[gone].astype(np.asarray(new).dtype)
        return np.concatenate(_same_width(name, new, old, known))

    features = {name: joined(name, _feature(items, name), values) for name, values in known.features.items()}
    vectors = None
    if known.text_vectors is not None:
        if items.text_vectors is None:
            raise ValueError(
                "Items must come with text vectors, as those that the model was trained on. Received: None."
                " Encode their texts with the model's encoder."
            )
        vectors = joined("text_vectors", items.text_vectors, known.text_vectors)
    return Catalogue(
        ids=np.concatenate([items.ids, known.ids[gone]]),
        titles=np.concatenate([items.titles, known.titles[gone]]),
        features=features,
        text_vectors=vectors,
        counts=np.concatenate([known.counts[model_index], known.counts[gone]]),
        names=known.names,
        model_index=np.concatenate([model_index, gone.astype(np.int32)]),
        num_offered=len(items) - 1,
    )


def retrieval_vectors(model: TwoTower, catalogue: Catalogue) -> np.ndarray:
    """float32 `[N + 1, dim]`, the retrieval model's embedding of each row of a catalogue, its own or a
    renewed one."""
    known = model.candidate_embeddings().numpy()
    return _vectors(model.item_tower, catalogue, known, model.candidate_from_features)


def ranking_vectors(model: Ranking, catalogue: Catalogue) -> np.ndarray:
    """float `[N + 1, any]`, `Ranking.item_vectors` of each row of a catalogue, its own or a renewed one."""
    return _vectors(model.item_tower, catalogue, model.catalogue_vectors().numpy(), model.item_vectors)


def _vectors(
    tower: ItemTower,
    catalogue: Catalogue,
    known: np.ndarray,
    encode: Callable[[Mapping[str, tf.Tensor]], tf.Tensor],
) -> np.ndarray:
    if catalogue.model_index is None:
        return known
    columns = {feature.name: catalogue.features[feature.name] for feature in (*tower.features, *tower.media)}
    if catalogue.text_vectors is not None:
        columns[TEXT] = catalogue.text_vectors
    vectors = known[catalogue.model_index]
    changed = np.flatnonzero(_changed(tower, columns, catalogue.model_index))
    for start in range(0, len(changed), _ROWS_PER_CHUNK):
        rows = changed[start : start + _ROWS_PER_CHUNK]
        features = {name: tf.constant(np.asarray(values[rows])) for name, values in columns.items()}
        features["item_index"] = tf.constant(catalogue.model_index[rows])
        vectors[rows] = encode(features).numpy()
    return vectors


def _changed(tower: ItemTower, columns: Mapping[str, np.ndarray], model_index: np.ndarray) -> np.ndarray:
    """bool `[N + 1]`: items that the model does not know, or knows otherwise; not row 0."""
    changed = model_index == 0
    for name, values in columns.items():
        old = tower.tables[name].numpy()[model_index]
        new, old = (array.reshape(len(array), -1) for array in (np.asarray(values).astype(old.dtype), old))
        width = max(new.shape[1], old.shape[1])
        new, old = (np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in (new, old))
        changed = changed | (new != old).any(1)
    changed[0] = False
    return changed


def _feature(items: Catalogue, name: str) -> np.ndarray:
    if name not in items.features:
        raise ValueError(
            f"Items must have the features that the model was trained on. Received: none named {name!r}, only"
            f" {sorted(items.features)}. Add it, or train again."
        )
    return items.features[name]


def _same_width(name: str, new: np.ndarray, old: np.ndarray, known: Catalogue) -> list[np.ndarray]:
    """Both padded with 0 to the longer of the two, where the feature is a list of categories."""
    if new.ndim == 1 or new.shape[1] == old.shape[1]:
        return [new, old]
    if not np.issubdtype(new.dtype, np.integer):
        raise ValueError(
            f"`{name}` must be {old.shape[1]} wide, as the model was trained. Received: {new.shape[1]}. Make"
            " the vectors as those were made, or train again."
        )
    width = max(new.shape[1], old.shape[1])
    return [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in (new, old)]
