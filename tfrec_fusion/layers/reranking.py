"""Re-ranking of candidates: for diversity, and by rules on the categories of a list."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.category_rules import Calibration, CategoryRules, Limits, per_row
from tfrec_fusion.layers.greedy import State, Term, select
from tfrec_fusion.layers.input_checks import check_floats


class Reranking(tf_keras.layers.Layer, abc.ABC):
    """Picks candidates one after the other, each for being relevant and unlike those picked before it.

    Scores of models have any scale while likeness has its own, so a candidate's relevance `r` is by default
    its score brought to [0, 1] over the request's candidates. With `d` = 0 the order is that of the scores;
    ties go to the candidate that comes first. With category rules, values are `(1 - c)` times what they are
    without, and the rules' terms are added (`CategoryRules`).

    Subclasses say what a candidate's likeness to those picked counts (`likeness`).

    Args:
        rescale: whether scores are brought to [0, 1] (minimum to maximum of each request) first.
    """

    at_once = 1

    def __init__(self, rescale: bool = True, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.rescale = rescale

    def call(
        self,
        inputs: tf.Tensor,
        vectors: tf.Tensor,
        diversity: tf.Tensor | float,
        k: tf.Tensor | int,
        categories: CategoryRules | None = None,
    ) -> tf.Tensor:
        """Orders candidates.

        Args:
            inputs: scores, floats `[batch, N]`; minus infinity or NaN for what must not be picked (padding,
                exclusions). Plus infinity counts as a very high score.
            vectors: floats `[batch, N, dim]`, of any length, the candidates' vectors. One with NaN or
                infinity is like no other, as one of zeros.
            diversity: weight d in [0, 1], `[]` or `[batch]`; values outside are clipped.
            k: how many are picked, int `[]`; a Python integer where XLA compiles the model.
            categories: limits and a target mixture of categories; none where None.

        Returns:
            int32 `[batch, k]`: positions in `inputs`, best first; -1 where no candidate was left, or none
            with room in its categories.

        Raises:
            ValueError: if ranks or sizes of scores and vectors do not match, or a constant `k` is above N or
                below 1.
        """
        vectors = tf.convert_to_tensor(vectors)
        _check(type(self).__name__, inputs, vectors, k)
        diversity = per_row(diversity, inputs)
        share = tf.ones_like(diversity) if categories is None else 1.0 - per_row(categories.weight, inputs)
        terms = [self.likeness(_unit(vectors), share * diversity)]
        if categories is not None:
            terms += [Limits(categories), Calibration(categories)]
        relevance, available = _relevance(tf.cast(inputs, tf.float32), self.rescale)
        values = tf.where(available, share * (1 - diversity) * relevance, -np.inf)
        return select(values, terms, k, self.at_once)

    @abc.abstractmethod
    def likeness(self, vectors: tf.Tensor, weight: tf.Tensor) -> Term:
        """What being like those picked counts.

        Args:
            vectors: float32 `[batch, N, dim]` of length 1, or 0.
            weight: float32 `[batch, 1]`.
        """

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rescale": self.rescale}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MaximalMarginalRelevance(Reranking):
    """Picks candidates one after the other by relevance and the nearest of those picked before (MMR).

    The next pick is `argmax_i (1 - d) r_i - d max_{j picked} cos(v_i, v_j)`: `d` is the diversity weight, `r`
    the relevance, `v` the vectors; see `Reranking` for what both have in common.

    Args:
        rescale: whether scores are brought to [0, 1] (minimum to maximum of each request) first.

    Reference: Carbonell and Goldstein, 1998, https://doi.org/10.1145/290941.291025
    """

    def likeness(self, vectors: tf.Tensor, weight: tf.Tensor) -> Term:
        return _Nearest(vectors, weight)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class DeterminantalPointProcess(Reranking):
    """Picks candidates one after the other by relevance and what all those picked before leave of them.

    Greedy search for the set `Y` of highest probability under a determinantal point process with the kernel
    `L_ij = q_i S_ij q_j`, `q_i = exp(a r_i)`, `a = (1 - d) / (2 d)`. Multiplied by `d`, its logarithm is

        (1 - d) sum_{i in Y} r_i  +  d log det S_Y,    S_ij = (1 - ridge) (1 + cos(v_i, v_j)) / 2,  S_ii = 1

    which also holds for d = 0. Each pick adds `(1 - d) r_i + d log s_i`, where `s_i` is the variance that a
    candidate has left given those picked (a Schur complement): between `ridge`, near which a copy of a pick
    comes, and 1.
    Unlike `MaximalMarginalRelevance`, which looks at the nearest pick alone, it sees that a candidate is a
    mixture of several.

    Of the paper it keeps the cost, O(N (dim + k)) a pick: `s` is kept up to date with one row of a Cholesky
    factor a pick, here as one direction of length `dim + 1` a pick, from which that row is a product with the
    vectors. The paper's kernel has no ridge and stops when nothing is left of any candidate, which vectors of
    `dim` numbers reach after `dim + 1` picks; with it such candidates come in the order of their scores.

    Args:
        rescale: whether scores are brought to [0, 1] (minimum to maximum of each request) first.
        ridge: what stays of the variance of a copy, in (0, 1).

    Raises:
        ValueError: for a `ridge` outside (0, 1).

    Reference: Chen et al., 2018, https://arxiv.org/abs/1709.05135
    """

    at_once = 5

    def __init__(self, rescale: bool = True, ridge: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(rescale=rescale, **kwargs)
        if not 0 < ridge < 1:
            raise ValueError(
                f"`ridge` must be above 0 and below 1. Received: ridge={ridge}. Leave it at 0.001."
            )
        self.ridge = ridge

    def likeness(self, vectors: tf.Tensor, weight: tf.Tensor) -> Term:
        return _Variance(vectors, weight, self.ridge)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ridge": self.ridge}


class _Nearest:
    """`-weight max_{j picked} cos(v_i, v_j)`."""

    def __init__(self, vectors: tf.Tensor, weight: tf.Tensor):
        self.vectors, self.weight = vectors, weight
        self.columns = tf.transpose(vectors, [0, 2, 1])

    def start(self, steps: tf.Tensor | int) -> State:
        # A cosine is never below -1, so starting there changes nothing; nor does it the first pick, equal for
        # all.
        return (-tf.ones(tf.shape(self.vectors)[:2]),)

    def value(self, similarity: tf.Tensor) -> tf.Tensor:
        return -self.weight * similarity

    def picked(self, at: tf.Tensor, step: tf.Tensor, similarity: tf.Tensor) -> State:
        pick = tf.gather_nd(self.vectors, at)[:, tf.newaxis]
        return (tf.maximum(similarity, tf.matmul(pick, self.columns)[:, 0]),)


NARROW = 128
"""Up to this length of the vectors it is faster to keep `I - U'U` than `U`."""


class _Variance:
    """`weight log s_i`, the variance that is left of each candidate.

    With `S_ij = f_i f_j` off the diagonal, a pick `j` has the direction `u = (f_j - U'U f_j) / sqrt(s_j)`,
    where `U` are those before; `u f_i` is its entry in the row of the Cholesky factor that belongs to `i`.
    """

    def __init__(self, vectors: tf.Tensor, weight: tf.Tensor, ridge: float):
        self.ridge, self.weight = ridge, weight
        length = np.float32(np.sqrt((1 - ridge) / 2))
        self.vectors = length * tf.concat([vectors, tf.ones_like(vectors[:, :, :1])], 2)
        self.columns = tf.transpose(self.vectors, [0, 2, 1])
        self.narrow = vectors.shape[2] is not None and vectors.shape[2] <= NARROW

    def start(self, steps: tf.Tensor | int) -> State:
        batch, number, width = tf.unstack(tf.shape(self.vectors))
        variance = tf.ones([batch, number])
        if self.narrow:
            return tf.eye(self.vectors.shape[2], batch_shape=[batch]), variance
        return tf.zeros([batch, steps, width]), variance

    def value(self, directions: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        return self.weight * tf.math.log(variance)

    def picked(self, at: tf.Tensor, step: tf.Tensor, directions: tf.Tensor, variance: tf.Tensor) -> State:
        pick = tf.gather_nd(self.vectors, at)[:, tf.newaxis]
        left = tf.math.rsqrt(tf.gather_nd(variance, at))[:, tf.newaxis, tf.newaxis]
        if self.narrow:
            direction = left * tf.matmul(pick, directions)
            directions -= tf.transpose(direction, [0, 2, 1]) * direction
        else:
            known = tf.matmul(tf.matmul(pick, directions, transpose_b=True), directions)
            direction = left * (pick - known)
            place = tf.stack([at[:, 0], tf.zeros_like(at[:, 0]) + step], 1)
            directions = tf.tensor_scatter_nd_update(directions, place, direction[:, 0])
        entries = tf.matmul(direction, self.columns)[:, 0]
        # No eigenvalue of S is below the ridge; rounding must not be either.
        return directions, tf.maximum(variance - tf.square(entries), self.ridge)


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors of length 1; zeros for those that are none."""
    unit = tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)
    return tf.where(tf.math.is_finite(unit), unit, 0.0)


