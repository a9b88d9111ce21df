"""Weights of ids, features and texts in a trained item tower, by how often items were chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.data.item_groups import GROUPS, group_of
from tfrec_fusion.models.tower import ItemTower

CHUNK = 8192


def weights_by_count(tower: ItemTower, counts: np.ndarray) -> dict[str, dict[str, Any]]:
    """Mean weights of the modalities in the fusion.

    Args:
        tower: trained.
        counts: int64 `[N + 1]`, training interactions of each item.

    Returns:
        Group → `items`, how many there are, and `weights`, modality → mean weight; empty where the fusion
        does not weigh.
    """
    names = np.array([group_of(count) for count in counts[1:]])
    parts: list[dict[str, np.ndarray]] = []
    for start in range(1, len(counts), CHUNK):
        rows = tf.range(start, min(start + CHUNK, len(counts)))
        parts.append({name: value.numpy() for name, value in tower.fusion_weights(rows).items()})
    if not parts or not parts[0]:
        return {}
    weights = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        group: {
            "items": int((names == group).sum()),
            "weights": {name: float(values[names == group].mean()) for name, values in weights.items()},
        }
        for _, group in GROUPS
        if (names == group).any()
    }
