"""Losses of retrieval and ranking models, as plain functions that return one loss per example.

Nothing is averaged in them: reduce with `replicas.mean_over_replicas`, so that the gradients summed over the
replicas of a `tf.distribute` strategy are those of the whole batch. Every loss is computed in float32,
whatever the precision of what comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.replicas import gather_across_replicas

__all__ = [
    "MultitaskWeighting",
    "StreamingFrequency",
    "binary_cross_entropy",
    "bpr",
    "confidence",
    "contrastive_alignment",
    "full_softmax",
    "in_batch_bpr",
    "in_batch_softmax",
    "listwise_softmax",
    "mixed_log_q",
    "sampled_softmax",
    "squared_error",
]

# As in TFRS: far below any logit, and still finite after a few additions.
MIN_LOGIT = np.finfo(np.float32).min / 100.0


def in_batch_softmax(
    query: tf.Tensor,
    candidate: tf.Tensor,
    *,
    candidate_ids: tf.Tensor | None = None,
    log_q: tf.Tensor | None = None,
    negatives: tf.Tensor | None = None,
    negative_ids: tf.Tensor | None = None,
    negative_log_q: tf.Tensor | None = None,
    temperature: float = 1.0,
    hard_negatives: int | None = None,
    gather: bool = True,
) -> tf.Tensor:
    """Softmax cross-entropy of each query's own candidate against the other candidates of the batch.

    `loss_i = -log(exp(s_ii) / sum_j exp(s_ij))` with `s_ij = <query_i, candidate_j> / temperature - log_q_j`,
    `j` over the batch's candidates and, when given, the extra negatives. The correction by `log_q` is applied
    to positives and negatives alike (Yi et al., 2019), because a candidate stands in the batch as often as
    people chose it.

    Args:
        query: float `[batch, dim]`.
        candidate: float `[batch, dim]`, row `i` is what query `i` chose.
        candidate_ids: integer `[batch]`. When given, other occurrences of a query's own candidate (accidental
            hits) are no negatives.
        log_q: float `[batch]`, log of the probability (or of the expected count, see `mixed_log_q`) with
            which each candidate enters the batch.
        negatives: float `[extra, dim]`, candidates that are negatives for every query (mixed negative
            sampling).
        negative_ids: integer `[extra]`, needed with `negatives` when `candidate_ids` is given.
        negative_log_q: float `[extra]`, needed with `negatives` when `log_q` is given.
        temperature: positive; divides the scores.
        hard_negatives: keeps only this many of the highest-scored negatives per query.
        gather: whether the candidates of all replicas serve as negatives. The extra negatives stay per
            replica.

    Returns:
        float32 `[batch]`.

    Raises:
        ValueError: if an argument lacks its companion, or a number is out of range.

    References: Yi et al., 2019, https://doi.org/10.1145/3298689.3346996 (logQ);
        Yang et al., 2020, https://doi.org/10.1145/3366424.3386195 (mixed negatives).
    """
    _check_positive("temperature", temperature)
    if negatives is not None:
        _check_companion("negative_ids", negative_ids, "candidate_ids", candidate_ids)
        _check_companion("negative_log_q", negative_log_q, "log_q", log_q)
    own_ids = candidate_ids
    if gather:
        gathered = gather_across_replicas(*(x for x in (candidate, candidate_ids, log_q) if x is not None))
        rest = iter(gathered[1:])
        candidate = gathered[0]
        candidate_ids = None if candidate_ids is None else next(rest)
        log_q = None if log_q is None else next(rest)
    candidate = _with_extra(candidate, negatives)
    logits = _scores(query, candidate) / temperature
    if log_q is not None:
        logits -= tf.cast(_with_extra(log_q, negative_log_q), tf.float32)[None, :]
    positive = tf.range(tf.shape(logits)[0])
    if own_ids is not None:
        hits = own_ids[:, None] == _with_extra(candidate_ids, negative_ids)[None, :]
        own = tf.one_hot(positive, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
        logits = tf.where(tf.logical_and(hits, tf.logical_not(own)), MIN_LOGIT, logits)
    if hard_negatives is not None:
        logits, positive = _keep_hardest(logits, positive, hard_negatives)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(positive, logits)


def full_softmax(
    query: tf.Tensor,
    catalogue: tf.Tensor,
    positive: tf.Tensor,
    *,
    valid: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    """Exact softmax cross-entropy of each query's item against the whole catalogue.

    Args:
        query: float `[batch, dim]`.
        catalogue: float `[items, dim]`, every item's embedding.
        positive: integer `[batch]`, rows of `catalogue`.
        valid: bool `[items]` or `[batch, items]`; false rows are no candidates (padding, for example).
        bias: float `[items]`, added to the scores after the temperature.
        temperature: positive; divides the scores.

    Returns:
        float32 `[batch]`.
    """
    _check_positive("temperature", temperature)
    logits = _scores(query, catalogue) / temperature
    if bias is not None:
        logits += tf.cast(bias, tf.float32)
    if valid is not None:
        logits = tf.where(valid, logits, MIN_LOGIT)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(positive, logits)


def sampled_softmax(
    query: tf.Tensor,
    positive: tf.Tensor,
    pool: tf.Tensor,
    *,
    positive_ids: tf.Tensor | None = None,
    pool_ids: tf.Tensor | None = None,
    pool_log_q: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    """Softmax cross-entropy of each query's own candidate against a pool of negatives that all queries share.

    `loss_i = -log(exp(p_i) / (exp(p_i) + sum_j exp(s_ij - log_q_j)))`: the positive is always there, so it
    carries no correction, and the sum over the pool estimates the sum over all other items when `log_q_j` is
    the log of how often item `j` is expected in the pool. Suits many queries a step (every position of a
    history), where in-batch negatives would be as many as the queries.

    Args:
        query: float `[queries, dim]`.
        positive: float `[queries, dim]`.
        pool: float `[pool, dim]`.
        positive_ids: integer `[queries]`; with `pool_ids`, a query's own item in the pool is no negative.
        pool_ids: integer `[pool]`.
        pool_log_q: float `[pool]`, see `mixed_log_q`.
        temperature: positive; divides the scores.

    Returns:
        float32 `[queries]`.

    Reference: Bengio and Senecal, 2008, https://doi.org/10.1109/TNN.2007.912312
    """
    _check_positive("temperature", temperature)
    _check_companion("positive_ids", positive_ids, "pool_ids", pool_ids)
    own = (
        tf.reduce_sum(tf.cast(query, tf.float32) * tf.cast(positive, tf.float32), -1, keepdims=True)
        / temperature
    )
    logits = _scores(query, pool) / temperature
    if pool_log_q is not None:
        logits -= tf.cast(pool_log_q, tf.float32)[None, :]
    if pool_ids is not None and positive_ids is not None:
        logits = tf.where(positive_ids[:, None] == pool_ids[None, :], MIN_LOGIT, logits)
    logits = tf.concat([own, logits], 1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros(tf.shape(logits)[0], tf.int32), logits)


def mixed_log_q(probability: tf.Tensor, num_in_batch: int, num_uniform: int, num_items: int) -> tf.Tensor:
    """Log of how often a candidate is expected among in-batch and uniform negatives together.

    `log(num_in_batch * p + num_uniform / num_items)`: candidates drawn from a mixture of both distributions
    need one correction by the mixture, not each part by its own.

    Args:
        probability: float `[any]`, the share of interactions that each candidate has.
        num_in_batch: candidates that come with the batch.
        num_uniform: candidates drawn uniformly.
        num_items: items the uniform ones are drawn from.

    Returns:
        float32 `[any]`.
    """
    num_in_batch, num_uniform, num_items = (
        tf.cast(n, tf.float32) for n in (num_in_batch, num_uniform, num_items)
    )
    expected = num_in_batch * tf.cast(probability, tf.float32) + num_uniform / num_items
    return tf.math.log(tf.maximum(expected, 1e-12))


def bpr(positive: tf.Tensor, negative: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Bayesian personalised ranking: `mean_j -log sigmoid(positive - negative_j)`.

    Args:
        positive: float `[batch]`, score of what was chosen.
        negative: float `[batch]` or `[batch, negatives]`, scores of what was not.
        mask: bool like `negative`; false entries are left out. A row with none has loss 0.

    Returns:
        float32 `[batch]`.

    Reference: Rendle et al., 2009, https://arxiv.org/abs/1205.2618
    """
    positive, negative = tf.cast(positive, tf.float32), tf.cast(negative, tf.float32)
    if negative.shape.rank == 1:
        negative = negative[:, None]
        mask = None if mask is None else mask[:, None]
    losses = -tf.math.log_sigmoid(positive[:, None] - negative)
    weights = tf.ones_like(losses) if mask is None else tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights, -1), tf.reduce_sum(weights, -1))


