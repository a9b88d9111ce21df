"""Losses of retrieval and ranking models, as plain functions that return one loss per example.

Nothing is averaged in them: reduce with `replicas.mean_over_replicas`, so that the gradients summed over the
replicas of a `tf.distribute` strategy are those of the whole batch. Every loss is computed in float32,
whatever the precision of what comes in.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.replicas import gather_across_replicas

__all__ = [
    "binary_cross_entropy",
    "bpr",
    "confidence",
    "expected_popularity",
    "expected_similarity",
    "full_softmax",
    "in_batch_bpr",
    "in_batch_softmax",
    "mixed_log_q",
    "not_to_recommend",
    "probabilities",
    "sampled_bpr",
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
    users chose it.

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
    hard_negatives: int | None = None,
) -> tf.Tensor:
    """Exact softmax cross-entropy of each query's item against the whole catalogue.

    Args:
        query: float `[batch, dim]`.
        catalogue: float `[items, dim]`, every item's embedding.
        positive: integer `[batch]`, rows of `catalogue`.
        valid: bool `[items]` or `[batch, items]`; false rows are no candidates (padding, for example).
        bias: float `[items]`, added to the scores after the temperature.
        temperature: positive; divides the scores.
        hard_negatives: keeps only this many of the highest-scored negatives per query.

    Returns:
        float32 `[batch]`.
    """
    _check_positive("temperature", temperature)
    logits = _scores(query, catalogue) / temperature
    if bias is not None:
        logits += tf.cast(bias, tf.float32)
    if valid is not None:
        logits = tf.where(valid, logits, MIN_LOGIT)
    if hard_negatives is not None:
        logits, positive = _keep_hardest(logits, tf.cast(positive, tf.int32), hard_negatives)
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
    hard_negatives: int | None = None,
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
        hard_negatives: keeps only this many of the highest-scored negatives per query.

    Returns:
        float32 `[queries]`.

    Reference: Bengio and Senecal, 2008, https://doi.org/10.1109/TNN.2007.912312
    """
    _check_positive("temperature", temperature)
    _check_companion("positive_ids", positive_ids, "pool_ids", pool_ids)
    own = _own_scores(query, positive)[:, None] / temperature
    logits = _scores(query, pool) / temperature
    if pool_log_q is not None:
        logits -= tf.cast(pool_log_q, tf.float32)[None, :]
    if pool_ids is not None and positive_ids is not None:
        logits = tf.where(positive_ids[:, None] == pool_ids[None, :], MIN_LOGIT, logits)
    if hard_negatives is not None:
        logits = _highest(logits, hard_negatives)
    logits = tf.concat([own, logits], 1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.zeros(tf.shape(logits)[0], tf.int32), logits)


