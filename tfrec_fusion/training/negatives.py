"""Uniform negatives for a model that learns a click's probability: clicks alone hold no "no"."""

from __future__ import annotations

import tensorflow as tf

from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["WithNegatives"]


class WithNegatives:
    """Adds to each interaction of a batch an item drawn uniformly, labelled as not clicked.

    Args:
        catalogue: the items to draw from.
    """

    def __init__(self, catalogue: Catalogue):
        self.size = len(catalogue)

    def __call__(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Twice the batch: the interactions, then as many negatives with `click` 0."""
        drawn = tf.random.uniform(tf.shape(batch["item_index"]), 1, self.size, tf.int32)
        negatives = {**batch, "item_index": drawn, "click": tf.zeros_like(batch["click"])}
        if "exposure" in batch:
            negatives["exposure"] = tf.ones_like(batch["exposure"])
        return {name: tf.concat([batch[name], negatives[name]], 0) for name in batch}
