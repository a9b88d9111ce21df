"""Dislikes beside choices in the batches that a retrieval model is trained on."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["DISLIKES", "Dislikes"]

DISLIKES = "/dislikes"
"""Key of a batch of choices under which a batch of dislikes stands, with the same columns. No feature is
called so."""


class Dislikes:
    """What users disliked in training.

    Args:
        rows: batches with what the model reads of a query and `item_index`, without end or not.
    """

    def __init__(self, rows: tf.data.Dataset):
        # In a function: a model would look for weights to save in a data set.
        self._rows = lambda: rows

    def beside(self, epochs: Callable[[int], tf.data.Dataset]) -> Callable[[int], tf.data.Dataset]:
        """The same epochs, with a batch of dislikes in each batch; of training without any, as they are.

        Args:
            epochs: epoch from 0 → its batches of choices.
        """
        if next(iter(self._rows().take(1)), None) is None:
            return epochs
        return lambda epoch: tf.data.Dataset.zip(epochs(epoch), self._rows().repeat()).map(
            lambda chosen, disliked: {**chosen, DISLIKES: disliked}
        )
