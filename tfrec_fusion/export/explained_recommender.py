"""`explain` of the recommender: both models' parts, on the scale that `recommend` mixes them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from tfrec_fusion.export.base import checked
from tfrec_fusion.export.explained_retrieval import Asked, RetrievalExplainer, full
from tfrec_fusion.export.explaining import contains
from tfrec_fusion.models.contributions import PartScores, whole


class Mixture(Protocol):
    """What is read of `recommender.Mixed`: how much each model counts, and each one's lowest score."""

    @property
    def shares(self) -> tuple[tf.Tensor, tf.Tensor]: ...
    @property
    def lowest(self) -> tuple[tf.Tensor, tf.Tensor]: ...


class RecommenderExplainer(RetrievalExplainer):
    """Answers `explain` for a `RecommenderSignatures`.

    Scores are `(1 - weight) (s - lowest) / (highest - lowest)` of the retrieval's and `weight` of the same of
    the ranking's, lowest and highest among the candidates of the request. So each part counts by its model's
    share, and the part `scale` takes off what the lowest candidate has.
    """

    serving: Any

    def explain(self, **inputs: Any) -> dict[str, tf.Tensor]:
        """What the scores of items are made of, and why they are recommended or not; see
        `request.EXPLAINED`."""
        served = self.serving
        k = tf.minimum(checked("k", inputs["k"], served.max_k), served.max_k)
        queries = self.queries(inputs)
        found = served.mixed(
            queries.embeddings,
            queries.user,
            k,
            inputs["candidates"],
            inputs["rank_weight"],
            *self.filters(inputs),
            again=queries.again,
        )
        mixed, places = tf.math.top_k(found.scores, tf.minimum(k, tf.shape(found.scores)[1]))
        top = tf.where(mixed > -float("inf"), tf.gather(found.rows, places, batch_dims=1), 0)
        asked = self.asked(inputs, queries, top)
        parts, words, scores = self.both(inputs, asked, found)
        not_retrieved = ~contains(found.rows, asked.rows[:, :-1])
        behind = [("not_retrieved", not_retrieved & full(found.rows)), ("missed", not_retrieved)]
        return self.answer(inputs, asked, scores, parts, words, behind)

    def both(
        self, inputs: Mapping[str, tf.Tensor], asked: Asked, found: Mixture
    ) -> tuple[list[PartScores], tf.Tensor | None, tf.Tensor]:
        """Parts of both models, the text's words, and the candidates' scores, float32 `[batch, n + 1]`."""
        served = self.serving
        retrieved, words = self.parts(inputs, asked)
        item_ids, texts = self.asked_items(inputs)
        last = tf.gather(served.item_ids, asked.rows[:, -1:])
        item_ids = tf.concat([item_ids, last], 1)
        texts = tf.concat([texts, tf.fill(tf.shape(last), "")], 1)
        label = tf.constant([float(name == served.head) for name in served.ranking.labels])
        user = asked.queries.user
        predicted, ranked = served.predicted_parts(user, item_ids, texts, label, unsourced=1)
        further = tf.shape(user["history"])[1] - tf.shape(served.ranking.recent(user)["history"])[1]
        own = self.scores(asked)
        first, second = found.shares
        low, other_low = found.lowest
        scores = first * (own - low) + second * (predicted - other_low)
        parts = [
            *(part.scaled(first) for part in retrieved),
            *(part.padded(further).scaled(second, f"ranking_{part.name}") for part in ranked),
            whole("scale", tf.broadcast_to(-first * low - second * other_low, tf.shape(scores))),
        ]
        return parts, words, scores
