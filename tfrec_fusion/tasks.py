"""Tasks in the manner of TFRS: layers that turn a model's outputs into a loss and keep its metrics.

They slot into any `tfrs.Model` where `tfrs.tasks.Retrieval` and `tfrs.tasks.Ranking` would stand. The loss is
averaged over the global batch, so that it may be used under any `tf.distribute` strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrec_fusion import losses
from tfrec_fusion.layers.replicas import mean_over_replicas

__all__ = ["MultitaskWeighting", "Ranking", "Retrieval"]


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Retrieval(tf_keras.layers.Layer, tfrs.tasks.Task):
    """In-batch retrieval loss with logQ correction, mixed and hard negatives across replicas.

    Args:
        loss: `softmax` (`losses.in_batch_softmax`) or `bpr` (`losses.in_batch_bpr`).
        temperature: divides the scores of the softmax.
        hard_negatives: keeps only this many of the hardest negatives of a query; None keeps all. Softmax
            only.
        gather: whether the candidates of all replicas are negatives.
    """

    def __init__(
        self,
        loss: Literal["softmax", "bpr"] = "softmax",
        temperature: float = 1.0,
        hard_negatives: int | None = None,
        gather: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if loss not in ("softmax", "bpr"):
            raise ValueError(f"`loss` must be 'softmax' or 'bpr'. Received: {loss!r}. Choose one of them.")
        self.loss = loss
        self.temperature = temperature
        self.hard_negatives = hard_negatives
        self.gather = gather

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        candidate_ids: tf.Tensor | None = None,
        log_q: tf.Tensor | None = None,
        negatives: tf.Tensor | None = None,
        negative_ids: tf.Tensor | None = None,
        negative_log_q: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss.

        Args:
            query_embeddings: float `[batch, dim]`.
            candidate_embeddings: float `[batch, dim]`.
            candidate_ids, log_q, negatives, negative_ids, negative_log_q: see `losses.in_batch_softmax`; with
                `bpr` only `candidate_ids` is used.
            sample_weight: float `[batch]`.

        Returns:
            float32 scalar.
        """
        if self.loss == "bpr":
            per_example = losses.in_batch_bpr(
                query_embeddings, candidate_embeddings, candidate_ids=candidate_ids, gather=self.gather
            )
        else:
            per_example = losses.in_batch_softmax(
                query_embeddings,
                candidate_embeddings,
                candidate_ids=candidate_ids,
                log_q=log_q,
                negatives=negatives,
                negative_ids=negative_ids,
                negative_log_q=negative_log_q,
                temperature=self.temperature,
                hard_negatives=self.hard_negatives,
                gather=self.gather,
            )
        return mean_over_replicas(per_example, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "loss": self.loss,
            "temperature": self.temperature,
            "hard_negatives": self.hard_negatives,
            "gather": self.gather,
        }


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Ranking(tf_keras.layers.Layer, tfrs.tasks.Task):
    """Loss and metric of one label: squared error and RMSE for a rating, cross-entropy and AUC for a binary
    one.

    Args:
        kind: `rating` or `binary`.
        label: name of the label, which the metric's name ends in.
    """

    def __init__(self, kind: Literal["rating", "binary"], label: str = "label", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in ("rating", "binary"):
            raise ValueError(f"`kind` must be 'rating' or 'binary'. Received: {kind!r}. Choose one of them.")
        self.kind = kind
        self.label = label
        if kind == "rating":
            self.metric = tf_keras.metrics.RootMeanSquaredError(f"rmse_{label}")
        else:
            self.metric = tf_keras.metrics.AUC(from_logits=True, name=f"auc_{label}")

    def call(self, labels: tf.Tensor, logits: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Computes the loss and updates the metric.

        Args:
            labels: float `[batch]`; NaN where there is none, which counts nothing.
            logits: float `[batch]`, a rating, or the log-odds of a binary label.
            sample_weight: float `[batch]`.

        Returns:
            float32 scalar.
        """
        known = ~tf.math.is_nan(labels)
        labels = tf.where(known, labels, tf.zeros_like(labels))
        counts = tf.cast(known, tf.float32)
        sample_weight = counts if sample_weight is None else counts * tf.cast(sample_weight, tf.float32)
        self.metric.update_state(labels, logits, sample_weight=sample_weight)
        loss = losses.squared_error if self.kind == "rating" else losses.binary_cross_entropy
        return mean_over_replicas(loss(labels, logits), sample_weight)

    def activate(self, logits: tf.Tensor) -> tf.Tensor:
        """What is served: the rating itself, or the probability."""
        return logits if self.kind == "rating" else tf.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "label": self.label}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MultitaskWeighting(tf_keras.layers.Layer):
    """Sums several tasks' losses, by fixed weights or by learned uncertainties.

    Learned: `sum_t c_t exp(-s_t) L_t + s_t / 2` with `s_t = log sigma_t^2` trained along with the model,
    `c_t` 1/2 for a regression and 1 for a classification. A noisy task gets a large `sigma` and counts less.

    Args:
        tasks: a task's name → `regression` or `classification`.
        weights: fixed weight of each task; None learns the uncertainties instead.

    Reference: Kendall et al., 2018, https://arxiv.org/abs/1705.07115
    """

    def __init__(
        self, tasks: Mapping[str, str], weights: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, kind in tasks.items():
            if kind not in ("regression", "classification"):
                raise ValueError(
                    f"A task must be a regression or a classification. Received: {kind!r} for {name!r}. Name"
                    " one."
                )
        if weights is not None and set(weights) != set(tasks):
            raise ValueError(
                f"`weights` must name the tasks {sorted(tasks)}. Received: {sorted(weights)}. Give each a"
                " weight."
            )
        self.tasks = dict(tasks)
        self.weights_by_task = None if weights is None else dict(weights)

    def build(self, input_shape: Any) -> None:
        if self.weights_by_task is None:
            self.log_variance = self.add_weight("log_variance", (len(self.tasks),), initializer="zeros")
        super().build(input_shape)

    def call(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        """Weighs and sums.

        Args:
            losses: float scalar per task.

        Returns:
            float32 scalar.
        """
        if self.weights_by_task is not None:
            return tf.add_n(
                [self.weights_by_task[task] * tf.cast(losses[task], tf.float32) for task in self.tasks]
            )
        total = 0.0
        for position, (task, kind) in enumerate(self.tasks.items()):
            log_variance = tf.cast(self.log_variance[position], tf.float32)
            factor = 0.5 if kind == "regression" else 1.0
            total += factor * tf.exp(-log_variance) * tf.cast(losses[task], tf.float32) + log_variance / 2
        return total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tasks": self.tasks, "weights": self.weights_by_task}
