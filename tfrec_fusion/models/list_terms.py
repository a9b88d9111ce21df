"""Terms of the retrieval's loss for lists that are diverse and not the most popular items alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion import losses
from tfrec_fusion.config import ConfigError, Feature
from tfrec_fusion.models.candidates import Candidates

__all__ = ["ListTerms"]


class ListTerms:
    """What a step's queries would show, by the softmax over its candidates, weighed into the loss.

    `diversity_weight * losses.expected_similarity + popularity_penalty * losses.expected_popularity`, each of
    the query after a whole history. Items are compared by what is said about them, which training does not
    change: by text, and without text by categories. By the embeddings themselves, items would become unlike
    by moving apart.

    Args:
        diversity_weight: of the similarity, at least 0.
        popularity_penalty: of the popularity, at least 0.
        counts: int64 `[N + 1]`, training interactions per item.
        text: key of the items' text vectors, None without text.
        features: the items' features.
        values: int32 `[n]` of items → what is said about them, by name (`ItemTower.values`).

    Raises:
        ConfigError: if nothing is said by which items could be compared.
    """

    def __init__(
        self,
        diversity_weight: float,
        popularity_penalty: float,
        counts: np.ndarray,
        text: str | None,
        features: Sequence[Feature],
        values: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    ):
        self.diversity_weight = diversity_weight
        self.popularity_penalty = popularity_penalty
        self.popularity = tf.constant(np.log1p(counts) / max(np.log1p(counts.max()), 1e-9), tf.float32)
        self.text = text
        self.categories = [feature for feature in features if feature.kind in ("categorical", "categories")]
        self.values = values
        if diversity_weight and text is None and not self.categories:
            raise ConfigError(
                "`retrieval.diversity_weight` needs something that items are compared by: a text, or a column"
                f" of categories. Received: {diversity_weight:g}, and items without. Name columns under"
                " `data.items.text` or `data.items.lists`, or leave it out."
            )

    def losses(self, queries: tf.Tensor, candidates: Candidates, temperature: float) -> tf.Tensor:
        """The weighed terms of each query, float32 `[queries]`.

        Args:
            queries: float `[queries, dim]`.
            candidates: what they are compared with.
            temperature: of the softmax.
        """
        probability = losses.probabilities(
            queries,
            candidates.embeddings,
            log_q=candidates.log_q,
            valid=candidates.valid,
            temperature=temperature,
        )
        total = tf.zeros(tf.shape(queries)[:1])
        if self.diversity_weight:
            similarity = losses.expected_similarity(probability, self.vectors(candidates.ids))
            total += self.diversity_weight * similarity
        if self.popularity_penalty:
            popularity = tf.gather(self.popularity, candidates.ids)
            total += self.popularity_penalty * losses.expected_popularity(probability, popularity)
        return total

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        """What items are compared by, float32 `[n, any]` of length 1, or 0 for an item of which nothing is
        said."""
        said = self.values(items)
        if self.text is not None:
            return tf.stop_gradient(tf.math.l2_normalize(tf.cast(said[self.text], tf.float32), -1))
        rows = tf.range(tf.size(items))
        parts = []
        for feature in self.categories:
            values = tf.reshape(said[feature.name], [tf.size(items), -1])
            at = tf.stack([tf.broadcast_to(rows[:, None], tf.shape(values)), values], -1)
            hot = tf.scatter_nd(
                tf.reshape(at, [-1, 2]), tf.ones([tf.size(values)]), [tf.size(items), feature.size]
            )
            parts.append(tf.minimum(hot[:, 1:], 1.0))
        return tf.math.l2_normalize(tf.concat(parts, 1), -1)
