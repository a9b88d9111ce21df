"""Models made for the planted data, small enough to train in seconds."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.metrics import accuracy
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.catalogue import Catalogue

TOWER = TowerConfig(dim=16, dropout=0.0)
RETRIEVAL = RetrievalConfig(
    tower=TOWER, training=TrainingConfig(epochs=30, batch_size=32, learning_rate=1e-2)
)
RANKING = RankingConfig(
    tower=dataclasses.replace(TOWER, user_id=True, history_encoder="mean"),
    training=TrainingConfig(epochs=15, batch_size=64, learning_rate=1e-2),
    hidden=(32, 16),
)


def catalogue(data, text=True):
    return Catalogue(
        ids=data.ids,
        titles=data.titles,
        features={"genre": data.genre},
        text_vectors=data.text_vectors if text else None,
        counts=data.counts,
    )


def two_tower(data, config=RETRIEVAL, **tower):
    config = dataclasses.replace(config, tower=dataclasses.replace(config.tower, **tower))
    return build_two_tower(config, data.space, catalogue(data, text=data.space.text_dim is not None))


def ranking(data, config=RANKING, labels=None, **changes):
    config = dataclasses.replace(config, **changes)
    return build_ranking(
        config, data.space, catalogue(data), labels or {"rating": "rating", "click": "binary"}
    )


def batches(columns, size):
    return tf.data.Dataset.from_tensor_slices(columns).batch(size)


def tensors(columns):
    return {name: tf.constant(column) for name, column in columns.items()}


def hit_rates(model, columns, k, allowed=None):
    """bool `[users]`: whether the item chosen is among the first k of the whole catalogue, or of what is
    `allowed`, history excluded."""
    candidates = model.candidate_embeddings().numpy()
    queries = model.query_embeddings(tensors(columns)).numpy()
    if allowed is None:
        allowed = np.arange(len(candidates)) > 0
    ranked = accuracy.rank_catalogue(queries, candidates, list(columns["history"]), k=k, allowed=allowed)
    return (ranked == columns["item_index"][:, None]).any(1)