def in_batch_bpr(
    query: tf.Tensor, candidate: tf.Tensor, *, candidate_ids: tf.Tensor | None = None, gather: bool = True
) -> tf.Tensor:
    """`bpr` of each query's own candidate against every other candidate of the batch.

    Args:
        query: float `[batch, dim]`.
        candidate: float `[batch, dim]`.
        candidate_ids: integer `[batch]`; other occurrences of the own candidate are left out.
        gather: whether the candidates of all replicas serve as negatives.

    Returns:
        float32 `[batch]`.
    """
    own_score = tf.reduce_sum(tf.cast(query, tf.float32) * tf.cast(candidate, tf.float32), -1)
    own_ids = candidate_ids
    if gather and candidate_ids is not None:
        candidate, candidate_ids = gather_across_replicas(candidate, candidate_ids)
    elif gather:
        (candidate,) = gather_across_replicas(candidate)
    scores = _scores(query, candidate)
    if own_ids is None or candidate_ids is None:
        mask = tf.logical_not(tf.eye(tf.shape(scores)[0], tf.shape(scores)[1]) > 0)
    else:
        mask = own_ids[:, None] != candidate_ids[None, :]
    return bpr(own_score, scores, mask)


def confidence(weight: tf.Tensor) -> tf.Tensor:
    """How much a choice counts of which somebody says how much it was: `log2(1 + w)`.

    The confidence `1 + alpha log(1 + w / eps)` of Hu, Koren and Volinsky with `eps = 1`, scaled so that a
    weight of 1, as a choice without a weight has, counts 1: of plays from 1 to 13,000 the most count 14 times
    the least.

    Args:
        weight: float `[...]`, at least 0: plays, hours, pieces.

    Returns:
        float32 `[...]`.

    Reference: Hu et al., 2008, https://doi.org/10.1109/ICDM.2008.22
    """
    return tf.math.log1p(tf.cast(weight, tf.float32)) / tf.math.log(2.0)


