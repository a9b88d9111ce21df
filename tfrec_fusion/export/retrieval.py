"""Signatures of the retrieval model: a user, a history or words in, the best items out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.base import (
    Signatures,
    as_unicode,
    called,
    checked,
    concrete,
    dense,
    graph,
    says_something,
    table,
)
from tfrec_fusion.export.evaluated import NO_SCORE, NOT_RANKED
from tfrec_fusion.export.explained_retrieval import RetrievalExplainer
from tfrec_fusion.export.judging import DEFAULT_K, diversity, or_undefined, ranked
from tfrec_fusion.export.list_rules import ListRules, Wishes
from tfrec_fusion.export.repeated import asked_again, merged, usable
from tfrec_fusion.export.request import EVALUATE, INPUTS, LABEL_ONLY, PADDING, RANKING_ONLY
from tfrec_fusion.export.similar import SimilarItems
from tfrec_fusion.index.item_filter import CategoryFilter, allowed
from tfrec_fusion.index.top_k_index import TopKIndex
from tfrec_fusion.metrics.ranks import tie_order
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.hybrid.repeats import Repeated
from tfrec_fusion.models.new_items import retrieval_vectors
from tfrec_fusion.models.two_tower import TwoTower

__all__ = ["RetrievalSignatures", "searchable"]

DIVERSITY_POOL, LARGEST_POOL = 4, 400
"""A list that is chosen as a whole is chosen among so many times `k` further items, and at most so many; a
calibrated one among the most, since the history's rarer categories may stand far behind."""