def not_to_recommend(
    query: tf.Tensor,
    disliked: tf.Tensor,
    pool: tf.Tensor,
    *,
    disliked_ids: tf.Tensor,
    pool_ids: tf.Tensor,
    pool_log_q: tf.Tensor | None = None,
    valid: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    """Loss of an item that a query disliked: the more likely it is among all, the more it costs.

    `loss_i = -log(1 - p_i)`, `p_i = exp(d_i) / (exp(d_i) + sum_j exp(s_ij - log_q_j))`, the softmax's
    probability of the disliked item against the pool, itself left out of that.

    Args:
        query: float `[queries, dim]`.
        disliked: float `[queries, dim]`.
        pool: float `[pool, dim]`: a sample of the catalogue, or the whole.
        disliked_ids: integer `[queries]`.
        pool_ids: integer `[pool]`.
        pool_log_q: float `[pool]`, see `mixed_log_q`.
        valid: bool `[pool]`; false rows are no candidates.
        temperature: positive; divides the scores.

    Returns:
        float32 `[queries]`, at least 0.

    Reference: Wang et al., 2023, https://arxiv.org/abs/2308.12256
    """
    _check_positive("temperature", temperature)
    own = _own_scores(query, disliked) / temperature
    logits = _scores(query, pool) / temperature
    if pool_log_q is not None:
        logits -= tf.cast(pool_log_q, tf.float32)[None, :]
    others = disliked_ids[:, None] != pool_ids[None, :]
    others = others if valid is None else others & valid[None, :]
    return tf.nn.softplus(own - tf.reduce_logsumexp(tf.where(others, logits, MIN_LOGIT), 1))


def probabilities(
    query: tf.Tensor,
    pool: tf.Tensor,
    *,
    log_q: tf.Tensor | None = None,
    valid: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    """How likely each of a pool is for each query: `p_ij = exp(s_ij - log_q_j) / sum_l exp(s_il - log_q_l)`.

    Args:
        query: float `[queries, dim]`.
        pool: float `[pool, dim]`: a sample of the catalogue, or the whole.
        log_q: float `[pool]`, see `mixed_log_q`.
        valid: bool `[pool]`; false rows are no candidates.
        temperature: positive; divides the scores.

    Returns:
        float32 `[queries, pool]`; each row sums to 1.
    """
    _check_positive("temperature", temperature)
    logits = _scores(query, pool) / temperature
    if log_q is not None:
        logits -= tf.cast(log_q, tf.float32)[None, :]
    return tf.nn.softmax(logits if valid is None else tf.where(valid[None, :], logits, MIN_LOGIT))


def expected_similarity(probability: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Expected cosine of two different items of a list: 1 minus the expected intra-list distance.

    `sum_{i != j} p_i p_j <v_i, v_j> / sum_{i != j} p_i p_j`, both drawn by `p`. With `m = sum_i p_i v_i` it
    is `(|m|^2 - sum_i p_i^2 |v_i|^2) / (1 - sum_i p_i^2)`, which costs one product with the vectors. Two
    different items are asked for since a flatter `p` alone makes no list more diverse. Other than in the
    paper positions are not discounted: the softmax has none. Where one item has nearly all the probability
    there is no second one, and the value goes to 0 (the denominator is at least 0.001). Copies in a sample
    count as different items.

    Args:
        probability: float `[queries, n]`, rows that sum to 1.
        vectors: float `[n, dim]`, of length 1, or 0 for what is like nothing.

    Returns:
        float32 `[queries]`, in [-1, 1] but for rounding.

    Reference: Vargas and Castells, 2011, https://doi.org/10.1145/2043932.2043955 (EILD)
    """
    probability, vectors = tf.cast(probability, tf.float32), tf.cast(vectors, tf.float32)
    squares = tf.square(probability)
    same = tf.linalg.matvec(squares, tf.reduce_sum(tf.square(vectors), 1))
    mean = tf.matmul(probability, vectors)
    different = tf.maximum(1.0 - tf.reduce_sum(squares, 1), 1e-3)
    return (tf.reduce_sum(tf.square(mean), 1) - same) / different


def expected_popularity(probability: tf.Tensor, popularity: tf.Tensor) -> tf.Tensor:
    """Expected popularity of an item of a list, `sum_i p_i pop_i`.

    With `pop_i = log(1 + c_i) / log(1 + max_j c_j)`, `c` being how often each was chosen, this is the
    expected novelty (`metrics.novelty`, self-information) with its sign turned, on a scale from 0 to 1.

    Args:
        probability: float `[queries, n]`, rows that sum to 1.
        popularity: float `[n]`.

    Returns:
        float32 `[queries]`, between the lowest and the highest popularity.

    References: Vargas and Castells, 2011, https://doi.org/10.1145/2043932.2043955 (EPC);
        Abdollahpouri et al., 2017, https://doi.org/10.1145/3109859.3109912 (a regulariser against
        popularity bias in training).
    """
    return tf.linalg.matvec(tf.cast(probability, tf.float32), tf.cast(popularity, tf.float32))


def sampled_bpr(
    query: tf.Tensor,
    positive: tf.Tensor,
    pool: tf.Tensor,
    *,
    positive_ids: tf.Tensor,
    pool_ids: tf.Tensor,
    valid: tf.Tensor | None = None,
    temperature: float = 1.0,
    hard_negatives: int | None = None,
) -> tf.Tensor:
    """`bpr` of each query's own candidate against a pool of negatives that all queries share.

    The mean over the pool weighs negatives by how often they are drawn, and needs no correction: popular
    items are compared with more often where the pool comes from the batch.

    Args:
        query: float `[queries, dim]`.
        positive: float `[queries, dim]`.
        pool: float `[pool, dim]`.
        positive_ids: integer `[queries]`; a query's own item in the pool is no negative.
        pool_ids: integer `[pool]`.
        valid: bool `[pool]`; false rows are no negatives.
        temperature: positive; divides the scores.
        hard_negatives: keeps only this many of the highest-scored negatives per query.

    Returns:
        float32 `[queries]`.
    """
    _check_positive("temperature", temperature)
    scores = _scores(query, pool) / temperature
    mask = positive_ids[:, None] != pool_ids[None, :]
    if valid is not None:
        mask = tf.logical_and(mask, valid[None, :])
    if hard_negatives is not None:
        scores = _highest(tf.where(mask, scores, MIN_LOGIT), hard_negatives)
        mask = scores > MIN_LOGIT
    return bpr(_own_scores(query, positive) / temperature, scores, mask)


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
    own_score = _own_scores(query, candidate)
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


def _scores(query: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.cast(query, tf.float32), tf.cast(candidate, tf.float32), transpose_b=True)


def _own_scores(query: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    """Dot products of rows, float32 `[batch]`."""
    return tf.reduce_sum(tf.cast(query, tf.float32) * tf.cast(candidate, tf.float32), -1)


def _with_extra(values: tf.Tensor, extra: tf.Tensor | None) -> tf.Tensor:
    return values if extra is None else tf.concat([values, tf.cast(extra, values.dtype)], 0)


def _keep_hardest(logits: tf.Tensor, positive: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The positive's logit in column 0, then the `count` highest of the others."""
    rows = tf.range(tf.shape(logits)[0])
    own = tf.gather_nd(logits, tf.stack([rows, positive], -1))
    others = tf.where(tf.one_hot(positive, tf.shape(logits)[1]) > 0, MIN_LOGIT, logits)
    return tf.concat([own[:, None], _highest(others, count)], 1), tf.zeros_like(positive)


def _highest(logits: tf.Tensor, count: int) -> tf.Tensor:
    """The `count` highest of each row, or all where a row has fewer."""
    _check_positive("hard_negatives", count)
    return tf.math.top_k(logits, tf.minimum(count, tf.shape(logits)[1])).values


def _check_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"`{name}` must be greater than 0. Received: {value}. Give it a positive value.")


def _check_companion(name: str, value: tf.Tensor | None, other: str, other_value: tf.Tensor | None) -> None:
    if (value is None) != (other_value is None):
        raise ValueError(
            f"`{name}` and `{other}` go together when there are extra negatives. Received only "
            f"`{other if value is None else name}`. Give both or neither."
        )