def squared_error(label: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """`(label - prediction)^2`, both float `[batch]`; returns float32 `[batch]`."""
    return tf.math.squared_difference(tf.cast(prediction, tf.float32), tf.cast(label, tf.float32))


def binary_cross_entropy(label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """`-label log sigmoid(logit) - (1 - label) log(1 - sigmoid(logit))`.

    Args:
        label: float `[batch]` in [0, 1].
        logit: float `[batch]`, before the sigmoid.

    Returns:
        float32 `[batch]`.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(label, tf.float32), tf.cast(logit, tf.float32))


def listwise_softmax(label: tf.Tensor, logit: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Cross-entropy between a list's labels, scaled to sum to 1, and the softmax of its scores.

    `loss = -sum_j (y_j / sum_l y_l) log softmax(s)_j`; a list without a positive label has loss 0.

    Args:
        label: float `[batch, list]`, at least 0.
        logit: float `[batch, list]`.
        mask: bool `[batch, list]`; false entries belong to no list.

    Returns:
        float32 `[batch]`.

    Reference: ListNet's top-one form, Cao et al., 2007, https://doi.org/10.1145/1273496.1273513, with labels
    scaled
        linearly where the paper takes their softmax.
    """
    label, logit = tf.cast(label, tf.float32), tf.cast(logit, tf.float32)
    if mask is not None:
        label, logit = tf.where(mask, label, 0.0), tf.where(mask, logit, MIN_LOGIT)
    target = tf.math.divide_no_nan(label, tf.reduce_sum(label, -1, keepdims=True))
    return tf.nn.softmax_cross_entropy_with_logits(target, logit)


def contrastive_alignment(
    first: tf.Tensor,
    second: tf.Tensor,
    *,
    ids: tf.Tensor | None = None,
    temperature: float = 0.1,
    gather: bool = True,
) -> tf.Tensor:
    """Draws two views of the same item (its id's and its text's embedding) together, symmetric InfoNCE.

    The mean of both directions' `in_batch_softmax` over L2-normalised rows.

    Args:
        first: float `[batch, dim]`.
        second: float `[batch, dim]`, the same items in the same order.
        ids: integer `[batch]`; repeated items are no negatives of each other.
        temperature: positive; divides the cosines.
        gather: whether the items of all replicas serve as negatives.

    Returns:
        float32 `[batch]`.

    Reference: Radford et al., 2021, https://arxiv.org/abs/2103.00020
    """
    first = tf.math.l2_normalize(tf.cast(first, tf.float32), -1)
    second = tf.math.l2_normalize(tf.cast(second, tf.float32), -1)
    options: dict[str, Any] = {"candidate_ids": ids, "temperature": temperature, "gather": gather}
    return (in_batch_softmax(first, second, **options) + in_batch_softmax(second, first, **options)) / 2


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class StreamingFrequency(tf_keras.layers.Layer):
    """Estimates how often each id appears in a batch, from the stream of batches alone.

    Keeps per hash bucket the step at which an id was last seen and a moving average of the gap between two
    sightings; the estimated probability is one over that gap. Ids that share a bucket share the estimate. The
    layer follows a distribution's changes, where counts made once would not. Under a strategy the replicas'
    ids are gathered first, so every replica holds the same estimate.

    Args:
        num_buckets: hash buckets; take some times the number of ids.
        learning_rate: weight of the newest gap in the average, in (0, 1].
        initial_gap: the gap assumed before an id was seen twice.

    Reference: Yi et al., 2019, algorithm 2, https://doi.org/10.1145/3298689.3346996
    """

    def __init__(self, num_buckets: int, learning_rate: float = 0.05, initial_gap: float = 100.0, **kwargs):
        super().__init__(**kwargs)
        _check_positive("num_buckets", num_buckets)
        _check_positive("initial_gap", initial_gap)
        if not 0 < learning_rate <= 1:
            raise ValueError(
                f"`learning_rate` must lie in (0, 1]. Received: {learning_rate}. Choose 0.05, say."
            )
        self.num_buckets = num_buckets
        self.learning_rate = learning_rate
        self.initial_gap = initial_gap

    def build(self, input_shape):
        once = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        zeros = tf_keras.initializers.Zeros()
        gaps = tf_keras.initializers.Constant(self.initial_gap)
        self.step = self.add_weight("step", (), tf.int64, zeros, **once)
        self.last_seen = self.add_weight("last_seen", (self.num_buckets,), tf.int64, zeros, **once)
        self.gap = self.add_weight("gap", (self.num_buckets,), tf.float32, gaps, **once)
        super().build(input_shape)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns `log(probability)` of each id being in a batch, after counting this batch when training.

        Args:
            ids: integer or string `[batch]`.
            training: whether this batch updates the estimate.

        Returns:
            float32 `[batch]`, at most 0.
        """
        if training:
            (seen,) = gather_across_replicas(self._buckets(ids))
            buckets = tf.unique(seen).y
            now = self.step.read_value() + 1
            last = tf.nn.embedding_lookup(self.last_seen, buckets)
            gaps = tf.nn.embedding_lookup(self.gap, buckets)
            updated = (1 - self.learning_rate) * gaps + self.learning_rate * tf.cast(now - last, tf.float32)
            # A first sighting says nothing about a gap.
            updated = tf.where(last > 0, updated, gaps)
            self.gap.scatter_update(tf.IndexedSlices(updated, buckets))
            self.last_seen.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(buckets), now), buckets))
            self.step.assign(now)
        return -tf.math.log(tf.maximum(tf.nn.embedding_lookup(self.gap, self._buckets(ids)), 1.0))

    def _buckets(self, ids: tf.Tensor) -> tf.Tensor:
        if ids.dtype == tf.string:
            return tf.strings.to_hash_bucket_fast(ids, self.num_buckets)
        return tf.math.floormod(tf.cast(ids, tf.int64), self.num_buckets)

    def get_config(self):
        config = super().get_config()
        return {
            **config,
            "num_buckets": self.num_buckets,
            "learning_rate": self.learning_rate,
            "initial_gap": self.initial_gap,
        }


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

    def __init__(self, tasks: Mapping[str, str], weights: Mapping[str, float] | None = None, **kwargs):
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

    def build(self, input_shape):
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
        for place, (task, kind) in enumerate(self.tasks.items()):
            log_variance = tf.cast(self.log_variance[place], tf.float32)
            factor = 0.5 if kind == "regression" else 1.0
            total += factor * tf.exp(-log_variance) * tf.cast(losses[task], tf.float32) + log_variance / 2
        return total

    def get_config(self):
        return {**super().get_config(), "tasks": self.tasks, "weights": self.weights_by_task}


def _scores(query: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.cast(query, tf.float32), tf.cast(candidate, tf.float32), transpose_b=True)


def _with_extra(values: tf.Tensor, extra: tf.Tensor | None) -> tf.Tensor:
    return values if extra is None else tf.concat([values, tf.cast(extra, values.dtype)], 0)


def _keep_hardest(logits: tf.Tensor, positive: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The positive's logit in column 0, then the `count` highest of the others."""
    _check_positive("hard_negatives", count)
    rows = tf.range(tf.shape(logits)[0])
    own = tf.gather_nd(logits, tf.stack([rows, positive], -1))
    others = tf.where(tf.one_hot(positive, tf.shape(logits)[1]) > 0, MIN_LOGIT, logits)
    hardest = tf.math.top_k(others, tf.minimum(count, tf.shape(logits)[1])).values
    return tf.concat([own[:, None], hardest], 1), tf.zeros_like(positive)


def _check_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"`{name}` must be greater than 0. Received: {value}. Give it a positive value.")


def _check_companion(name: str, value: tf.Tensor | None, other: str, other_value: tf.Tensor | None) -> None:
    if (value is None) != (other_value is None):
        raise ValueError(
            f"`{name}` and `{other}` go together when there are extra negatives. Received only "
            f"`{other if value is None else name}`. Give both or neither."
        )