class RetrievalSignatures(Signatures):
    """The retrieval model's signatures: `evaluate` under TFMA's key `serving_default`, `recommend`,
    `describe`, `embed_query`, `embed_item`, `embed_text`."""

    def __init__(
        self,
        model: TwoTower,
        catalogue: Catalogue,
        *args: Any,
        index: TopKIndex,
        max_k: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, catalogue, *args, **kwargs)
        self.max_k = max_k
        self._keep(index=index, repeats=model.repeats)
        self.categories = CategoryFilter(
            {name: items - 1 for name, items in catalogue.members().items()}, catalogue.offered
        )
        columns = {feature.name: feature.shown for feature in self.item_features}
        self.lists = ListRules(catalogue, columns, self.categories)
        self.vectors = table(retrieval_vectors(model, catalogue), "candidate_embeddings")
        self.ties = table(tie_order(len(catalogue)), "ties")
        counts = np.asarray(catalogue.counts, np.float64)
        share = (counts + 1) / (counts[1:].sum() + max(1, len(counts) - 1))
        self.bits = table(-np.log2(share).astype(np.float32), "bits")
        unexpected = 1 - counts / max(1.0, counts.max(), self.history_splits.shape[0] - 2)
        self.unexpected = table(unexpected.astype(np.float32), "unexpected")
        self.average_item = table(model.average_item(), "average_item")
        self.likeness = SimilarItems(self.vectors.numpy(), model.behaviour_width)

    def query(
        self, user_id: tf.Tensor, history: tf.Tensor, text: tf.Tensor, context: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """float32 `[batch, dim]`, or `[batch, dim + text_dim]` with a text tower; its dot product with `item`
        is the score.

        The first part is what a user's history asks for, the second what the text asks for in the encoder's
        own space: of words that nobody used before, similarity of meaning says more than anything trained on
        choices. Both parts are of length 1 at most, so that a request with both weighs them alike.
        """
        batch = self.user_inputs(user_id, history, context)
        # As a tensor: TensorFlow copies a variable at each whole read (`evaluate`) once a part of it was
        # gathered.
        vectors = tf.convert_to_tensor(self.vectors)
        queries = self.model.query_embeddings(batch, items=vectors, model_index=self.known_as)
        return self.with_text(queries, user_id, batch["history"], text)

    def with_text(
        self, queries: tf.Tensor, user_id: tf.Tensor, history: tf.Tensor, text: tf.Tensor
    ) -> tf.Tensor:
        """The model's queries, float32 `[batch, dim]`, and beside them what the text asks for; see
        `query`."""
        if self.text_tower is None:
            return queries
        counts = self.counts(user_id, history, text)
        return tf.concat([tf.where(counts[:, None], queries, 0.0), self.text_tower.queries(text)], 1)

    def counts(self, user_id: tf.Tensor, history: tf.Tensor, text: tf.Tensor) -> tf.Tensor:
        """bool `[batch]`: whether what is known of a user counts; where nothing is, words count alone."""
        known = tf.logical_or(tf.reduce_any(history > 0, 1), self.user_rows(user_id) > 0)
        return tf.logical_or(known, ~says_something(text))

    def item(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 `[n, dim]`, or `[n, dim + text_dim]` with a text tower: what the index holds of an item."""
        embeddings = self.model.candidate_from_features(features)
        if self.text_tower is None:
            return embeddings
        return tf.concat([embeddings, tf.cast(features["text_vector"], tf.float32)], 1)

    def recommend(
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
        **others: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The best items for each request; see `request.INPUTS` for what comes in and `request.OUTPUTS` for
        the answer."""
        wishes, context = Wishes.split(others)
        k, wished = checked("k", k, self.max_k), wishes.any()
        queries = self.query(user_id, history, text, context)
        excluded = self.excluded(user_id, history, exclude, include_seen)
        again = asked_again(self, lambda: self.user_inputs(user_id, history, {})["history"], include_seen)
        count = tf.minimum(k, self.max_k)
        further = tf.where(
            wishes.calibration > 0, LARGEST_POOL, tf.minimum(DIVERSITY_POOL * count, LARGEST_POOL)
        )
        pool = tf.where(wished, count + further, count)
        filters = (excluded, allow, categories, probes)
        scores, rows = self.search(queries, pool, *filters, again=again)

        def chosen() -> tuple[tf.Tensor, tf.Tensor]:
            more = self.extended(wishes, scores, rows, count, queries, *filters, again=again)
            read = self.user_inputs(user_id, history, {})["history"]
            return self.best_list(wishes, *more, read, count)

        scores, rows = tf.cond(wished, called(chosen), lambda: (scores, rows))
        diagnosis = self.diagnosis(user_id, history, exclude, allow, categories, wishes.quotas)
        return {**self.answer(rows, scores), **diagnosis}

    def answer(self, rows: tf.Tensor, scores: tf.Tensor, **others: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items, titles and finite scores; `PADDING` and empty strings where `rows` int32 `[batch, k]` are
        0."""
        there = rows > 0
        return {
            "item_ids": tf.gather(self.item_ids, rows),
            "titles": tf.gather(self.titles, rows),
            "num_results": tf.reduce_sum(tf.cast(there, tf.int32), 1),
            **{
                name: tf.where(there, values, PADDING)
                for name, values in {"scores": scores, **others}.items()
            },
        }

    def diagnosis(
        self,
        user_id: tf.Tensor,
        history: tf.Tensor,
        exclude: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        quotas: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """What of a request the model does not know; see `request.OUTPUTS`."""
        batch = tf.shape(user_id)[0]
        # One list may stand for all rows where the search takes that.
        ids = tf.concat([history, exclude, tf.broadcast_to(allow, [batch, tf.shape(allow)[1]])], 1)
        return {
            "known_user": self.user_rows(user_id) > 0,
            "unknown_items": self.unknown_items(ids, self.item_rows(ids)),
            "unknown_categories": tf.concat(
                [
                    self.unknown_categories(named, batch)
                    for named in (categories, self.lists.quota_names(quotas))
                ],
                1,
            ),
        }

    def unknown_categories(self, categories: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """string `[batch, any]`: names that no item has, `""` for the others; one list may stand for all
        rows."""
        categories = tf.broadcast_to(categories, [batch, tf.shape(categories)[1]])
        return tf.where(self.categories.rows(categories) == 0, as_unicode(categories), "")

    def describe(self, count: tf.Tensor) -> dict[str, tf.Tensor]:
        """Adds the names of at most `count` `categories`, all `category_columns`, and `max_k`."""
        return {
            **super().describe(count),
            "categories": self.categories.names[:count],
            "category_columns": tf.constant(self.lists.columns, tf.string),
            "max_k": tf.constant(self.max_k),
        }

    def excluded(
        self, user_id: tf.Tensor, history: tf.Tensor, exclude: tf.Tensor, include_seen: tf.Tensor
    ) -> tf.Tensor:
        """int32 `[batch, any]` of the items that must not come: seen ones unless asked for, listed ones, the
        history unless what was seen is asked for and the model knows repeats."""
        seen = tf.cond(
            include_seen, lambda: tf.zeros([tf.shape(user_id)[0], 0], tf.int32), lambda: self.seen(user_id)
        )
        given = self.item_rows(history)
        given = given if self.repeats is None else tf.where(include_seen, 0, given)
        return tf.concat([seen, self.item_rows(exclude), given], 1)

    def search(
        self,
        queries: tf.Tensor,
        k: tf.Tensor,
        excluded: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        probes: tf.Tensor,
        full: tf.Tensor | None = None,
        again: Repeated | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The index's best: scores float32 and items int32, `[batch, k]`; item 0 (no item) where there are
        fewer.

        Args:
            queries: see `query`.
            k: int32 `[]`, at least 1.
            excluded: int32 `[batch, any]` items, 0 for padding.
            allow: string `[batch, any]`; where a row has entries, nothing else is returned.
            categories: string `[batch, any]`; where a row has entries, only items that have one of them are
                returned.
            probes: int32 `[]`, cells that an inverted file reads; 0 for the number it was tuned to.
            full: int32 `[batch, any]`, numbers of categories of which no item is returned, 0 for padding.
            again: the history's items that may come, with what they get on top; None for none.
        """
        probes = checked("probes", probes)
        if again is not None:
            again = usable(self, again, excluded, allow, categories, full)
            excluded = tf.concat([excluded, again.rows], 1)
        tuned = getattr(self.index, "default_probes", None)
        options = {
            "exclude": self.indexed(excluded),
            "probes": None if tuned is None else tf.where(probes > 0, probes, tuned),
        }

        def filtered() -> tuple[tf.Tensor, tf.Tensor]:
            usable = allowed(self.indexed(self.item_rows(allow)), allow, categories, self.categories)
            if full is not None:
                usable &= ~self.categories.having(full)
            return self.index.search(queries, k, allowed=usable, **options)

        if full is not None:
            scores, rows = filtered()
        else:
            filtering = tf.reduce_any(allow != "") | tf.reduce_any(categories != "")
            scores, rows = tf.cond(filtering, filtered, lambda: self.index.search(queries, k, **options))
        found = scores, rows + 1
        return found if again is None else merged(self, queries, k, found, again)

    def indexed(self, rows: tf.Tensor) -> tf.Tensor:
        """The index's rows of items, -1 for padding and for what is not offered: it holds none for the
        unknown item."""
        return self.offered(rows) - 1

    def offered(self, rows: tf.Tensor) -> tf.Tensor:
        """The same rows, 0 for items that are not offered any more."""
        return tf.where(rows > self.num_offered, 0, rows)

    def extended(
        self,
        wishes: Wishes,
        scores: tf.Tensor,
        rows: tf.Tensor,
        k: tf.Tensor,
        queries: tf.Tensor,
        excluded: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        probes: tf.Tensor,
        again: Repeated | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What `search` returned, and more where limits of categories would leave a list of `k` short; see
        `ListRules.extended`. The other arguments are those of `search`."""

        def further(found: tf.Tensor, full: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            left_out = tf.concat([excluded, found], 1)
            return self.search(queries, k, left_out, allow, categories, probes, full, again)

        return tf.cond(
            wishes.limiting(),
            called(lambda: self.lists.extended(wishes, scores, rows, k, further)),
            lambda: (scores, rows),
        )

    def best_list(
        self, wishes: Wishes, scores: tf.Tensor, rows: tf.Tensor, history: tf.Tensor, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The `k` of the candidates that are good as a list (`ListRules.positions`), in the order in which
        they were picked; scores as they were."""
        count = tf.minimum(k, tf.shape(scores)[1])
        picked = self.lists.positions(wishes, scores, rows, self.list_vectors, history, count)
        there, positions = picked >= 0, tf.maximum(picked, 0)
        scores = tf.where(there, tf.gather(scores, positions, batch_dims=1), -np.inf)
        return scores, tf.where(there, tf.gather(rows, positions, batch_dims=1), 0)

    def list_vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, n, dim]` of items int32 `[batch, n]`: what likeness in a list goes by."""
        return self.index.vectors(rows - 1)

    def default_of(self, name: str) -> Any:
        """What stands for an input that a request leaves out, where the model decides: whether what was seen
        is included follows from whether it knows repeats."""
        return INPUTS[name].default if name != "include_seen" else self.repeats is not None

    def recommend_spec(self) -> dict[str, tf.TensorSpec]:
        """What `recommend` takes (`request.SIGNATURES`)."""
        return self.input_spec("recommend", without=RANKING_ONLY)

    def explain_spec(self) -> dict[str, tf.TensorSpec]:
        """What `explain` takes (`request.SIGNATURES`)."""
        return self.input_spec("explain", without=(*RANKING_ONLY, *LABEL_ONLY))

    def explainer(self) -> RetrievalExplainer:
        """What answers `explain`."""
        return RetrievalExplainer(self)

    def explain(self, **inputs: Any) -> dict[str, tf.Tensor]:
        """What scores are made of, and why items are recommended or not; see `request.EXPLAINED`."""
        return self.explainer().explain(**inputs)

    def similar(self, **inputs: Any) -> dict[str, tf.Tensor]:
        """The items most like each one asked about; see `SimilarItems`."""
        return self.likeness.similar(self, **inputs)

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Where the held-out item of each Example stands among the whole catalogue, and what stands at the
        top.

        Items that the Example calls seen cannot be recommended, unless the model knows repeats. Equal scores,
        NaN and all else count as `tfrec_fusion.metrics.ranks` states.

        Returns:
            Finite numbers (`evaluated` reads them):
            `rank`: float32 `[batch]`, from 1; `NOT_RANKED` where the item is unknown or was already seen, and
                so cannot be
            recommended; `NO_SCORE` where the model gives it no number.
            `top`: int32 `[batch, DEFAULT_K]` rows of the items recommended, best first, 0 where there are no
                more.
            `novelty`: float32 `[batch]`, mean self-information of those in bits
                (`metrics.beyond_accuracy.novelty`);
            `UNDEFINED` where there are none.
            `diversity`: float32 `[batch]`, mean `1 - cosine` between those, by text where there is any, else
                by the model's
            embeddings; `UNDEFINED` with fewer than two.
            `catalogue_size`: int32 `[batch]`, how many items there are.
            `unexpected`: float32 `[batch]`, the share of users who did not meet the held-out item in
                training.
        """
        raw, batch = self.parse(examples)
        return self.judged(batch, self.item_rows(raw["item_id"]), self.item_rows(dense(raw["seen"])))

    def judged(
        self, batch: Mapping[str, tf.Tensor], target: tf.Tensor, seen: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """`evaluate` of queries that are parsed already.

        Args:
            batch: the model's query inputs.
            target: int32 `[batch]`, the held-out items' rows.
            seen: int32 `[batch, any]`, items that cannot be recommended, 0 for padding.
        """
        vectors = tf.convert_to_tensor(self.vectors)
        queries = self.model.query_embeddings(batch, items=vectors, model_index=self.known_as)
        again = None if self.repeats is None else self.repeats(batch["history"])
        target, seen = self.offered(target), self.offered(seen if again is None else seen[:, :0])
        usable = tf.logical_and(target > 0, ~tf.reduce_any(seen == target[:, None], 1))
        # What is not offered any more stands behind the rest.
        candidates = vectors[: self.num_offered + 1]
        step = tf.maximum(1, 2**24 // tf.shape(vectors)[0])
        count = tf.maximum(1, -(-tf.shape(target)[0] // step))

        def block(
            number: tf.Tensor, ranks: tf.TensorArray, tops: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
            part = slice(number * step, (number + 1) * step)
            scores = tf.matmul(queries[part], candidates, transpose_b=True)
            if again is not None:
                scores = Repeated(again.rows[part], again.bonus[part]).added_to(scores)
            rank, top = ranked(scores, self.ties[: self.num_offered + 1], target[part], seen[part])
            return number + 1, ranks.write(number, rank), tops.write(number, top)

        ranks = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=[None])
        tops = tf.TensorArray(tf.int32, count, infer_shape=False, element_shape=[None, DEFAULT_K])
        _, ranks, tops = tf.while_loop(lambda number, *_: number < count, block, [0, ranks, tops])
        top = tops.concat()
        shown = tf.cast(top > 0, tf.float32)
        rank, novelty = ranks.concat(), tf.reduce_sum(tf.gather(self.bits, top) * shown, 1)
        unlike = diversity(tf.gather(self.item_tables.get("text_vector", vectors), top), shown)
        return {
            "rank": tf.where(usable, tf.where(tf.math.is_finite(rank), rank, NO_SCORE), NOT_RANKED),
            "top": top,
            "novelty": or_undefined(novelty / tf.reduce_sum(shown, 1)),
            "diversity": or_undefined(unlike),
            "catalogue_size": tf.fill(tf.shape(target), self.num_offered),
            "unexpected": tf.gather(self.unexpected, target),
        }

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Concrete functions by signature name."""

        @graph
        def embed_query(
            user_id: tf.Tensor, history: tf.Tensor, text: tf.Tensor, **context: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            return {"embedding": self.query(user_id, history, text, context)}

        @graph
        def embed_item(item_id: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": self.item(self.items(item_id, text))}

        @graph
        def embed_text(text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": self.text_tower.queries(text)}

        made = {
            EVALUATE: graph(self.evaluate).get_concrete_function(
                tf.TensorSpec([None], tf.string, "examples")
            ),
            "recommend": concrete(graph(self.recommend), **self.recommend_spec()),
            "describe": concrete(graph(self.describe), **self.input_spec("describe")),
            "embed_query": concrete(embed_query, **self.input_spec("embed_query")),
            "embed_item": concrete(embed_item, **self.input_spec("embed_item")),
            "explain": concrete(graph(self.explain), **self.explain_spec()),
            "similar": concrete(graph(self.similar), **self.input_spec("similar")),
        }
        if self.text_tower is not None:
            made["embed_text"] = concrete(embed_text, **self.input_spec("embed_text"))
        return made


def searchable(model: TwoTower, catalogue: Catalogue) -> np.ndarray:
    """What the index is built from: float32 `[offered + 1, dim]`, with the text vectors beside it where there
    are any."""
    offered = slice(catalogue.offered + 1)
    embeddings = retrieval_vectors(model, catalogue)[offered]
    if catalogue.text_vectors is None:
        return embeddings
    return np.concatenate([embeddings, np.asarray(catalogue.text_vectors[offered], np.float32)], 1)
