"""Models without the parts that read interactions otherwise than through gradients.

Under `training.privacy` everything that a model learns from interactions goes through clipped and noisy
gradients (`training.privacy`). What reads them in another way is taken out where models are built, so that a
model that is built again from its settings, to be served or loaded, is the one that was trained.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import ConfigError, FeatureSpace, RankingConfig, RetrievalConfig, TrainingConfig
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["check_steps", "freeze_user_embeddings", "uniform_counts", "without_interactions"]

AnyConfig = TypeVar("AnyConfig", RetrievalConfig, RankingConfig)


def without_interactions(
    config: AnyConfig, space: FeatureSpace, catalogue: Catalogue
) -> tuple[AnyConfig, FeatureSpace, Catalogue]:
    """Settings, features and catalogue as a private model is built from them; as they are for any other.

    Out go what is solved from interactions (the blend, factors of ratings), embeddings of users, features of
    users and context, whose vocabularies and means come from the rows of users, and the items' counts.
    """
    if config.training.privacy is None:
        return config, space, catalogue
    tower = dataclasses.replace(config.tower, user_id=False)
    solved = {"collaborative_dim": 0, "content_dim": 0, "logq": False}
    changes: dict[str, Any] = solved if isinstance(config, RetrievalConfig) else {"rating_dim": 0}
    config = dataclasses.replace(config, tower=tower, **changes)
    space = dataclasses.replace(space, user_features=(), context_features=())
    return config, space, uniform_counts(catalogue)


def uniform_counts(catalogue: Catalogue) -> Catalogue:
    """The catalogue as if every item had been chosen once: nothing of it comes from interactions."""
    counts = np.ones(len(catalogue), np.int64)
    counts[0] = 0
    return dataclasses.replace(catalogue, counts=counts)


def freeze_user_embeddings(model: Model) -> None:
    """Sets what is learned of single users to 0, and leaves it out of training."""
    for layer, _ in model.user_embeddings():
        layer.embeddings.assign(tf.zeros_like(layer.embeddings))
        layer.trainable = False


def check_steps(model: Model, training: TrainingConfig) -> None:
    """Refuses to train with steps that neither clip nor add noise what should be private.

    Raises:
        ConfigError: if `training` has `privacy` and the model has no `private_step`.
    """
    if training.privacy is not None and model.private_step is None:
        raise ConfigError(
            "`training.privacy` needs steps that clip and add noise. Received: training that would do"
            " neither. Train anew with `train_retrieval` or `train_ranking`, or take `privacy` out."
        )
