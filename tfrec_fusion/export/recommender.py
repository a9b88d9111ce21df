"""One model that answers a request from beginning to end: retrieve, rank, re-rank with diversity, titles
out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.base import called, checked, concrete, graph
from tfrec_fusion.export.explained_recommender import RecommenderExplainer
from tfrec_fusion.export.explained_retrieval import RetrievalExplainer
from tfrec_fusion.export.list_rules import Wishes
from tfrec_fusion.export.ranking import CandidateScores
from tfrec_fusion.export.repeated import asked_again
from tfrec_fusion.export.request import CANDIDATES, EVALUATE, LABEL_ONLY
from tfrec_fusion.export.retrieval import RetrievalSignatures
from tfrec_fusion.index.top_k_index import remove_slots
from tfrec_fusion.metrics.ranks import gain, stands_before, tie_order
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.repeats import Repeated
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["RecommenderSignatures", "choose_weight", "validate_weights"]


class RecommenderSignatures(CandidateScores, RetrievalSignatures):
    """Both models over one catalogue, one set of users and one text encoder.

    `recommend` takes the retrieval model's best items, scores them with the ranking model, orders them by a
    mixture of both, and re-ranks that for diversity, in one request. `rank` and the `embed_…` signatures
    answer as they do in the two models alone.

    Args:
        model: a `TwoTower`.
        *args: as in `Signatures`.
        ranking: a `Ranking`.
        head: which of its labels orders items.
        rank_weight: of the ranking's score where a request names no weight, from 0 to 1.
        **kwargs: as in `RetrievalSignatures`.
    """

    def __init__(
        self, model: TwoTower, *args: Any, ranking: Ranking, head: str, rank_weight: float, **kwargs: Any
    ) -> None:
        super().__init__(model, *args, **kwargs)
        if head not in ranking.labels:
            raise ValueError(
                f"`head` must be one of the ranking's labels ({', '.join(ranking.labels)}). Received:"
                f" head={head!r}."
            )
        self.score_with(ranking, args[0])
        self.head = head
        self.rank_weight = tf.Variable(rank_weight, trainable=False, dtype=tf.float32, name="rank_weight")

    def recommend(  # type: ignore[override]  # the request has inputs that the retrieval alone has not
        self,
        user_id: tf.Tensor,
        history: tf.Tensor,
        text: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        include_seen: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        probes: tf.Tensor,
        candidates: tf.Tensor,
        rank_weight: tf.Tensor,
        **others: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The best items for each request; see `request.INPUTS` for what comes in and `request.OUTPUTS` for
        the answer.

        `scores` lie in [0, 1]. Beside them stand `retrieval_score`, and the ranking's prediction for each of
        its labels.
        """
        wishes, context = Wishes.split(others)
        k, wished = checked("k", k, self.max_k), wishes.any()
        excluded = self.excluded(user_id, history, exclude, include_seen)
        count = tf.minimum(k, self.max_k)
        user = self.user_inputs(user_id, history, context)
        again = asked_again(self, lambda: user["history"], include_seen)
        mixed = self.mixed(
            self.query(user_id, history, text, context),
            user,
            count,
            candidates,
            rank_weight,
            excluded,
            allow,
            categories,
            probes,
            wishes,
            again,
        )
        scores, rows = mixed.scores, mixed.rows
        count = tf.minimum(count, tf.shape(rows)[1])
        # Without a wish, choosing a list would sort, one pick after the other; `top_k` does it at once.
        positions = tf.cond(
            wished,
            called(
                lambda: self.lists.positions(wishes, scores, rows, self.list_vectors, user["history"], count)
            ),
            lambda: tf.math.top_k(scores, count).indices,
        )
        picked = tf.maximum(positions, 0)
        rows = tf.where(positions >= 0, tf.gather(rows, picked, batch_dims=1), 0)
        columns = {
            name: tf.gather(values, picked, batch_dims=1)
            for name, values in {"scores": scores, **mixed.columns}.items()
        }
        diagnosis = self.diagnosis(user_id, history, exclude, allow, categories, wishes.quotas)
        return {**self.answer(rows, **columns), **diagnosis}

    def mixed(
        self,
        queries: tf.Tensor,
        user: Any,
        k: tf.Tensor,
        candidates: tf.Tensor,
        rank_weight: tf.Tensor,
        excluded: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        probes: tf.Tensor,
        wishes: Wishes | None = None,
        again: Repeated | None = None,
    ) -> Mixed:
        """The candidates of requests, and both models' scores of them.

        Args:
            queries, user: see `query` and `user_inputs`.
            k: int32 `[]`, how many candidates there are at least.
            candidates, rank_weight: of the request.
            excluded, allow, categories, probes: see `search`.
            wishes: of the list; limits of categories may need further candidates.
            again: see `search`.
        """
        candidates = checked("candidates", candidates, self.max_k)
        rank_weight = checked("rank_weight", rank_weight)
        number = tf.maximum(k, tf.where(candidates > 0, candidates, CANDIDATES))
        filters = (excluded, allow, categories, probes)
        scores, rows = self.search(queries, tf.minimum(number, self.max_k), *filters, again=again)
        if wishes is not None:
            scores, rows = self.extended(wishes, scores, rows, k, queries, *filters, again=again)
        ranked = self.rank_rows(user, rows)
        weight = tf.where(rank_weight == 0.0, self.rank_weight, tf.maximum(rank_weight, 0.0))
        return Mixed.of(scores, ranked, rows, self.head, weight)

    def explain_spec(self) -> dict[str, tf.TensorSpec]:
        """What `explain` takes (`request.SIGNATURES`)."""
        return self.input_spec("explain", without=LABEL_ONLY)

    def explainer(self) -> RetrievalExplainer:
        """What answers `explain`."""
        return RecommenderExplainer(self)

    def rank_rows(self, user: dict[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The ranking's scores of items of the catalogue, int32 `[batch, n]`: float32 `[batch, n]` a
        label."""
        flat = tf.reshape(rows, [-1])
        scores = self.scores(user, flat, tf.gather(self.ranked_vectors, flat))
        return {name: tf.reshape(value, tf.shape(rows)) for name, value in scores.items()}

    def recommend_spec(self) -> dict[str, tf.TensorSpec]:
        """What `recommend` takes (`request.SIGNATURES`)."""
        return self.input_spec("recommend")

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Concrete functions by signature name."""
        made = super().signatures()
        made["rank"] = concrete(graph(self.rank), **self.rank_spec())
        # The two models it is made of are evaluated, each by itself.
        del made[EVALUATE]
        return made


class Mixed(NamedTuple):
    """Candidates with the scores of both models, and of their mixture.

    Attributes:
        rows: int32 `[batch, n]`, 0 for slots that hold no item.
        scores: float32 `[batch, n]`, the mixture; minus infinity where no item is there.
        columns: the models' own scores by the names of the answer, float32 `[batch, n]`.
        lowest: of the retrieval's and the ranking's scores, float32 `[batch, 1]` each.
        shares: what one point of each of them counts in the mixture, float32 `[batch, 1]` each.
    """

    rows: tf.Tensor
    scores: tf.Tensor
    columns: dict[str, tf.Tensor]
    lowest: tuple[tf.Tensor, tf.Tensor]
    shares: tuple[tf.Tensor, tf.Tensor]

    @classmethod
    def of(
        cls,
        retrieval: tf.Tensor,
        ranked: Mapping[str, tf.Tensor],
        rows: tf.Tensor,
        head: str,
        weight: tf.Tensor,
    ) -> Mixed:
        """Mixes (`mixture`).

        Args:
            retrieval: float32 `[batch, n]`, of any scale.
            ranked: the ranking's predictions by label, float32 `[batch, n]`.
            rows: int32 `[batch, n]`.
            head: the label that orders.
            weight: float32 `[]` in [0, 1].
        """
        there = rows > 0
        ends = [_range(values, there) for values in (retrieval, ranked[head])]
        # Without a candidate, all is 0.
        lowest = tuple(tf.where(highest >= low, low, 0.0) for low, highest in ends)
        shares = tuple(
            tf.math.divide_no_nan(share, tf.maximum(highest - low, 0.0))
            for share, (low, highest) in zip((1 - weight, weight), ends, strict=True)
        )
        scores = mixture(retrieval, ranked[head], there, weight)
        return cls(rows, scores, {"retrieval_score": retrieval, **ranked}, lowest, shares)


def mixture(retrieval: tf.Tensor, ranking: tf.Tensor, there: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """`(1 - weight) a + weight b`, where `a` and `b` are the two scores brought to [0, 1] over each request's
    items.

    Args:
        retrieval, ranking: float32 `[batch, n]`, of any scale.
        there: bool `[batch, n]`, False for slots that hold no item.
        weight: float32 `[]` in [0, 1].

    Returns:
        float32 `[batch, n]`; minus infinity where no item is there.
    """
    scores = (1 - weight) * _rescaled(retrieval, there) + weight * _rescaled(ranking, there)
    return tf.where(there, scores, -np.inf)


def _rescaled(scores: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    lowest, highest = _range(scores, there)
    return tf.where(there, tf.math.divide_no_nan(scores - lowest, highest - lowest), 0.0)


def _range(scores: tf.Tensor, there: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The lowest and the highest score of each row, float32 `[batch, 1]` each."""
    lowest = tf.reduce_min(tf.where(there, scores, np.inf), 1, keepdims=True)
    return lowest, tf.reduce_max(tf.where(there, scores, -np.inf), 1, keepdims=True)


WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


def validate_weights(
    retrieval: TwoTower,
    ranking: Ranking,
    catalogue: Catalogue,
    batches: Iterable[Mapping[str, tf.Tensor]],
    candidates: int = CANDIDATES,
) -> dict[str, dict[float, np.ndarray]]:
    """What each weight of the ranking is worth, on interactions that neither model was trained on.

    Args:
        retrieval, ranking: the two models.
        catalogue: the items.
        batches: what the models take as queries, and `item_index` int32 `[batch]`, what was chosen.
        candidates: how many items are ranked.

    Returns:
        label → weight → NDCG@10 of each chosen item among the whole catalogue, the history's items left out:
        float64 `[interactions]`, without those that repeat an item of the history. Where the retrieval knows
        repeats (`models.hybrid.repeats`), neither is left out.
    """
    vectors = retrieval.candidate_embeddings()
    columns = {name: tf.constant(values) for name, values in catalogue.features.items()}
    if catalogue.text_vectors is not None:
        columns["text_vector"] = tf.constant(np.asarray(catalogue.text_vectors))
    candidates = min(candidates, len(catalogue) - 1)

    ties = tie_order(len(catalogue))

    @graph
    def ranks(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scores = tf.matmul(retrieval.query_embeddings(batch), vectors, transpose_b=True)
        hidden = batch["history"]
        if retrieval.repeats is not None:
            scores, hidden = retrieval.repeats(hidden).added_to(scores), hidden[:, :0]
        # Padding of the history is row 0, which is no item either.
        scores = remove_slots(scores, tf.pad(hidden, [[0, 0], [1, 0]]))
        scores, rows = tf.math.top_k(scores, candidates)
        flat = tf.reshape(rows, [-1])
        items = {name: tf.gather(values, flat) for name, values in columns.items()}
        ranked = ranking.score_features({**batch, **items, "item_index": flat})
        there = scores > -np.inf
        return {
            name: tf.stack(
                [
                    _rank(
                        mixture(scores, tf.reshape(values, tf.shape(rows)), there, weight), rows, batch, ties
                    )
                    for weight in WEIGHTS
                ],
                1,
            )
            for name, values in ranked.items()
        }

    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        new = ~tf.reduce_any(batch["history"] == batch["item_index"][:, None], 1).numpy()
        new |= retrieval.repeats is not None
        for name, values in ranks(batch).items():
            parts.setdefault(name, []).append(gain(values.numpy(), 10)[new])
    return {name: dict(zip(WEIGHTS, np.concatenate(values).T, strict=True)) for name, values in parts.items()}


def choose_weight(gains: Mapping[str, Mapping[float, np.ndarray]]) -> tuple[str, float]:
    """The label and the weight of the best mean, if it beats leaving the ranking out by two standard errors.

    Args:
        gains: what `validate_weights` returned.

    Returns:
        The label that orders best, and its weight; 0 where no weight is better by more than chance. A label
        orders nothing then, and is the one that a request's own weight would use.
    """
    label, weight = max(
        ((label, weight) for label, row in gains.items() for weight in row),
        key=lambda choice: gains[choice[0]][choice[1]].sum(),
    )
    difference = gains[label][weight] - gains[label][0.0]
    if len(difference) < 2:
        return label, 0.0
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return label, weight if difference.mean() > 2 * error else 0.0


def _rank(scores: tf.Tensor, rows: tf.Tensor, batch: Mapping[str, tf.Tensor], ties: np.ndarray) -> tf.Tensor:
    """The rank of one chosen item a query among the items at `rows`, float32 `[batch]`; infinite where it is
    not there."""
    target = batch["item_index"][:, None]
    chosen = (rows == target) & (scores > -np.inf)
    own = tf.reduce_max(tf.where(chosen, scores, -np.inf), 1, keepdims=True)
    before = stands_before(scores, tf.gather(ties, rows), own, tf.gather(ties, target))
    rank = 1.0 + tf.reduce_sum(tf.cast(before, tf.float32), 1)
    return tf.where(tf.reduce_any(chosen, 1), rank, np.inf)