def _relevance(scores: tf.Tensor, rescale: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 and bool `[batch, N]`: relevance, 0 where there is no candidate; whether there is one."""
    available = scores > scores.dtype.min
    # A quarter of the range, so that a difference of two is finite.
    scores = tf.clip_by_value(scores, scores.dtype.min / 4, scores.dtype.max / 4)
    if not rescale:
        return tf.where(available, scores, 0.0), available
    highest = tf.reduce_max(tf.where(available, scores, scores.dtype.min), axis=1, keepdims=True)
    lowest = tf.reduce_min(tf.where(available, scores, scores.dtype.max), axis=1, keepdims=True)
    relevance = tf.math.divide_no_nan(scores - lowest, highest - lowest)
    return tf.where(available, relevance, 0.0), available


def _check(layer: str, scores: tf.Tensor, vectors: tf.Tensor, k: tf.Tensor | int) -> None:
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
        check_floats(layer, values.dtype, "Cast them.", f" for {what}")
    size, constant = scores.shape[1], k if isinstance(k, int) else tf.get_static_value(k)
    if constant is not None and (constant < 1 or (size is not None and constant > size)):
        raise ValueError(
            f"`k` must be at least 1 and at most the number of candidates ({size}). Received: k={constant}. "
            "Lower `k` or retrieve more candidates."
        )
