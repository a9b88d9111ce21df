"""Exact search: every candidate is scored."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.index.top_k_index import MINUS_INFINITY, TopKIndex, remove_slots, top_rows
from tfrec_fusion.index.vector_files import Vectors


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class BruteForce(TopKIndex):
    """Scores every candidate: exact, and the faster choice up to some ten thousand candidates.

    A drop-in for `tfrs.layers.factorized_top_k.BruteForce` whose `k`, exclusions and allow-list may be
    tensors; see `TopKIndex.call` for them. One query reads `num_candidates * dim` numbers; a batch holds
    `[batch, num_candidates]` scores in memory.

    Example:
        >>> index = BruteForce().index(np.eye(3, dtype="float32"), ["red", "green", "blue"])
        >>> scores, identifiers = index(tf.constant([[0.1, 0.2, 0.9]]), k=tf.constant(2))
        >>> identifiers.numpy().tolist()
        [[b'blue', b'green']]
    """

    _STATE = (*TopKIndex._STATE, "candidates")

    @property
    def num_candidates(self) -> int:
        return self.candidates.shape[0] if self._has("candidates") else 0

    @property
    def dim(self) -> int:
        return self.candidates.shape[1] if self._has("candidates") else 0

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        # Read whole, as the search reads it: TensorFlow copies a variable at each whole read once a part of
        # it was gathered.
        candidates = tf.convert_to_tensor(self.candidates)
        results = tf.cast(tf.gather(candidates, tf.maximum(rows, 0)), tf.float32)
        return tf.where(rows[..., None] < 0, 0.0, results)

    def is_exact(self) -> bool:
        """True."""
        return True

    def _store(self, candidates: Vectors) -> None:
        self._set_rows("candidates", candidates, self.storage_dtype)

    def _search(self, queries: tf.Tensor, k: tf.Tensor, exclude: Any, allowed: Any) -> tuple:
        if allowed is not None and allowed.dtype != tf.bool:
            return self._score_listed(queries, k, exclude, allowed)
        scores = tf.matmul(queries, tf.cast(self.candidates, tf.float32), transpose_b=True)
        if exclude is not None:
            scores = remove_slots(scores, exclude)
        if allowed is not None:
            scores = tf.where(allowed, scores, MINUS_INFINITY)
        return top_rows(scores, k)
