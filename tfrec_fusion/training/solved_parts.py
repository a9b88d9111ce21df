"""Training callback: solves what stands beside a model's network, once its weights are trained."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from tfrec_fusion.models.base import Model
from tfrec_fusion.models.hybrid.blend_fitting import HybridEstimator
from tfrec_fusion.models.hybrid.rating_fitting import RatingEstimator
from tfrec_fusion.models.hybrid.repeat_fitting import RepeatEstimator
from tfrec_fusion.models.multitask import Multitask
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["Callback", "SolvedParts"]


class Callback(Protocol):
    """What `fit` calls."""

    def on_train_end(self, model: Model, train: tf.data.Dataset, validation: tf.data.Dataset | None) -> None:
        """Called when training is done and the best weights are in place.

        Args:
            model: the trained model.
            train, validation: what `fit` was given.
        """
        ...


class SolvedParts:
    """Fits the estimators of a model: a two-tower model's blend and then its repeats, a ranking model's
    rating factors.

    Without validation nothing is solved: nothing could tell how much it counts.
    """

    def on_train_end(self, model: Model, train: tf.data.Dataset, validation: tf.data.Dataset | None) -> None:
        """See `Callback`."""
        if isinstance(model, Multitask):
            model = model.two_tower
        if isinstance(model, TwoTower) and model.blend is not None and validation is not None:
            HybridEstimator().fit(model, train, validation)
        if isinstance(model, TwoTower) and model.repeats is not None and validation is not None:
            RepeatEstimator().fit(model, validation)
        if isinstance(model, Ranking):
            if model.rating_factors is not None and validation is not None:
                RatingEstimator().fit(model, train, validation)
            model.set_ranges(train)
