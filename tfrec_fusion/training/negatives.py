"""Uniform negatives for a model that learns a click's probability: clicks alone hold no "no"."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from tfrec_fusion.config import CLICK
from tfrec_fusion.models.catalogue import Catalogue

__all__ = ["WithNegatives"]


class WithNegatives:
    """Adds to each interaction of a batch an item drawn uniformly, labelled as not clicked.

    Args:
        catalogue: the items to draw from.
        labels: of the model; of a drawn item all but `click` are unknown.
    """

    def __init__(self, catalogue: Catalogue, labels: Iterable[str] = ()):
        self.size = len(catalogue)
        self.unknown = [label for label in labels if label != CLICK]

    def __call__(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Twice the batch: the interactions, then as many negatives with `click` 0."""
        drawn = tf.random.uniform(tf.shape(batch["item_index"]), 1, self.size, tf.int32)
        negatives = {**batch, "item_index": drawn, "click": tf.zeros_like(batch["click"])}
        negatives |= {label: tf.fill(tf.shape(batch[label]), float("nan")) for label in self.unknown}
        if "exposure" in batch:
            negatives["exposure"] = tf.ones_like(batch["exposure"])
        return {name: tf.concat([batch[name], negatives[name]], 0) for name in batch}
