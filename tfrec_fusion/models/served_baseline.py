"""A fitted baseline as a retrieval model: one vector an item and one a query, so that it is served like a
two-tower model.

Where a trained model is no better than its baseline, the baseline is what should answer.
`export.RetrievalSignatures` takes it instead of a `TwoTower`: same signatures, same index, same answers to
free text.

- popularity: the item's vector is the logarithm of one plus how many chose it.
- als: the item's factors; the query is solved from the history as ALS solves a user,
  `u = (Y'Y + r I + (a - 1) sum_h y_h y_h')^-1 a sum_h y_h` (Hu et al., 2008), so that it also knows users
  who are new.
- content_knn: the item's text vector, of length 1; the query is the sum of the history's.

Of users without a history nothing is known, and they are given what is popular, as in
`pipeline.evaluation.baseline_ranks`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.models.baselines import ALS, Baseline, ContentKNN, Popularity
from tfrec_fusion.models.contributions import ExplainedQueries, PartScores, summed, whole
from tfrec_fusion.models.hybrid.repeats import Repeats

SMALLEST = 1e-12


class ServedBaseline(tf.Module):
    """What `RetrievalSignatures` asks of a model, answered by a baseline.

    Args:
        baseline: fitted; `Popularity`, `ALS` or `ContentKNN`.
        popularity: float `[N + 1]`, how often each item was seen; for users without a history.

    Raises:
        ValueError: for another baseline.
    """

    item_tower = None
    item_text = None
    repeats: Repeats | None = None

    def __init__(self, baseline: Baseline, popularity: np.ndarray):
        super().__init__()
        if isinstance(baseline, Popularity):
            factors, popularity = np.zeros((len(popularity), 0), np.float32), baseline.counts
        elif isinstance(baseline, ALS):
            factors = np.array(baseline.item_factors, np.float32)
        elif isinstance(baseline, ContentKNN):
            factors = baseline.vectors
        else:
            raise ValueError(
                f"`baseline` must be Popularity, ALS or ContentKNN. Received: {type(baseline).__name__}."
                " Others are no products of an item's vector and a query's."
            )
        self.by_text = isinstance(baseline, ContentKNN)
        self.alpha: float | None = None
        self.dim = factors.shape[1]
        factors = _sized(factors)
        self.vectors = tf.Variable(
            np.concatenate([factors, _sized(np.log1p(popularity)[:, None])], 1, dtype=np.float32),
            trainable=False,
            name="vectors",
        )
        if isinstance(baseline, ALS):
            self.alpha = baseline.alpha
            own = np.asarray(baseline.item_factors, np.float64)
            scale = np.sum(factors**2) / max(np.sum(own**2), SMALLEST)
            # In units of the scaled factors, which change no order.
            gram = factors.T.astype(np.float64) @ factors + scale * baseline.regularization * np.eye(self.dim)
            self.gram = tf.Variable(gram, trainable=False, name="gram")

    def candidate_embeddings(self, item_index: tf.Tensor | None = None) -> tf.Tensor:
        """float32 `[batch, width]` of items int32 `[batch]`, or of the whole catalogue."""
        return (
            tf.convert_to_tensor(self.vectors) if item_index is None else tf.gather(self.vectors, item_index)
        )

    def candidate_from_features(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 `[n, width]` of items by `item_index` (0: not in the catalogue) and, where texts decide,
        `text_vector`."""
        known = tf.gather(self.vectors, features["item_index"])
        if not self.by_text:
            return known
        text = tf.math.l2_normalize(tf.cast(features["text_vector"], tf.float32), 1, epsilon=SMALLEST)
        return tf.concat([text, known[:, self.dim :]], 1)

    def query_embeddings(
        self,
        batch: Mapping[str, tf.Tensor],
        items: tf.Tensor | None = None,
        model_index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """float32 `[batch, width]`, of length 1.

        Args:
            batch: `history` int32 `[batch, H]`, 0 for padding; each item counts once.
            items: float32 `[N + 1, width]`, what `candidate_embeddings()` returned, where it is known
                already.
            model_index: not used: the vectors say all that is asked of an item.
        """
        vectors = self.candidate_embeddings() if items is None else items
        history = batch["history"]
        counted = tf.cast(_distinct(history), tf.float32)
        vectors_seen = tf.gather(vectors, history)[:, :, : self.dim]
        if self.alpha is None:
            asked = tf.reduce_sum(vectors_seen * counted[:, :, None], 1)
        else:
            asked = tf.cast(self._solved(vectors_seen, counted, self.alpha), tf.float32)
        unknown = tf.reduce_sum(asked**2, 1, keepdims=True) <= SMALLEST
        asked = tf.math.l2_normalize(asked, 1, epsilon=SMALLEST)
        return tf.concat([tf.where(unknown, 0.0, asked), tf.cast(unknown, tf.float32)], 1)

    def average_item(self) -> tf.Tensor:
        """Not read: a baseline needs no average item."""
        return tf.zeros([self.dim])

    def explained(
        self,
        batch: Mapping[str, tf.Tensor],
        average: tf.Tensor,
        items: tf.Tensor,
        model_index: tf.Tensor | None = None,
    ) -> ExplainedQueries:
        """`query_embeddings`, and what their scores are sums of; arguments as of `TwoTower.explained`."""
        return ExplainedQueries(
            self.query_embeddings(batch, items),
            lambda candidates, unsourced: self.contributions(batch, candidates, items),
        )

    def contributions(
        self, batch: Mapping[str, tf.Tensor], candidates: tf.Tensor, items: tf.Tensor
    ) -> list[PartScores]:
        """What the baseline and, for users without history, popularity add to scores; each item of a history
        by what it adds to the query, of ALS as Hu et al. (2008) explain: `y_i' (Y'Y + …)^-1 a y_h`.

        Args:
            batch, items: as in `query_embeddings`.
            candidates: float32 `[batch, n, width]`.
        """
        history = batch["history"]
        first = tf.cast(_distinct(history), tf.float32)
        seen = tf.gather(items, history)[:, :, : self.dim]
        if self.alpha is None:
            added = seen * first[:, :, None]
        else:
            added = tf.cast(self._each_solved(seen, first, self.alpha), tf.float32)
        square = tf.reduce_sum(tf.reduce_sum(added, 1) ** 2, 1)[:, None]
        known = tf.cast(square > SMALLEST, tf.float32)
        added *= (known * tf.math.rsqrt(tf.maximum(square, SMALLEST)))[:, :, None]
        popularity = whole("popularity", (1.0 - known) * candidates[..., self.dim])
        if not self.dim:
            return [popularity]
        return [
            summed("content" if self.by_text else "factors", added, candidates[..., : self.dim]),
            popularity,
        ]

    @property
    def behaviour_width(self) -> int:
        """How many of a vector's first numbers tell who chooses an item, and not what is said about it."""
        return 0 if self.by_text else self.dim

    def _solved(self, seen: tf.Tensor, counted: tf.Tensor, alpha: float) -> tf.Tensor:
        """float64 `[batch, dim]`, in the precision that a solver needs."""
        seen = tf.cast(seen, tf.float64) * tf.cast(counted, tf.float64)[:, :, None]
        right = alpha * tf.reduce_sum(seen, 1)[:, :, None]
        return tf.linalg.cholesky_solve(self._factored(seen, alpha), right)[:, :, 0]

    def _each_solved(self, seen: tf.Tensor, counted: tf.Tensor, alpha: float) -> tf.Tensor:
        """What each item of a history adds to `_solved`: float64 `[batch, H, dim]`."""
        seen = tf.cast(seen, tf.float64) * tf.cast(counted, tf.float64)[:, :, None]
        right = tf.transpose(seen, [0, 2, 1])
        return alpha * tf.transpose(tf.linalg.cholesky_solve(self._factored(seen, alpha), right), [0, 2, 1])

    def _factored(self, seen: tf.Tensor, alpha: float) -> tf.Tensor:
        """The Cholesky factor of each query's system, float64 `[batch, dim, dim]`."""
        return tf.linalg.cholesky(self.gram + (alpha - 1) * tf.matmul(seen, seen, transpose_a=True))


def _sized(values: np.ndarray) -> np.ndarray:
    """Vectors scaled alike, so that the root mean square length of those that are not 0 becomes 1, as of a
    two-tower model's: a request with a user and words weighs both."""
    squares = np.sum(np.asarray(values, np.float64) ** 2, 1)
    squares = squares[squares > 0]
    return (values / (np.sqrt(squares.mean()) if len(squares) else 1.0)).astype(np.float32)


def _distinct(history: tf.Tensor) -> tf.Tensor:
    """bool `[batch, H]`: where an item of a history stands for the first time."""
    shape = tf.shape(history, tf.int64)
    rows = tf.repeat(tf.range(shape[0]), shape[1])
    flat = tf.reshape(tf.cast(history, tf.int64), [-1])
    keys = rows * (tf.reduce_max(tf.concat([flat, [0]], 0)) + 1) + flat
    unique, which = tf.unique(keys)
    positions = tf.range(tf.size(keys))
    first = tf.math.unsorted_segment_min(positions, which, tf.size(unique))
    return tf.reshape(tf.gather(first, which) == positions, tf.shape(history)) & (history > 0)
