"""Signatures of the ranking model: candidates in, a score for each label out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.config import CLICK, RATING
from tfrec_fusion.export import quotas
from tfrec_fusion.export.base import (
    Signatures,
    as_unicode,
    candidates,
    concrete,
    graph,
    says_something,
    table,
)
from tfrec_fusion.export.explaining import Explainer
from tfrec_fusion.export.request import EVALUATE, FURTHER_LABELS_ONLY, RANKING_ONLY, RETRIEVAL_ONLY
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.contributions import PartScores
from tfrec_fusion.models.new_items import ranking_vectors
from tfrec_fusion.models.ranking_contributions import RankingExplanation

if TYPE_CHECKING:
    from tfrec_fusion.models.ranking import Ranking

__all__ = ["RankingSignatures"]


class CandidateScores(Signatures):
    """What a `Signatures` gains that holds a ranking model: the signature `rank`."""

    ranking: Any

    @property
    def weighs(self) -> bool:
        """Whether `rank` weighs labels: whether there are any beside `click` and `rating`."""
        return bool(set(self.ranking.labels) - {CLICK, RATING})

    def score_with(self, ranking: Ranking, catalogue: Catalogue) -> None:
        """Keeps the ranking model's vectors of the catalogue, and of the model what signatures need."""
        self._keep(ranking=ranking)
        self.ranked_vectors = table(ranking_vectors(ranking, catalogue), "ranked_vectors")
        self.average_ranked = table(ranking.average_item(), "average_ranked")

    def rank(
        self,
        user_id: tf.Tensor,
        history: tf.Tensor,
        item_ids: tf.Tensor,
        texts: tf.Tensor,
        **others: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Scores candidates for each request; see `request.SIGNATURES` and `request.INPUTS` for the inputs.

        The candidates `[batch, n]` come by `item_ids`, by `texts`, or both.

        Returns:
            float32 `[batch, n]` a label, ratings between the lowest and the highest of training; with further
            labels `score` of the same shape, see `weighted`; `titles`
            string `[batch, n]`, the text itself for an item without one; `known_user` bool `[batch]`;
            `unknown_items` string `[batch, any]`: ids of the history, and of candidates that came without a
                text, which are in no catalogue.
        """
        # Only models with further labels take weights; a parameter with a default would be an input of all.
        context = {name: value for name, value in others.items() if name not in FURTHER_LABELS_ONLY}
        item_ids, texts = candidates(item_ids, texts)
        flat_ids, flat_texts = tf.reshape(item_ids, [-1]), tf.reshape(texts, [-1])
        vectors = self.candidate_vectors(flat_ids, flat_texts)
        user = self.user_inputs(user_id, history, context)
        scores = self.scores(user, self.item_rows(flat_ids), vectors)
        answer = {name: tf.reshape(value, tf.shape(item_ids)) for name, value in scores.items()}
        if self.weighs:
            answer["score"] = self.weighted(answer, others["label_weights"])
        rows = self.item_rows(item_ids)
        titles = tf.gather(self.titles, rows)
        unknown = tf.where(says_something(texts), "", self.unknown_items(item_ids, rows))
        return {
            **answer,
            "titles": tf.where(titles == "", as_unicode(texts), titles),
            "known_user": self.user_rows(user_id) > 0,
            "unknown_items": tf.concat([self.unknown_items(history, self.item_rows(history)), unknown], 1),
        }

    def scores(self, user: dict[str, tf.Tensor], rows: tf.Tensor, vectors: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ranking's scores, float32 `[batch * n]` a label.

        Args:
            user: see `Signatures.user_inputs`; `batch` of them.
            rows: int32 `[batch * n]`, candidates of one user after the other.
            vectors: float32 `[batch * n, any]`, theirs.
        """
        user = self.ranking.recent(user)
        history = tf.gather(self.ranked_vectors, user["history"])
        index = self.model_index(rows)
        return self.ranking.score_vectors({**user, "item_index": index}, vectors, history)

    def candidate_vectors(self, item_ids: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
        """float32 `[n, any]`, the ranking's vectors of items; looked up, but for those that come with a
        text."""
        vectors = tf.gather(self.ranked_vectors, self.item_rows(item_ids))
        if self.text_tower is None:
            return vectors
        given = tf.where(says_something(texts))

        def replaced() -> tf.Tensor:
            features = self.items(tf.gather_nd(item_ids, given), tf.gather_nd(texts, given))
            new = tf.cast(self.ranking.item_vectors(features), vectors.dtype)
            return tf.tensor_scatter_nd_update(vectors, given, new)

        return tf.cond(tf.size(given) > 0, replaced, lambda: vectors)

    def predicted_parts(
        self,
        user: dict[str, tf.Tensor],
        item_ids: tf.Tensor,
        texts: tf.Tensor,
        label: tf.Tensor,
        unsourced: int = 0,
    ) -> tuple[tf.Tensor, list[PartScores]]:
        """What a label's predictions are made of (`RankingExplanation.explain`).

        Args:
            user: see `Signatures.user_inputs`; `batch` of them.
            item_ids, texts: string `[batch, n]`.
            label: float32 `[labels]`, 1 for the label and 0 for the others.
            unsourced: see `integrated_gradients`.
        """
        ids, texts = tf.reshape(item_ids, [-1]), tf.reshape(texts, [-1])
        user = self.ranking.recent(user)
        history = tf.gather(self.ranked_vectors, user["history"])
        inputs = {**self.items(ids, texts), **user}
        vectors = self.candidate_vectors(ids, texts)
        explanation = RankingExplanation(self.ranking, inputs, vectors, history, unsourced=unsourced)
        return explanation.explain(label, self.average_ranked)

    def weighted(self, scores: Mapping[str, tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
        """The weighted mean of labels' scores: probabilities as they are, ratings from 0, the lowest of
        training, to 1, the highest.

        Args:
            scores: float32 `[batch, n]` a label.
            weights: string `[batch, any]`, `LABEL=N` each, `""` for none; a row of none weighs the main label
                alone. A request with anything else, or whose weights sum to nothing, fails with
                INVALID_ARGUMENT.

        Returns:
            float32 `[batch, n]`, in [0, 1].
        """
        names = tf.constant(list(scores))
        given = weights != ""
        named = tf.strings.regex_replace(weights, quotas.WEIGHT, r"\1")[..., tf.newaxis] == names
        right = tf.strings.regex_full_match(weights, quotas.WEIGHT) & tf.reduce_any(named, -1)
        # Both branches of `where` are computed: what is no number must not reach the parser.
        numbers = tf.where(right, tf.strings.regex_replace(weights, quotas.WEIGHT, r"\2"), "0")
        shares = tf.where(named, tf.strings.to_number(numbers)[..., tf.newaxis], 0.0)
        total = tf.reduce_sum(shares, 1)
        sums = tf.reduce_sum(total, 1, keepdims=True)
        any_given = tf.reduce_any(given, 1, keepdims=True)
        wrong = given & ~right
        known = ", ".join(scores)
        rules = [
            (~tf.reduce_any(wrong), f"{quotas.WEIGHT_RULE} and LABEL one of {known}", weights[wrong][:1]),
            (
                tf.reduce_all((sums > 0) | ~any_given),
                "`label_weights` must be more than 0 in sum",
                tf.strings.reduce_join(weights, 1, separator=" ")[(sums <= 0)[:, 0] & any_given[:, 0]][:1],
            ),
        ]
        asserts = [
            tf.raw_ops.Assert(condition=holds, data=[f"{rule}. Received:", seen])
            for holds, rule, seen in rules
        ]
        main = tf.constant([name == (RATING if RATING in scores else CLICK) for name in scores], tf.float32)
        with tf.control_dependencies(asserts):
            shares = tf.where(any_given, tf.math.divide_no_nan(total, sums), main)
        columns = tf.stack([self.ranking.as_share(name, values) for name, values in scores.items()], 2)
        return tf.reduce_sum(columns * shares[:, tf.newaxis], 2)

    def rank_spec(self) -> dict[str, tf.TensorSpec]:
        """What `rank` takes (`request.SIGNATURES`)."""
        return self.input_spec("rank", without=() if self.weighs else FURTHER_LABELS_ONLY)


class RankingSignatures(CandidateScores):
    """The ranking model's signatures: `rank`, `describe`, and `evaluate` under TFMA's key `serving_default`.

    Args:
        biases: what ratings are predicted to be from the mean, item and user alone (`mean`, `items`,
            `users`), to be judged beside the model; None without ratings.
        click_rate: float `[N + 1]`, how often each item was chosen, to be judged beside the model; None for
            nothing.
    """

    def __init__(
        self,
        model: Ranking,
        *args: Any,
        biases: Mapping[str, np.ndarray] | None = None,
        click_rate: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        self.score_with(model, args[0])
        self.biases = {name: table(values, f"bias_{name}") for name, values in (biases or {}).items()}
        self.click_rate = None if click_rate is None else table(click_rate.astype(np.float32), "click_rate")

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predictions for the interaction of each Example: float32 `[batch]` per label; ratings within the
        scale of training, and the baselines'."""
        raw, batch = self.parse(examples)
        rows = self.item_rows(raw["item_id"])
        batch["item_index"] = self.model_index(rows)
        batch["history"] = self.model_index(batch["history"])
        answer = dict(self.model(batch))
        if self.biases:
            users = tf.gather(self.biases["users"], batch["user_index"])
            items = tf.gather(self.biases["items"], batch["item_index"])
            # As the model's own: whoever keeps to the scale must not win by that alone.
            answer["baseline_rating"] = self.model.within_range("rating", self.biases["mean"] + users + items)
        if self.click_rate is not None:
            answer["baseline_click"] = tf.gather(self.click_rate, rows)
        return answer

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Concrete functions by signature name."""
        examples = tf.TensorSpec([None], tf.string, "examples")
        return {
            EVALUATE: graph(self.evaluate).get_concrete_function(examples),
            "rank": concrete(graph(self.rank), **self.rank_spec()),
            "describe": concrete(graph(self.describe), **self.input_spec("describe")),
            "explain": concrete(graph(self.explain), **self.explain_spec()),
        }

    def explain(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the predictions of a label are made of; see `request.EXPLAINED`."""
        return RankingExplainer(self).explain(**inputs)

    def explain_spec(self) -> dict[str, tf.TensorSpec]:
        """What `explain` takes (`request.SIGNATURES`)."""
        return self.input_spec("explain", without=(*RETRIEVAL_ONLY, *RANKING_ONLY))


class RankingExplainer(Explainer):
    """Answers `explain` for a `RankingSignatures`."""

    serving: RankingSignatures

    def explain(self, **inputs: Any) -> dict[str, tf.Tensor]:
        """What the predictions of a label are made of; see `request.EXPLAINED`."""
        served = self.serving
        item_ids, texts = self.asked_items(inputs)
        user, label = self.user(inputs), self.label(inputs["label"])
        scores, parts = served.predicted_parts(user, item_ids, texts, label)
        rows = served.item_rows(item_ids)
        return {
            **self.named(rows, item_ids, texts),
            "scores": scores,
            **self.taken_apart(parts, served.ranking.recent(user)["history"], inputs["count"]),
            "states": tf.where((rows > 0) | says_something(texts), "ranked", "unknown"),
            "known_user": served.user_rows(inputs["user_id"]) > 0,
            "unknown_items": self.unknown(inputs),
        }

    def label(self, name: tf.Tensor) -> tf.Tensor:
        """float32 `[labels]`, 1 for the label of that name; for `""`, the first."""
        names = list(self.serving.ranking.labels)
        matches = tf.constant(names) == tf.where(name == "", names[0], name)
        rule = f"`label` must be {' or '.join(names)}. Received:"
        with tf.control_dependencies(
            [tf.raw_ops.Assert(condition=tf.reduce_any(matches), data=[rule, name])]
        ):
            return tf.cast(matches, tf.float32)
