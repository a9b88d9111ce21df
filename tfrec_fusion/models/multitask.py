"""Retrieval and several rankings in one model: shared towers, experts in between, a tower head per label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from tfrec_fusion import tasks
from tfrec_fusion.config import Feature, LabelKind
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.two_tower import TwoTower

if TYPE_CHECKING:
    import numpy as np

RETRIEVAL = "retrieval"


class Multitask(Model):
    """A two-tower model whose embeddings are also ranked from, through experts that the labels share.

    A pair's query and candidate embeddings and their product go through MMoE or PLE, which gives every label
    its own mix of experts, and a linear layer per label. Retrieval trains the towers as in `TwoTower`; what
    the labels teach the towers comes back to it.

    Args:
        two_tower: made with `all_positions` off, since a history's items come without labels.
        experts: `layers.experts.MMoE` or `PLE` with the labels as tasks.
        labels: label name → `rating` or `binary`.
        weights: weight of `retrieval` and of each label in the loss; None learns them
            (`tasks.MultitaskWeighting`).

    Raises:
        ValueError: if `two_tower` trains on all positions, or the experts' tasks are not the labels.
    """

    def __init__(
        self,
        two_tower: TwoTower,
        experts: tf_keras.layers.Layer,
        labels: Mapping[str, LabelKind],
        weights: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if two_tower.all_positions:
            raise ValueError(
                "`two_tower` must have `all_positions` off: items of a history carry no labels. Received: on."
                " Build it with all_positions=False."
            )
        if set(experts.tasks) != set(labels):
            raise ValueError(
                f"The experts' tasks must be the labels {sorted(labels)}. Received: {sorted(experts.tasks)}. "
                "Make the experts with tasks=list(labels)."
            )
        self.two_tower = two_tower
        self.experts = experts
        self.labels = dict(labels)
        self.tasks = {name: tasks.Ranking(kind, name) for name, kind in self.labels.items()}
        self.output_layers = {name: tf_keras.layers.Dense(1, dtype="float32") for name in self.labels}
        kinds = {
            name: "regression" if kind == "rating" else "classification" for name, kind in self.labels.items()
        }
        self.weighting = tasks.MultitaskWeighting({RETRIEVAL: "classification", **kinds}, weights)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """Ranks items of the catalogue; for retrieval, use `two_tower`'s embeddings.

        Args:
            inputs: `user_index`, `history`, the user and context features, and `item_index` int32 `[batch]`.

        Returns:
            label → float32 `[batch]`: a rating in its label's units, or a probability.
        """
        logits = self._logits(inputs, training)
        return {name: task.activate(logits[name]) for name, task in self.tasks.items()}

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The weighted sum of the retrieval loss and the labels' losses."""
        logits = self._logits(inputs, training)
        parts = {name: task(inputs[name], logits[name]) for name, task in self.tasks.items()}
        parts[RETRIEVAL] = self.two_tower.compute_loss(inputs, training=training)
        return self.weighting(parts)

    @property
    def query_features(self) -> tuple[Feature, ...]:
        return self.two_tower.query_features

    @property
    def item_text(self) -> ItemText | None:
        return self.two_tower.item_text

    def end_epoch(self) -> None:
        self.two_tower.end_epoch()

    def start_from(self, old: Model, item_rows: np.ndarray) -> None:
        self.two_tower.start_from(old.two_tower, item_rows)

    def item_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return self.two_tower.item_embeddings()

    def user_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return self.two_tower.user_embeddings()

    def _logits(self, inputs: Mapping[str, tf.Tensor], training: bool) -> dict[str, tf.Tensor]:
        query = self.two_tower.tower_queries(inputs, training=training)
        candidate = self.two_tower.tower_candidates(inputs["item_index"], training=training)
        mixed = self.experts(tf.concat([query, candidate, query * candidate], -1), training=training)
        return {name: tf.squeeze(layer(mixed[name]), -1) for name, layer in self.output_layers.items()}
