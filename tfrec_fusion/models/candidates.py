"""Candidates of a training step: what is encoded of the catalogue, and what its queries are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_fusion import losses
from tfrec_fusion.layers.replicas import gather_across_replicas
from tfrec_fusion.models.xla_ops import distinct

__all__ = ["Candidates", "EncodedItems", "Sampler"]


class EncodedItems(NamedTuple):
    """A batch's distinct items encoded once, and the row of each part of the batch among them."""

    embeddings: tf.Tensor
    history: tf.Tensor
    targets: tf.Tensor | None = None
    target_ids: tf.Tensor | None = None
    negatives: tf.Tensor | None = None
    negative_rows: tf.Tensor | None = None


class Candidates(NamedTuple):
    """What every query of a step is compared with.

    Attributes:
        embeddings: float `[n, dim]`.
        ids: int32 `[n]`, their items; an item may come several times.
        valid: bool `[n]`, false for what is no candidate; None where all are.
        log_q: float32 `[n]`, log of how often each is expected among them; None without correction.
    """

    embeddings: tf.Tensor
    ids: tf.Tensor
    valid: tf.Tensor | None = None
    log_q: tf.Tensor | None = None


class Sampler:
    """Candidates of a step: the whole catalogue where it is no larger than `negatives`, else the batch's own
    choices and `negatives` drawn uniformly.

    Args:
        counts: int64 `[N + 1]`, training interactions per item. Items with 0 are no negatives, since nothing
            speaks against them.
        negatives: uniform negatives per step.
        logq: whether sampled candidates are corrected for how often they are drawn.
        in_batch: whether the batch's own choices are among the candidates. Without them candidates have
            nothing to do with who is in a batch, and are all drawn as often as each other.
    """

    def __init__(self, counts: np.ndarray, negatives: int, logq: bool, in_batch: bool = True):
        self.negatives = negatives
        self.logq = logq
        self.in_batch = in_batch
        self.whole_catalogue = len(counts) - 1 <= negatives
        trained = np.flatnonzero(counts[1:]) + 1
        self.trained_items = tf.constant(trained if len(trained) else np.arange(1, len(counts)), tf.int32)
        self.is_candidate = tf.constant(np.isin(np.arange(len(counts)), self.trained_items))
        self.share = tf.constant(counts / max(counts.sum(), 1), tf.float32)

    def encode(
        self,
        lookup: Callable[..., tf.Tensor],
        batch: Mapping[str, tf.Tensor],
        training: bool,
        with_targets: bool = False,
        compiled: bool = False,
    ) -> EncodedItems:
        """Encodes what a batch needs, each item once.

        Args:
            lookup: `TwoTower.tower_candidates`.
            batch: `history` int32 `[batch, H]`, and `item_index` int32 `[batch]` `with_targets`.
            training: whether layers behave as in training.
            with_targets: whether what was chosen, and negatives, are encoded along.
            compiled: whether XLA compiles this.
        """
        history = batch["history"]
        seen = [tf.reshape(history, [-1])] + ([batch["item_index"]] if with_targets else [])
        if self.whole_catalogue:
            embeddings = lookup(training=training, worth_encoding=tf.concat(seen, 0))
            return EncodedItems(embeddings, history, batch.get("item_index"))
        needed, negatives = seen, None
        if with_targets:
            positions = tf.random.uniform([self.negatives], 0, tf.size(self.trained_items), tf.int32)
            negatives = tf.gather(self.trained_items, positions)
            needed = [*seen, negatives]
        items, rows = distinct(tf.concat(needed, 0), compiled=compiled)
        rows = tf.split(rows, [tf.size(part) for part in needed])
        # Negatives drawn uniformly come too rarely to be worth the encoder's time.
        worth = tf.concat(rows[: len(seen)], 0)
        embeddings = lookup(items, training, worth)
        rows[0] = tf.reshape(rows[0], tf.shape(history))
        if not with_targets:
            return EncodedItems(embeddings, rows[0])
        return EncodedItems(embeddings, rows[0], rows[1], batch["item_index"], negatives, rows[2])

    def pool(self, items: EncodedItems) -> dict[str, tf.Tensor]:
        """What all replicas' examples chose, and the negatives drawn; nothing where the catalogue is taken
        whole."""
        if self.whole_catalogue:
            return {}
        drawn = tf.gather(items.embeddings, items.negative_rows)
        if not self.in_batch:
            # The sum over them estimates the sum over all items.
            share = tf.cast(self.negatives / tf.size(self.trained_items), tf.float32)
            log_q = tf.fill([self.negatives], tf.math.log(share))
            return {"ids": items.negatives, "embeddings": drawn, "log_q": log_q}
        own = tf.gather(items.embeddings, items.targets)
        in_batch, embeddings = gather_across_replicas(items.target_ids, own)
        ids = tf.concat([in_batch, items.negatives], 0)
        pool = {"ids": ids, "embeddings": tf.concat([embeddings, drawn], 0)}
        if self.logq:
            share = tf.gather(self.share, ids)
            pool["log_q"] = losses.mixed_log_q(
                share, tf.size(in_batch), self.negatives, tf.size(self.trained_items)
            )
        return pool

    def candidates(self, items: tf.Tensor, pool: Mapping[str, tf.Tensor]) -> Candidates:
        """The candidates of every query.

        Args:
            items: float `[N + 1, dim]`, the catalogue where it is taken whole.
            pool: what `pool` returned.
        """
        if self.whole_catalogue:
            return Candidates(items, tf.range(tf.shape(self.is_candidate)[0]), self.is_candidate)
        return Candidates(pool["embeddings"], pool["ids"], log_q=pool.get("log_q"))
