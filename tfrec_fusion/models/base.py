"""Base of every model here: TFRS's `compute_loss` with loss scaling and epoch averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrec_fusion.config import Feature
from tfrec_fusion.models.hybrid.repeats import Repeats
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.xla_ops import dense


class Model(tfrs.Model):
    """A `tfrs.Model` whose training step scales the loss under float16 and reports means over an epoch.

    TFRS 0.7.7 applies unscaled gradients and reports the last batch's loss. A subclass implements
    `compute_loss`, which returns a scalar already averaged over the global batch
    (`replicas.mean_over_replicas`).

    Attributes:
        monitor: name of the metric that says in validation which weights are best, and `min` or `max`. The
            loss says it where the metric is not there.
        history_length: how many items of a history the query tower reads; None for all.
        repeats: what items of a history get on top of their scores, where they may be recommended again; None
            where they may not.
        private_step: takes the model and a batch and does a step in place of `train_step`'s own
            (`training.privacy`); None for none.
    """

    monitor = ("loss", "min")
    history_length: int | None = None
    private_step: Callable[[Model, Mapping[str, tf.Tensor]], dict[str, tf.Tensor]] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss_mean = tf_keras.metrics.Mean("loss")
        # Not on the class: Keras tracks no layer under the name of a class attribute.
        self.repeats: Repeats | None = None

    def epochs(self, train: tf.data.Dataset, batch_size: int, seed: int) -> Callable[[int], tf.data.Dataset]:
        """What each epoch of training goes through: the data set as it is, unless a model chooses from it.

        Args:
            train: batches, one epoch.
            batch_size: examples in a batch, for models that make batches of their own.
            seed: of choices.

        Returns:
            epoch from 0 → its batches.
        """
        return lambda epoch: train

    def recent(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """A batch with no more of each `history` than the query tower reads: the newest `history_length`
        items, and what they count (`history_weight`)."""
        if self.history_length is None:
            return dict(batch)
        cut = {
            name: batch[name][:, -self.history_length :]
            for name in ("history", "history_weight")
            if name in batch
        }
        return {**batch, **cut}

    def item_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        """Embeddings with a row per item, each with the vector that stands for an unknown item (None: row
        0)."""
        return []

    def user_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        """The same with a row per user."""
        return []

    @property
    def query_features(self) -> tuple[Feature, ...]:
        """What is read of users and context, beside ids and histories."""
        return ()

    @property
    def item_text(self) -> ItemText | None:
        """Encodes the items' texts where the encoder is trained along."""
        return None

    def end_epoch(self) -> None:
        """Called when an epoch's steps are done, before anything is evaluated."""

    def validation_sample(self, validation: tf.data.Dataset) -> Any:
        """What `validation_figures` is asked with after each epoch, drawn once; its size is bounded."""
        return None

    def validation_figures(self, sample: Any) -> dict[str, float]:
        """Figures of an epoch beside the means over validation's batches, by name."""
        return {}

    def start_from(self, old: Model, item_rows: np.ndarray) -> None:
        """Takes over what an older model solved for rather than trained (`grown_vocabulary.warm_start`).

        Args:
            old: the older model.
            item_rows: int64 `[items]`, where each item stood in it; below 0 for one that it did not know.
        """

    def train_step(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of gradient descent; returns the means so far."""
        if self.private_step is not None:
            return self.private_step(self, inputs)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
            total = loss + self.regularization()
        gradients = self.optimizer.compute_gradients(total, self.trainable_variables, tape=tape)
        if self.jit_compile:
            gradients = [(dense(gradient), variable) for gradient, variable in gradients]
        self.optimizer.apply_gradients(gradients)
        return self._report(loss)

    def test_step(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of evaluation; returns the means so far."""
        return self._report(self.compute_loss(inputs, training=False))

    def regularization(self) -> tf.Tensor:
        """What layers add to the loss, a replica's share: float32 scalar."""
        losses = self.losses
        if not losses:
            return tf.zeros([])
        return tf.nn.scale_regularization_loss(tf.add_n([tf.cast(loss, tf.float32) for loss in losses]))

    def _report(self, loss: tf.Tensor) -> dict[str, tf.Tensor]:
        # Each replica's loss is its share of the global batch's, and metrics average over replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_mean.update_state(loss * replicas)
        return {metric.name: metric.result() for metric in self.metrics}
