"""Re-ranking of candidates for diversity."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.input_checks import check_floats


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MaximalMarginalRelevance(tf_keras.layers.Layer):
    """Picks candidates one after the other, each for being relevant and unlike those picked before it.

    The next pick is `argmax_i (1 - d) r_i - d max_{j picked} cos(v_i, v_j)`: `d` is the diversity weight, `r`
    the score, `v` the vectors. Scores of models have any scale while a cosine lies in [-1, 1], so `r` is by
    default the score brought to [0, 1] over the request's candidates. With d = 0 the order is that of the
    scores; ties go to the candidate that comes first.

    Args:
        rescale: whether scores are brought to [0, 1] (minimum to maximum of each request) first.

    Reference: Carbonell and Goldstein, 1998, https://doi.org/10.1145/290941.291025
    """

    def __init__(self, rescale: bool = True, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.rescale = rescale

    def call(
        self, inputs: tf.Tensor, vectors: tf.Tensor, diversity: tf.Tensor | float, k: tf.Tensor | int
    ) -> tf.Tensor:
        """Orders candidates.

        Args:
            inputs: scores, floats `[batch, N]`; minus infinity for what must not be picked (padding,
                exclusions).
            vectors: floats `[batch, N, dim]`, of any length, the candidates' vectors.
            diversity: weight in [0, 1], `[]` or `[batch]`; values outside are clipped.
            k: how many are picked, int `[]`; a Python integer where XLA compiles the model.

        Returns:
            int32 `[batch, k]`: positions in `inputs`, best first; -1 where no candidate was left.

        Raises:
            ValueError: if ranks or sizes of scores and vectors do not match, or a constant `k` is above N or
                below 1.
        """
        vectors = tf.convert_to_tensor(vectors)
        _check(inputs, vectors, k)
        scores = tf.cast(inputs, tf.float32)
        vectors = tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)
        diversity = tf.clip_by_value(tf.cast(diversity, tf.float32), 0.0, 1.0)
        diversity = tf.broadcast_to(diversity, tf.shape(scores)[:1])[:, tf.newaxis]
        available = scores > scores.dtype.min
        relevance = tf.where(available, scores, 0.0)
        if self.rescale:
            highest = tf.reduce_max(tf.where(available, scores, scores.dtype.min), axis=1, keepdims=True)
            lowest = tf.reduce_min(tf.where(available, scores, scores.dtype.max), axis=1, keepdims=True)
            relevance = tf.math.divide_no_nan(relevance - lowest, highest - lowest)
            relevance = tf.where(available, relevance, 0.0)

        def pick(
            step: tf.Tensor, order: tf.Tensor, available: tf.Tensor, similarity: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            value = (1 - diversity) * relevance - diversity * similarity
            best = tf.argmax(tf.where(available, value, value.dtype.min), axis=1, output_type=tf.int32)
            left = tf.reduce_any(available, axis=1)
            order = order.write(step, tf.where(left, best, -1))
            available &= tf.logical_not(tf.one_hot(best, tf.shape(scores)[1], on_value=True, off_value=False))
            picked = tf.gather(vectors, best, batch_dims=1)
            # A sum, since starting a batched product costs more than a request's few hundred products.
            similarity = tf.maximum(similarity, tf.reduce_sum(vectors * picked[:, tf.newaxis], axis=-1))
            return step + 1, order, available, similarity

        # A cosine is never below -1, so starting there changes nothing; nor does it the first pick, equal for
        # all.
        state = (
            0,
            tf.TensorArray(tf.int32, size=k, element_shape=inputs.shape[:1]),
            available,
            -tf.ones_like(scores),
        )
        _, order, _, _ = tf.while_loop(lambda step, *_: step < k, pick, state)
        return tf.transpose(order.stack())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rescale": self.rescale}


def _check(scores: tf.Tensor, vectors: tf.Tensor, k: tf.Tensor | int) -> None:
    if (
        scores.shape.rank != 2
        or vectors.shape.rank != 3
        or not vectors.shape[:2].is_compatible_with(scores.shape)
    ):
        raise ValueError(
            "Scores must be [batch, N] and vectors [batch, N, dim]. "
            f"Received shapes: {scores.shape} and {vectors.shape}."
        )
    for what, values in (("scores", scores), ("vectors", vectors)):
        check_floats("MaximalMarginalRelevance", values.dtype, "Cast them.", f" for {what}")
    size, constant = scores.shape[1], k if isinstance(k, int) else tf.get_static_value(k)
    if constant is not None and (constant < 1 or (size is not None and constant > size)):
        raise ValueError(
            f"`k` must be at least 1 and at most the number of candidates ({size}). Received: k={constant}. "
            "Lower `k` or retrieve more candidates."
        )
