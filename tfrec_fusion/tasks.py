"""Tasks in the manner of TFRS: layers that turn a model's outputs into a loss and keep its metrics.

They slot into any `tfrs.Model` where `tfrs.tasks.Retrieval` and `tfrs.tasks.Ranking` would stand. The loss is
averaged over the global batch, so that it may be used under any `tf.distribute` strategy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrec_fusion import losses
from tfrec_fusion.layers.replicas import mean_over_replicas

__all__ = [
    "Conversion",
    "GradNorm",
    "MultitaskWeighting",
    "Ranking",
    "Retrieval",
    "conversion_cross_entropy",
    "without_conflicts",
]


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
class Conversion(tf_keras.layers.Layer, tfrs.tasks.Task):
    """Loss of a label that only a click can bring, over all impressions (ESMM).

    A model of conversions that learns from clicked impressions alone has seen none of the others that it is
    asked about. Here the probability of a conversion after a click is learned by its product with the
    probability of a click (`conversion_cross_entropy`), which every impression has a label for, and
    both read the same embeddings. The metric is the AUC over clicked impressions.

    Args:
        label: name of the label, which the metric's name ends in.

    Reference: Ma et al., 2018, https://arxiv.org/abs/1804.07931
    """

    kind = "binary"

    def __init__(self, label: str = "conversion", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label = label
        self.metric = tf_keras.metrics.AUC(from_logits=True, name=f"auc_{label}")

    def call(
        self,
        clicks: tf.Tensor,
        labels: tf.Tensor,
        click_logits: tf.Tensor,
        logits: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss and updates the metric.

        Args:
            clicks: float `[batch]`, 1 where there was a click, else 0.
            labels: float `[batch]`, 1 where there was a conversion, else 0; NaN where nobody knows, which
                counts nothing after a click. Without a click there was none, whatever stands here.
            click_logits: float `[batch]`, log-odds of a click.
            logits: float `[batch]`, log-odds of a conversion after a click.
            sample_weight: float `[batch]`.

        Returns:
            float32 scalar.
        """
        clicked, known = clicks > 0, ~tf.math.is_nan(labels)
        labels = tf.cast(tf.where(clicked & known, labels, tf.zeros_like(labels)), tf.float32)
        weight = tf.ones_like(labels) if sample_weight is None else tf.cast(sample_weight, tf.float32)
        self.metric.update_state(labels, logits, sample_weight=weight * tf.cast(clicked & known, tf.float32))
        per_example = conversion_cross_entropy(labels, click_logits, logits)
        return mean_over_replicas(per_example, weight * tf.cast(known | ~clicked, tf.float32))

    def activate(self, logits: tf.Tensor) -> tf.Tensor:
        """What is served: the probability of a conversion after a click."""
        return tf.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label": self.label}


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


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class GradNorm(tf_keras.layers.Layer):
    """Weights of tasks that are moved so that tasks learn at similar rates.

    With `G_t = ||∇_W w_t L_t||` of a shared layer's weights `W`, `G` their mean, and the relative inverse
    rate `r_t = (L_t / L_t(0)) / mean_s(L_s / L_s(0))`, each step takes `w` down the gradient of
    `sum_t |G_t - G r_t^alpha|`, with the targets held, and scales it back to the sum that it had. `L_t(0)` is
    the loss of the first batch that has labels of the task. Two things differ from the paper: the step is one
    of `log w`, which keeps weights above 0, and it is divided by `G`, so that `rate` depends on no units.

    Args:
        tasks: their names.
        weights: of each task at the start; None for 1 each. What counts is their proportion: they are scaled
            to sum to the number of tasks.
        alpha: how strongly rates are drawn together; 0 makes the norms equal.
        rate: of a step of the weights.

    Reference: Chen et al., 2018, https://arxiv.org/abs/1711.02257
    """

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Mapping[str, float] | None = None,
        alpha: float = 1.5,
        rate: float = 0.025,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        start = {task: 1.0 for task in tasks} if weights is None else dict(weights)
        if set(start) != set(tasks) or min(start.values(), default=0) <= 0:
            raise ValueError(
                f"`weights` must be above 0 for each of the tasks {sorted(tasks)}. Received: {start}. Leave"
                " them out for equal ones."
            )
        if alpha < 0 or rate <= 0:
            raise ValueError(
                f"`alpha` must be at least 0 and `rate` above 0. Received: alpha={alpha}, rate={rate}."
            )
        self.tasks = list(tasks)
        self.weights_by_task = start
        self.alpha = alpha
        self.rate = rate

    def build(self, input_shape: Any) -> None:
        total = sum(self.weights_by_task.values())
        start = [len(self.tasks) * self.weights_by_task[task] / total for task in self.tasks]
        shape, constant = (len(self.tasks),), tf_keras.initializers.Constant
        options = {"trainable": False, "dtype": tf.float32}
        self.current = self.add_weight("current", shape, initializer=constant(start), **options)
        self.first = self.add_weight("first", shape, initializer=constant(float("nan")), **options)
        super().build(input_shape)

    def call(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        """Weighs and sums.

        Args:
            losses: float scalar per task.

        Returns:
            float32 scalar, in which the weights are constants.
        """
        return tf.reduce_sum(tf.stop_gradient(self.current) * self._stacked(losses))

    def learn(self, losses: dict[str, tf.Tensor], norms: tf.Tensor) -> None:
        """One step of the weights.

        Args:
            losses: float scalar per task.
            norms: float32 `[tasks]`, the norm of the gradient of each unweighted loss by the shared weights.
        """
        now = self._stacked(losses)
        self.first.assign(tf.where(tf.math.is_nan(self.first) & (now > 0), now, self.first))
        ratio = tf.where(
            tf.math.is_nan(self.first), tf.ones_like(now), tf.math.divide_no_nan(now, self.first)
        )
        ratio = tf.math.divide_no_nan(ratio, tf.reduce_mean(ratio))
        weighed = self.current * norms
        mean = tf.reduce_mean(weighed)
        slope = tf.math.divide_no_nan(tf.sign(weighed - mean * ratio**self.alpha) * weighed, mean)
        moved = self.current * tf.exp(-self.rate * slope)
        self.current.assign(moved * len(self.tasks) / tf.reduce_sum(moved))

    def _stacked(self, losses: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.stack([tf.cast(losses[task], tf.float32) for task in self.tasks])

    def get_config(self) -> dict[str, Any]:
        config = {
            "tasks": self.tasks,
            "weights": self.weights_by_task,
            "alpha": self.alpha,
            "rate": self.rate,
        }
        return {**super().get_config(), **config}


def without_conflicts(gradients: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Gradients of tasks, each without what goes against another (PCGrad).

    A gradient loses its projection onto each other task's gradient with which its dot product is below 0:
    `g_i ← g_i - (g_i · g_j / ||g_j||²) g_j`, one `j` after the other.

    Args:
        gradients: float `[tasks, n]`.
        order: int32 `[tasks, tasks]`, in which order each task goes through all; a random one in training.

    Returns:
        float of the same shape; their sum is the step.

    Reference: Yu et al., 2020, https://arxiv.org/abs/2001.06782
    """
    results = []
    for task in range(gradients.shape[0]):
        own = gradients[task]
        for place in range(gradients.shape[0]):
            other = tf.gather(gradients, order[task, place])
            inner = tf.reduce_sum(own * other)
            share = tf.math.divide_no_nan(inner, tf.reduce_sum(other * other))
            # With itself the product is not below 0 at first, and may be later, by what others took away.
            conflict = (inner < 0) & (order[task, place] != task)
            own = own - tf.where(conflict, share, tf.zeros_like(share)) * other
        results.append(own)
    return tf.stack(results)


def conversion_cross_entropy(label: tf.Tensor, click_logit: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of "clicked, and converted": `-y log p - (1 - y) log(1 - p)` with
    `p = sigmoid(click_logit) sigmoid(logit)`, the pCTCVR of ESMM.

    Args:
        label: float `[batch]`, 1 where there was a click and a conversion, else 0, over all impressions.
        click_logit: float `[batch]`, log-odds of a click.
        logit: float `[batch]`, log-odds of a conversion where there was a click; it is trained by the product
            alone, and so over all impressions.

    Returns:
        float32 `[batch]`.

    Reference: Ma et al., 2018, https://arxiv.org/abs/1804.07931
    """
    label = tf.cast(label, tf.float32)
    click_logit, logit = tf.cast(click_logit, tf.float32), tf.cast(logit, tf.float32)
    log_both = tf.math.log_sigmoid(click_logit) + tf.math.log_sigmoid(logit)
    # 1 - ab = (1 - a) + a (1 - b), in logarithms, since `log(1 - p)` loses its digits near both ends.
    terms = [
        tf.math.log_sigmoid(-click_logit),
        tf.math.log_sigmoid(click_logit) + tf.math.log_sigmoid(-logit),
    ]
    return -label * log_both - (1.0 - label) * tf.reduce_logsumexp(tf.stack(terms), 0)
