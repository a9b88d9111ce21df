"""The retrieval model: a query tower and an item tower whose dot product says what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion import losses
from tfrec_fusion.config import Feature
from tfrec_fusion.layers.micro_batching import in_parts
from tfrec_fusion.layers.replicas import mean_over_replicas, weighted_mean_over_replicas
from tfrec_fusion.models import windows
from tfrec_fusion.models.base import Model
from tfrec_fusion.models.candidates import EncodedItems, Sampler
from tfrec_fusion.models.contributions import POINTS, ExplainedQueries, PartScores
from tfrec_fusion.models.dislikes import DISLIKES, Dislikes
from tfrec_fusion.models.hybrid.blend import Blend, Parts
from tfrec_fusion.models.item_text import ItemText
from tfrec_fusion.models.list_terms import ListTerms
from tfrec_fusion.models.next_items import NextItems
from tfrec_fusion.models.query_sources import QuerySources
from tfrec_fusion.models.tower import TEXT, ItemTower, QueryTower

# Below this squared length an embedding is not stretched to length 1. The gradient of the stretching is one
# over the length: of an empty history's zero vector it would overflow float16 at any loss scale.
SMALLEST_SQUARE = 1e-6
ITEMS_AT_ONCE = 16384  # encoded for validation


class TwoTower(Model):
    """Retrieval by the dot product of a query's and an item's embedding.

    A history is encoded from the same item embeddings that are recommended, each distinct item once a batch.
    The loss is an exact softmax over the catalogue where that is no larger than `negatives`, and an in-batch
    softmax with `negatives` uniform negatives beside otherwise; or BPR over the same negatives. With
    `all_positions` every item of a history is learned as the answer to what came before it (as in SASRec),
    and not the newest alone. Early stopping watches NDCG@10 over the whole catalogue, on a sample of
    validation (`next_items`).

    Args:
        item_tower: see `ItemTower`.
        query_tower: see `QueryTower`; ends in the item tower's `dim`.
        counts: int64 `[N + 1]`, training interactions per item. Items with 0 are no negatives, since nothing
            speaks against them.
        loss: `softmax`, or `bpr` (`losses.sampled_bpr`), which takes negatives as they are drawn, without
            `logq`.
        hard_negatives: keeps only this many of the highest-scored negatives per query in training; None for
            all.
        temperature: divides the scores in training.
        negatives: uniform negatives per step.
        logq: whether sampled candidates are corrected for how often they are drawn.
        normalize: whether embeddings are scaled to length 1.
        all_positions: whether training uses each position of a history.
        text_query: maps a text vector to a query; None leaves free text out.
        text_query_weight: of the loss that trains `text_query`.
        dislike_weight: of the loss of what users disliked, where training is given such (`dislikes`).
        list_terms: of the loss, for lists as a whole; None for none.
        blend: what stands beside the towers' embeddings, fitted after training (`training.solved_parts`);
            None for nothing.
        micro_batch: so many examples at once in training, computed again in the backward pass; None for all.
        history_length: how many items of a history the query tower reads, the newest; the blend reads all.
            None for all.
        in_batch: whether sampled negatives also come from what the batch's other queries chose.
    """

    monitor = ("ndcg_10", "max")

    def __init__(
        self,
        item_tower: ItemTower,
        query_tower: QueryTower,
        counts: np.ndarray,
        loss: Literal["softmax", "bpr"] = "softmax",
        hard_negatives: int | None = None,
        temperature: float = 1.0,
        negatives: int = 4096,
        logq: bool = True,
        normalize: bool = False,
        all_positions: bool = True,
        text_query: tf_keras.layers.Layer | None = None,
        text_query_weight: float = 0.1,
        dislike_weight: float = 0.0,
        list_terms: ListTerms | None = None,
        blend: Blend | None = None,
        micro_batch: int | None = None,
        history_length: int | None = None,
        in_batch: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.item_tower = item_tower
        self.query_tower = query_tower
        self.retrieval_loss = loss
        self.hard_negatives = hard_negatives
        self.temperature = temperature
        self.normalize = normalize
        self.all_positions = all_positions
        self.text_query_layer = text_query
        self.text_query_weight = text_query_weight
        self.dislike_weight = dislike_weight
        self.list_terms = list_terms
        self.dislikes: Dislikes | None = None
        self.blend = blend
        self.micro_batch = micro_batch
        self.history_length = history_length
        self.counts = np.asarray(counts)
        self.sampler = Sampler(self.counts, negatives, logq, in_batch)

    def validation_sample(self, validation: tf.data.Dataset) -> NextItems:
        """Choices of validation that every epoch is judged by (`next_items`)."""
        return NextItems.sample(validation, len(self.counts), repeats=self.repeats is not None)

    def validation_figures(self, sample: NextItems) -> dict[str, float]:
        """`ndcg_10` of the towers; nothing where validation only repeats what histories hold.

        Items with training interactions compete with what was chosen: of the others the towers know nothing
        yet, and the blend decides.
        """
        if not len(sample):
            return {}
        chunks = [
            self.tower_candidates(tf.range(start, min(start + ITEMS_AT_ONCE, len(self.counts)))).numpy()
            for start in range(0, len(self.counts), ITEMS_AT_ONCE)
        ]
        vectors = tf.constant(np.concatenate(chunks))
        queries = lambda batch: self.tower_queries(batch, items=vectors)  # noqa: E731
        gains = sample.gains(queries, vectors.numpy(), self.sampler.is_candidate.numpy())
        return {"ndcg_10": float(gains.mean())}

    def epochs(self, train: tf.data.Dataset, batch_size: int, seed: int) -> Callable[[int], tf.data.Dataset]:
        """With `all_positions`, each epoch takes examples that cover every interaction about once
        (`windows`)."""
        chosen = windows.epochs(train, batch_size, seed) if self.all_positions else lambda epoch: train
        return chosen if self.dislikes is None else self.dislikes.beside(chosen)

    @property
    def query_features(self) -> tuple[Feature, ...]:
        return self.query_tower.features

    @property
    def item_text(self) -> ItemText | None:
        return self.item_tower.text

    def end_epoch(self) -> None:
        self.item_tower.refresh_text()

    def start_from(self, old: Model, item_rows: np.ndarray) -> None:
        if self.blend is not None:
            self.blend.start_from(old.blend, item_rows, self.item_tower.values())

    def item_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return self.item_tower.embeddings()

    def user_embeddings(self) -> list[tuple[tf_keras.layers.Embedding, tf.Variable | None]]:
        return self.query_tower.embeddings()

    def query_embeddings(
        self,
        batch: Mapping[str, tf.Tensor],
        items: tf.Tensor | None = None,
        model_index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Encodes queries.

        Args:
            batch: `user_index` int32 `[batch]`, `history` int32 `[batch, H]` left padded with 0, and the user
                and context features.
            items: float32 `[N + 1, width]`, what `candidate_embeddings()` returned, where it is known
                already: a served model need not encode items that do not change.
            model_index: int32 `[rows]`, where `items` are a changed catalogue's (`new_items`) and the history
                its rows: which item of the model each of them is, 0 for a new one.

        Returns:
            float32 `[batch, width]`, the tower's `dim` numbers and the blend's after them.
        """
        if self.blend is None:
            return self.tower_queries(batch, items=items)
        return self.blend.queries(self.query_parts(batch, items, model_index), batch["history"] > 0)

    def query_parts(
        self,
        batch: Mapping[str, tf.Tensor],
        items: tf.Tensor | None = None,
        model_index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Queries before the blend weighs them (`Blend.query_parts`); arguments as in `query_embeddings`.

        Raises:
            ValueError: if the model has no blend.
        """
        if self.blend is None:
            raise ValueError(
                "Parts of queries need a model with a blend. Received: one without. Ask `tower_queries`, or"
                " build it with `collaborative_dim` above 0."
            )
        seen, rows = self._history_rows(self.blend, batch["history"], items, model_index)
        recent = self.recent(batch)
        history = tf.gather(seen.tower, rows[:, -tf.shape(recent["history"])[1] :])
        queries = self.query_tower(recent, history, recent["history"] > 0, training=False, last_only=True)
        return self.blend.query_parts(self._finish(queries), seen, rows, batch["history"] > 0)

    def _history_rows(
        self, blend: Blend, history: tf.Tensor, items: tf.Tensor | None, model_index: tf.Tensor | None
    ) -> tuple[Parts, tf.Tensor]:
        """The parts of a batch's distinct items, and the row of each item of a history among them."""
        # Each item of a history is looked at once: long histories are wide, and have much in common.
        rows_needed, rows = tf.unique(tf.reshape(history, [-1]))
        vectors = self.candidate_embeddings(rows_needed) if items is None else tf.gather(items, rows_needed)
        index = rows_needed if model_index is None else tf.gather(model_index, rows_needed)
        return blend.parts(vectors, index), tf.reshape(rows, tf.shape(history))

    def average_item(self) -> tf.Tensor:
        """The mean of the catalogue's embeddings by the towers alone: float32 `[dim]`."""
        return tf.reduce_mean(self.tower_candidates()[1:], 0)

    def explained(
        self,
        batch: Mapping[str, tf.Tensor],
        average: tf.Tensor,
        items: tf.Tensor,
        model_index: tf.Tensor | None = None,
        points: int = POINTS,
    ) -> ExplainedQueries:
        """`query_embeddings`, and what each part of the model adds to their scores, by which source.

        Args:
            batch, items, model_index: as in `query_embeddings`.
            average: what `average_item` returned.
            points: of the towers' quadrature.
        """
        blend, recent, mask = self.blend, self.recent(batch), batch["history"] > 0
        length = tf.shape(recent["history"])[1]
        if blend is None:
            seen, rows = items, batch["history"]
        else:
            parts, rows = self._history_rows(blend, batch["history"], items, model_index)
            seen = parts.tower
        history = tf.gather(seen, rows[:, -length:])
        sources = QuerySources(self.query_tower, recent, history, recent["history"] > 0, average, points)
        ends = sources.ends(self._finish)

        def tower(candidates: tf.Tensor, unsourced: int) -> PartScores:
            found = sources.part(
                "tower", candidates[..., : self.item_tower.dim], self._finish, ends, unsourced
            )
            # Further back than the towers read, they know nothing.
            return found.padded(tf.shape(batch["history"])[1] - length)

        if blend is None:
            return ExplainedQueries(ends[:, 0], lambda candidates, unsourced: [tower(candidates, unsourced)])
        whole = blend.query_parts(ends[:, 0], parts, rows, mask)
        return ExplainedQueries(
            blend.queries(whole, mask),
            lambda candidates, unsourced: blend.contributions(
                whole, parts, rows, mask, candidates, tower(candidates, unsourced)
            ),
        )

    @property
    def behaviour_width(self) -> int:
        """How many of a vector's first numbers tell who chooses an item, and not what is said about it."""
        return self.item_tower.dim if self.blend is None else self.blend.behaviour_width

    def candidate_embeddings(self, item_index: tf.Tensor | None = None) -> tf.Tensor:
        """Encodes items of the catalogue.

        Args:
            item_index: int32 `[batch]`; None takes every row of the catalogue.

        Returns:
            float32 `[batch, width]` or `[N + 1, width]`.
        """
        tower = self.tower_candidates(item_index)
        return tower if self.blend is None else self.blend.items(self.item_tower.values(item_index), tower)

    def tower_queries(
        self, batch: Mapping[str, tf.Tensor], training: bool = False, items: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The query tower's embeddings alone, as they are trained: float32 `[batch, dim]`.

        Args:
            batch: as in `query_embeddings`.
            training: whether dropout is on.
            items: float32 `[N + 1, dim]`, what `tower_candidates()` returned, where it is known already.
        """
        batch = self.recent(batch)
        encoded = (
            self._encode_items(batch, training) if items is None else EncodedItems(items, batch["history"])
        )
        return self._queries(batch, encoded.embeddings, encoded.history, training, last_only=True)

    def tower_candidates(
        self,
        item_index: tf.Tensor | None = None,
        training: bool = False,
        worth_encoding: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The item tower's embeddings alone, as they are trained: float32 `[batch, dim]` or `[N + 1, dim]`.

        Args:
            item_index, training, worth_encoding: see `ItemTower.lookup`.
        """
        return self._finish(self.item_tower.lookup(item_index, training, worth_encoding))

    def candidate_from_features(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes items from what is said about them, in the catalogue or not.

        Args:
            features: each item feature by its name, `text_vector` float `[batch, text_dim]`, and optionally
                `item_index` int32 `[batch]` (0, the default: never seen).

        Returns:
            float32 `[batch, width]`.
        """
        features = dict(features)
        if "item_index" not in features:
            first = next(iter(features.values()))
            features["item_index"] = tf.zeros([tf.shape(first)[0]], tf.int32)
        tower = self._finish(self.item_tower(features, training=False))
        return tower if self.blend is None else self.blend.items(features, tower)

    def text_query(self, text_vectors: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Encodes what a user asked for in free text.

        Args:
            text_vectors: float `[batch, text_dim]`, from the encoder that the items' text went through.

        Returns:
            float32 `[batch, width]`.

        Raises:
            ValueError: if the model was built without text.
        """
        queries = self._tower_text_query(text_vectors, training)
        return queries if self.blend is None else self.blend.text_queries(queries)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Scores of the batch's own items, float32 `[batch]`."""
        if training:
            query = self.tower_queries(inputs, True)
            candidate = self.tower_candidates(inputs["item_index"], True)
        else:
            query, candidate = self.query_embeddings(inputs), self.candidate_embeddings(inputs["item_index"])
        return tf.reduce_sum(query * candidate, -1)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The retrieval loss, plus the free text query's when training.

        Args:
            inputs: what `query_embeddings` takes, and `item_index` int32 `[batch]`, what was chosen; in
                training perhaps the same of what was disliked (`dislikes`), and `weight` float32 `[batch]`,
                how much each choice counts, with `history_weight` float32 `[batch, H]`, how much those of
                the history. The loss is then the mean over targets weighted by `losses.confidence` of it.

        Returns:
            float32 scalar.
        """
        disliked = inputs.get(DISLIKES) if training else None
        inputs = self.recent({name: value for name, value in inputs.items() if name != DISLIKES})
        items = self._encode_items(inputs, training, with_targets=True)
        rows = {"inputs": dict(inputs), "history": items.history, "targets": items.targets}
        # What all queries are compared with is the whole batch's, however many of them are at hand.
        shared = {"items": items.embeddings, "pool": self.sampler.pool(items)}
        if training:
            per_target = self._of_rows(self._training_losses, rows, shared)
        else:
            queries = self._queries(inputs, items.embeddings, items.history, training, last_only=True)
            per_target = self._target_losses(queries, inputs["item_index"], items.targets, shared, False)
        weighed = training and "weight" in inputs
        counts = windows.target_confidence(inputs, self.all_positions) if weighed else None
        loss = (
            mean_over_replicas(per_target)
            if counts is None
            else weighted_mean_over_replicas(per_target, counts)
        )
        if training and self.text_query_layer is not None:
            loss += self.text_query_weight * self._text_query_loss(inputs["item_index"], items)
        for further in self.further_losses() if training else ():
            loss += mean_over_replicas(self._of_rows(further, rows, shared))
        if disliked is not None:
            loss += self.dislike_weight * mean_over_replicas(self._dislike_losses(disliked, items))
        return loss

    def further_losses(self) -> list[Callable[[Any, Any], tf.Tensor]]:
        """What is minimised beside the retrieval loss: functions with arguments as of `_training_losses`."""
        return [] if self.list_terms is None else [self._list_losses]

    def _of_rows(self, function: Callable[[Any, Any], tf.Tensor], rows: Any, shared: Any) -> tf.Tensor:
        """`function(rows, shared)`, of `micro_batch` rows at a time where that is set."""
        if self.micro_batch is None:
            return function(rows, shared)
        return in_parts(function, rows, shared, self.micro_batch)

    def _dislike_losses(self, batch: Mapping[str, tf.Tensor], items: EncodedItems) -> tf.Tensor:
        """`losses.not_to_recommend` of a batch of dislikes, float32 `[any]`; `items` are those of the
        choices."""
        batch = self.recent(batch)
        if self.sampler.whole_catalogue:
            items = EncodedItems(items.embeddings, batch["history"], batch["item_index"])
        else:
            items = self._encode_items(batch, True, with_targets=True)
        pool = self.sampler.candidates(items.embeddings, self.sampler.pool(items))
        return losses.not_to_recommend(
            self._queries(batch, items.embeddings, items.history, True, last_only=True),
            tf.gather(items.embeddings, items.targets),
            pool.embeddings,
            disliked_ids=batch["item_index"],
            pool_ids=pool.ids,
            pool_log_q=pool.log_q,
            valid=pool.valid,
            temperature=self.temperature,
        )

    def _list_losses(self, rows: Any, shared: Any) -> tf.Tensor:
        """`ListTerms.losses` of the query after each history, float32 `[any]`; arguments as in
        `_training_losses`."""
        assert self.list_terms is not None  # nobody asks otherwise
        queries = self._queries(rows["inputs"], shared["items"], rows["history"], True, last_only=True)
        candidates = self.sampler.candidates(shared["items"], shared["pool"])
        return self.list_terms.losses(queries, candidates, self.temperature)

    def _training_losses(self, rows: Any, shared: Any) -> tf.Tensor:
        """A loss for each target of some of a batch's rows, float32 `[any]`; see `compute_loss` for the
        arguments."""
        inputs = rows["inputs"]
        last_only = not self.all_positions
        queries = self._queries(inputs, shared["items"], rows["history"], True, last_only)
        targets, target_rows = inputs["item_index"], rows["targets"]
        if last_only:
            return self._target_losses(queries, targets, target_rows, shared, True)
        targets = tf.concat([inputs["history"][:, 1:], targets[:, None]], 1)
        target_rows = tf.concat([rows["history"][:, 1:], target_rows[:, None]], 1)
        # The position before the first item of a history that is padded, hence complete, learns what users
        # start with.
        used = targets > 0
        queries, targets, target_rows = (tf.boolean_mask(x, used) for x in (queries, targets, target_rows))
        return self._target_losses(queries, targets, target_rows, shared, True)

    def _target_losses(
        self, queries: tf.Tensor, targets: tf.Tensor, target_rows: Any, shared: Any, training: bool
    ) -> tf.Tensor:
        options: dict[str, Any] = {"temperature": self.temperature}
        if training:
            options["hard_negatives"] = self.hard_negatives
        pool = self.sampler.candidates(shared["items"], shared["pool"])
        # In evaluation the answer may be an item that training never saw.
        valid = pool.valid if training or pool.valid is None else pool.ids > 0
        if self.sampler.whole_catalogue and self.retrieval_loss == "softmax":
            return losses.full_softmax(queries, pool.embeddings, targets, valid=valid, **options)
        positive = tf.gather(shared["items"], target_rows)
        options |= {"positive_ids": targets, "pool_ids": pool.ids}
        if self.retrieval_loss == "bpr":
            return losses.sampled_bpr(queries, positive, pool.embeddings, valid=valid, **options)
        return losses.sampled_softmax(queries, positive, pool.embeddings, pool_log_q=pool.log_q, **options)

    def _encode_items(
        self, batch: Mapping[str, tf.Tensor], training: bool, with_targets: bool = False
    ) -> EncodedItems:
        compiled = training and bool(self.jit_compile)
        return self.sampler.encode(self.tower_candidates, batch, training, with_targets, compiled)

    def _queries(
        self,
        batch: Mapping[str, tf.Tensor],
        embeddings: tf.Tensor,
        history_rows: tf.Tensor,
        training: bool,
        last_only: bool,
    ) -> tf.Tensor:
        """float32 `[batch, H, dim]`, or `[batch, dim]` with `last_only`."""
        history, mask = tf.gather(embeddings, history_rows), batch["history"] > 0
        return self._finish(self.query_tower(batch, history, mask, training=training, last_only=last_only))

    def _tower_text_query(self, text_vectors: tf.Tensor, training: bool) -> tf.Tensor:
        if self.text_query_layer is None:
            raise ValueError(
                "A free text query needs a model with a text tower. Received: a model built with `text:"
                " none`. Train with text vectors."
            )
        return self._finish(self.text_query_layer(tf.cast(text_vectors, tf.float32), training=training))

    def _text_query_loss(self, item_index: tf.Tensor, items: EncodedItems) -> tf.Tensor:
        """An item's text, asked as a query, must find that item."""
        text = tf.nn.embedding_lookup(self.item_tower.tables[TEXT], item_index)
        queries = self._tower_text_query(text, True)
        if self.sampler.whole_catalogue:
            options = {"valid": self.sampler.is_candidate, "temperature": self.temperature}
            return mean_over_replicas(losses.full_softmax(queries, items.embeddings, item_index, **options))
        candidates = tf.gather(items.embeddings, items.targets)
        options = {"candidate_ids": item_index, "temperature": self.temperature}
        return mean_over_replicas(losses.in_batch_softmax(queries, candidates, **options))

    def _finish(self, embeddings: tf.Tensor) -> tf.Tensor:
        embeddings = tf.cast(embeddings, tf.float32)
        return tf.math.l2_normalize(embeddings, -1, epsilon=SMALLEST_SQUARE) if self.normalize else embeddings
