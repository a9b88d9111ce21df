"""The ranking model: how a user would rate or act on one item, a head per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion import tasks
from tfrec_fusion.config import CLICK, Feature, LabelKind, Weighting
from tfrec_fusion.layers.candidate_attention import CandidateAttention
from tfrec_fusion.layers.micro_batching import in_parts
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.hybrid.rating_factors import RatingFactors
from tfrec_fusion.models.item_reviews import ItemReviews
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.label_gradients import freed_of_conflicts, gradient_norms, last_matrix
from tfrec_fusion.models.tower import ItemTower, QueryTower, small_normal


class Ranking(Model):
    """Scores user-item pairs from both towers' vectors crossed with each other.

    A rating starts from the mean plus a bias of the user and of the item, both learned; the crossed vectors
    add what is particular to the pair. A binary label starts from the same biases in log-odds. Labels share
    the towers and the head; `experts` give each a vector of its own of what the head says. Beside this
    network stand factors of ratings that are solved when training is done (`rating_factors`). Predicted
    ratings stay between the lowest and the highest of training, from when that is done on: 5.015 is no rating
    where five stars are the most.

    Args:
        item_tower: see `ItemTower`.
        query_tower: see `QueryTower`; it must return `[batch, dim]`.
        head: see `models.heads`; it crosses both towers' vectors, and factors of the user's and the item's
            own.
        dim: of the towers' vectors and of the factors.
        labels: label name → `rating` or `binary`.
        num_users: rows of the user bias.
        num_items: rows of the item bias.
        means: label name → where a rating's prediction starts, its mean in training.
        micro_batch: so many examples at once in training, computed again in the backward pass; None for all.
        history_length: how many items of a history are read, the newest; None for all.
        rating_factors: of the first label that is a rating; None for the network alone.
        reviews: a further field of the head, what was written about the item; None for none.
        attention: a further field of the head, the history as the candidate sees it; None for none.
        experts: `layers.experts.MMoE`, `PLE` or `CrossStitch` with the labels as tasks, between the head and
            the labels; None for the head's output as it is (shared bottom).
        weighting: how the labels' losses are weighed in training: `fixed`, by `uncertainty`
            (`tasks.MultitaskWeighting`), by `gradnorm` (`tasks.GradNorm`), or fixed with gradients freed of
            conflicts, `pcgrad` (`tasks.without_conflicts`).
        label_weights: of labels' losses, 1 of those not named; by these validation adds them up, whatever the
            weighting.
        conversions: binary labels that only a click can bring (`tasks.Conversion`); they need a label
            `click`.
    """

    def __init__(
        self,
        item_tower: ItemTower,
        query_tower: QueryTower,
        head: tf_keras.layers.Layer,
        dim: int,
        labels: Mapping[str, LabelKind],
        num_users: int,
        num_items: int,
        means: Mapping[str, float] | None = None,
        micro_batch: int | None = None,
        history_length: int | None = None,
        rating_factors: RatingFactors | None = None,
        attention: CandidateAttention | None = None,
        reviews: ItemReviews | None = None,
        experts: tf_keras.layers.Layer | None = None,
        weighting: Weighting = "fixed",
        label_weights: Mapping[str, float] | None = None,
        conversions: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.item_tower = item_tower
        self.query_tower = query_tower
        self.head = head
        self.labels = dict(labels)
        self.micro_batch = micro_batch
        self.history_length = history_length
        self.rating_factors = rating_factors
        self.attention = attention
        self.reviews = reviews
        self.rated = next((name for name, kind in self.labels.items() if kind == "rating"), None)
        if rating_factors is not None and self.rated is None:
            raise ValueError(
                f"`rating_factors` need a label that is a `rating`. Received: labels={self.labels}. Leave"
                " them out."
            )
        zeros = {"embeddings_initializer": "zeros"}
        self.user_factors = tf_keras.layers.Embedding(
            num_users, dim, embeddings_initializer=small_normal(), name="user_factors"
        )
        self.item_factors = tf_keras.layers.Embedding(
            num_items, dim, embeddings_initializer=small_normal(), name="item_factors"
        )
        self.user_bias = tf_keras.layers.Embedding(num_users, len(self.labels), **zeros, name="user_bias")
        self.item_bias = tf_keras.layers.Embedding(num_items, len(self.labels), **zeros, name="item_bias")
        self.experts = experts
        start = [(means or {}).get(name, 0.0) for name in self.labels]
        self.output_layer = tf_keras.layers.Dense(
            len(self.labels),
            bias_initializer=tf_keras.initializers.Constant(start),
            name="logits",
            dtype="float32",
        )
        self.ranges = {
            name: self.add_weight(f"range_{position}", [2], tf.float32, _unbounded, trainable=False)
            for position, (name, kind) in enumerate(self.labels.items())
            if kind == "rating"
        }
        self.conversions = tuple(conversions)
        self.tasks: dict[str, tasks.Ranking | tasks.Conversion] = {
            name: tasks.Conversion(name) if name in self.conversions else tasks.Ranking(kind, name)
            for name, kind in self.labels.items()
        }
        self.weighting = weighting
        self.fixed_weights = {name: (label_weights or {}).get(name, 1.0) for name in self.labels}
        self.balance = self._balance()
        self.balance.build(None)

    def _balance(self) -> tasks.MultitaskWeighting | tasks.GradNorm:
        if self.weighting == "gradnorm":
            return tasks.GradNorm(list(self.labels), self.fixed_weights)
        names = {"rating": "regression", "binary": "classification"}
        kinds = {name: names[kind] for name, kind in self.labels.items()}
        return tasks.MultitaskWeighting(
            kinds, None if self.weighting == "uncertainty" else self.fixed_weights
        )

    @property
    def query_features(self) -> tuple[Feature, ...]:
        return self.query_tower.features

    @property
    def item_text(self) -> ItemText | None:
        return self.item_tower.text

    def end_epoch(self) -> None:
        self.item_tower.refresh_text()

    def set_ranges(self, train: tf.data.Dataset) -> None:
        """Takes the lowest and the highest rating of training for the ends of what is predicted."""
        if not self.ranges:
            return
        ends = {name: (np.inf, -np.inf) for name in self.ranges}
        for batch in train.map(lambda batch: {name: batch[name] for name in ends}).as_numpy_iterator():
            for name, values in batch.items():
                low, high = ends[name]
                ends[name] = np.fmin.reduce(values, initial=low), np.fmax.reduce(values, initial=high)
        for name, (low, high) in ends.items():
            if low <= high:
                self.ranges[name].assign([low, high])

    def start_ratings(self, rating: float) -> None:
        """Has every rating's prediction start at a value."""
        start = [rating if kind == "rating" else 0.0 for kind in self.labels.values()]
        self.output_layer.bias.assign(start)

    def within_range(self, name: str, ratings: tf.Tensor) -> tf.Tensor:
        """Predictions of a label, floats of any shape, brought to between its ends where it is a rating."""
        if name not in self.ranges:
            return ratings
        low, high = tf.unstack(tf.cast(self.ranges[name], ratings.dtype))
        return tf.clip_by_value(ratings, low, high)

    def as_share(self, name: str, scores: tf.Tensor) -> tf.Tensor:
        """Predictions of a label between 0 and 1: of a rating, where it lies between the ends of training."""
        if name not in self.ranges:
            return scores
        low, high = tf.unstack(tf.cast(self.ranges[name], scores.dtype))
        return tf.where(high > low, tf.math.divide_no_nan(scores - low, high - low), 0.0)

    def item_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return [*self.item_tower.embeddings(), (self.item_bias, None), (self.item_factors, None)]

    def user_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return [*self.query_tower.embeddings(), (self.user_bias, None), (self.user_factors, None)]

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """Scores items of the catalogue.

        Args:
            inputs: `user_index`, `history`, the user and context features, and `item_index` int32 `[batch]`.

        Returns:
            label → float32 `[batch]`: a rating in its label's units, or a probability.
        """
        answer = self._activate(self._catalogue_logits(inputs, training))
        if self.rating_factors is None:
            return self._mixed(answer, inputs["user_index"], None)
        return self._mixed(
            answer,
            inputs["user_index"],
            tf.nn.embedding_lookup(self.rating_factors.items, inputs["item_index"]),
        )

    def item_vectors(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What `score_vectors` takes of items: the item tower's vector and, beside it, the field of what was
        written about the item, and its rating factors.

        Args:
            inputs: `item_index` int32 `[n]` (0: not in the catalogue), the items' features by name and
                `text_vector`.

        Returns:
            float `[n, any]`.
        """
        # As they are now: what an example says of its moment is of one item, and these are any.
        now = {"item_index": inputs["item_index"]}
        tower = self._with_reviews(self.item_tower(inputs, training=False), now)
        if self.rating_factors is None:
            return tower
        return tf.concat([tf.cast(tower, tf.float32), self.rating_factors.of_items(inputs)], 1)

    def catalogue_vectors(self) -> tf.Tensor:
        """`item_vectors` of the whole catalogue: float `[N + 1, any]`."""
        tower = self.item_tower.lookup()
        if self.reviews is not None:
            tower = tf.concat([tower, tf.cast(self.reviews.catalogue(), tower.dtype)], 1)
        if self.rating_factors is None:
            return tower
        return tf.concat([tf.cast(tower, tf.float32), self.rating_factors.items], 1)

    def score_features(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores items from what is said about them, in the catalogue or not.

        Args:
            inputs: as in `call`, with the item's features by name and `text_vector`; `item_index` may be left
                out (0). There may be several candidates a query: item inputs of `[batch * n]`, those of a
                query side by side.

        Returns:
            label → float32, one score an item. A query is encoded once, however many candidates it has.
        """
        inputs = self.recent(inputs)
        index = inputs.get("item_index", tf.zeros_like(inputs["user_index"]))
        item = self.item_vectors({**inputs, "item_index": index})
        (history,) = self.item_tower.lookup_distinct(inputs["history"])
        return self.score_vectors({**inputs, "item_index": index}, item, history)

    def score_vectors(
        self, inputs: Mapping[str, tf.Tensor], item: tf.Tensor, history: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """`score_features` where the items' vectors are there already, as in a served model.

        Args:
            inputs: as in `score_features`, without the item's features, and made `recent`.
            item: float `[batch * n, any]`, the candidates' vectors (`item_vectors`).
            history: float `[batch, H, any]`, those of the history's items; of them the item tower's part is
                read.
        """
        index = inputs["item_index"]
        num_queries = tf.maximum(tf.size(inputs["user_index"]), 1)
        owner = tf.range(tf.size(index)) // tf.maximum(tf.size(index) // num_queries, 1)
        return self.predictions(inputs, item, self.logits_of(inputs, item, history, owner), owner)

    def predictions(
        self,
        inputs: Mapping[str, tf.Tensor],
        item: tf.Tensor,
        logits: dict[str, tf.Tensor],
        owner: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Ratings and probabilities by label, float32 `[batch * n]`, of what `logits_of` returned; arguments
        as in it."""
        solved = item[:, self.solved_from :]
        return self._mixed(self._activate(logits), tf.gather(inputs["user_index"], owner), solved)

    def logits_of(
        self, inputs: Mapping[str, tf.Tensor], item: tf.Tensor, history: tf.Tensor, owner: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The network's outputs by label, float32 `[batch * n]`, before they become ratings and
        probabilities; arguments as in `score_vectors`, and `owner` int32 `[batch * n]`, the query of each
        item."""
        vectors = item[:, : self.solved_from], history[..., : self.item_tower.dim]
        item, history = (tf.cast(values, self.item_tower.compute_dtype) for values in vectors)
        return self._logits(inputs, item, history, inputs["item_index"], training=False, owner=owner)

    @property
    def solved_from(self) -> int:
        """Where in `item_vectors` the rating factors begin, behind the tower and what was written."""
        return self.item_tower.dim + (self.reviews.dim if self.reviews is not None else 0)

    def _with_reviews(self, item: tf.Tensor, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The tower's vectors of items, float `[n, dim]`, with the field of what was written about them."""
        if self.reviews is None:
            return item
        return tf.concat([item, tf.cast(self.reviews(inputs), item.dtype)], 1)

    def average_item(self) -> tf.Tensor:
        """The mean of the catalogue's vectors by the item tower: float32 `[dim]`."""
        return tf.reduce_mean(tf.cast(self.item_tower.lookup()[1:], tf.float32), 0)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The weighted sum of `label_losses`; out of training by the fixed weights, so that epochs can be
        compared."""
        losses = self.label_losses(inputs, training)
        if training:
            return self.balance(losses)
        return tf.add_n([self.fixed_weights[name] * loss for name, loss in losses.items()])

    def label_losses(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        """Each label's loss, float32 scalars: squared error for ratings, cross-entropy for binary labels.

        Args:
            inputs: as in `call`, and each label float32 `[batch]`, NaN where there is none. `exposure`
                float32 `[batch]`, where it is given, weighs clicks and conversions.
            training: whether dropout is on.
        """
        logits = self._catalogue_logits(inputs, training)
        losses: dict[str, tf.Tensor] = {}
        for name, task in self.tasks.items():
            seen = inputs.get("exposure") if name == CLICK or name in self.conversions else None
            if isinstance(task, tasks.Conversion):
                losses[name] = task(inputs[CLICK], inputs[name], logits[CLICK], logits[name], seen)
            else:
                losses[name] = task(inputs[name], logits[name], seen)
        return losses

    def train_step(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See `Model`; under `gradnorm` and `pcgrad` with a gradient of each label's own."""
        if self.weighting not in ("gradnorm", "pcgrad"):
            return super().train_step(inputs)
        with tf.GradientTape(persistent=True) as tape:
            losses = self.label_losses(inputs, training=True)
            total = self.balance(losses)
            regularised = total + self.regularization()
        variables = self.trainable_variables
        gradients = tape.gradient(regularised, variables)
        if isinstance(self.balance, tasks.GradNorm):
            self.balance.learn(losses, gradient_norms(tape, losses, last_matrix(self.head)))
        else:
            weighed = {name: (loss, self.fixed_weights[name]) for name, loss in losses.items()}
            of_labels = (self.user_bias, self.item_bias, self.output_layer)
            own = [variable for layer in of_labels for variable in layer.trainable_variables]
            gradients = freed_of_conflicts(tape, weighed, variables, gradients, own)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._report(total)

    def _catalogue_logits(self, inputs: Mapping[str, tf.Tensor], training: bool) -> dict[str, tf.Tensor]:
        inputs, index = self.recent(inputs), inputs["item_index"]
        item, history = self.item_tower.lookup_distinct(
            index, inputs["history"], training=training, compiled=bool(training and self.jit_compile)
        )
        item = self._with_reviews(item, inputs)
        if not training or self.micro_batch is None:
            return self._logits(inputs, item, history, index, training)

        def stacked(rows: Mapping[str, tf.Tensor], _: object) -> tf.Tensor:
            logits = self._logits(rows["inputs"], rows["item"], rows["history"], rows["index"], True)
            return tf.stack([logits[name] for name in self.labels], 1)

        rows = {"inputs": dict(inputs), "item": item, "history": history, "index": index}
        logits = in_parts(stacked, rows, (), self.micro_batch)
        return dict(zip(self.labels, tf.unstack(logits, axis=1), strict=True))

    def _logits(
        self,
        inputs: Mapping[str, tf.Tensor],
        item: tf.Tensor,
        history: tf.Tensor | None,
        item_index: tf.Tensor,
        training: bool,
        owner: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Logits of items int32 `[n]`; `owner` int32 `[n]` is the query of each, None where both run side by
        side."""
        item, written = item[:, : self.item_tower.dim], item[:, self.item_tower.dim :]
        known_item, user = self.item_tower.known_index(item_index), inputs["user_index"]
        mask = inputs["history"] > 0
        query = self.query_tower(inputs, history, mask, training=training)
        query, user_factors, user_bias = (
            values if owner is None else tf.gather(values, owner)
            for values in (query, self.user_factors(user), self.user_bias(user))
        )
        fields = [query, item, user_factors, self.item_factors(known_item)]
        if self.reviews is not None:
            fields.append(written)
        if self.attention is not None:
            seen = (history, mask) if owner is None else (tf.gather(x, owner) for x in (history, mask))
            fields.append(self.attention(item, *seen))
        crossed = self.head(tf.stack(fields, 1), training=training)
        biases = user_bias + self.item_bias(known_item)
        logits = self.label_outputs(crossed, training) + tf.cast(biases, tf.float32)
        return dict(zip(self.labels, tf.unstack(logits, axis=1), strict=True))

    def label_outputs(self, crossed: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The labels' outputs, float32 `[n, labels]`, before biases of users and items, of what the head
        says, float `[n, any]`."""
        if self.experts is None:
            return self.output_layer(crossed)
        mixed = self.experts(crossed, training=training)
        # Each label reads its own vector: the diagonal of every label reading every vector.
        return tf.linalg.diag_part(self.output_layer(tf.stack([mixed[name] for name in self.labels], 1)))

    def _mixed(
        self, answer: dict[str, tf.Tensor], users: tf.Tensor, items: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        """Answers with the rating factors' part, within range: users int32 `[n]`, items float
        `[n, width]`."""
        if self.rating_factors is not None and self.rated is not None:
            answer = {**answer, self.rated: self.rating_factors.mix(answer[self.rated], users, items)}
        return {name: self.within_range(name, values) for name, values in answer.items()}

    def _activate(self, logits: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: task.activate(logits[name]) for name, task in self.tasks.items()}


def _unbounded(shape: Sequence[int], dtype: tf.DType | None = None, **_: object) -> tf.Tensor:
    return tf.constant([-np.inf, np.inf], dtype)
