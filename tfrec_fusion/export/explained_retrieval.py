"""`explain` of the retrieval model: parts, sources, and why an item is not recommended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec_fusion.export.base import checked, says_something
from tfrec_fusion.export.explaining import Explainer, contains, first_of
from tfrec_fusion.export.repeated import asked_again
from tfrec_fusion.export.words import part_by_word
from tfrec_fusion.models.contributions import ExplainedQueries, PartScores
from tfrec_fusion.models.hybrid.repeats import Repeated


class Queries(NamedTuple):
    """Who asks, and for what.

    Attributes:
        user: the model's query inputs.
        explained: what the model makes of them.
        embeddings: float32 `[batch, dim]`, with what words ask for (`RetrievalSignatures.query`).
        again: what the history's items get on top; None where the model knows no repeats.
    """

    user: dict[str, tf.Tensor]
    explained: ExplainedQueries
    embeddings: tf.Tensor
    again: Repeated | None = None


class Asked(NamedTuple):
    """The candidates of a request, and after them the last item that `recommend` gives.

    Attributes:
        queries: of whom.
        rows: int32 `[batch, n + 1]`.
        vectors: float32 `[batch, n + 1, dim]`.
        top: int32 `[batch, k]`, what is recommended.
    """

    queries: Queries
    rows: tf.Tensor
    vectors: tf.Tensor
    top: tf.Tensor


class RetrievalExplainer(Explainer):
    """Answers `explain` for a `RetrievalSignatures`."""

    serving: Any

    def explain(self, **inputs: Any) -> dict[str, tf.Tensor]:
        """What the scores of items are made of, and why they are recommended or not; see
        `request.EXPLAINED`."""
        served = self.serving
        k = tf.minimum(checked("k", inputs["k"], served.max_k), served.max_k)
        queries = self.queries(inputs)
        _, top = served.search(queries.embeddings, k, *self.filters(inputs), again=queries.again)
        asked = self.asked(inputs, queries, top)
        scores = self.scores(asked)
        missed = (scores[:, :-1] > scores[:, -1:]) | ~full(top)
        return self.answer(inputs, asked, scores, *self.parts(inputs, asked), [("missed", missed)])

    def queries(self, inputs: Mapping[str, tf.Tensor]) -> Queries:
        """As `recommend` makes them."""
        served, user = self.serving, self.user(inputs)
        # As a tensor: see `RetrievalSignatures.query`.
        vectors = tf.convert_to_tensor(served.vectors)
        explained = served.model.explained(user, served.average_item, vectors, served.known_as)
        embeddings = served.with_text(
            explained.embeddings, inputs["user_id"], user["history"], inputs["text"]
        )
        again = asked_again(served, lambda: user["history"], inputs["include_seen"])
        return Queries(user, explained, embeddings, again)

    def scores(self, asked: Asked) -> tf.Tensor:
        """The retrieval's scores of the candidates, float32 `[batch, n + 1]`."""
        scores, again = tf.linalg.matvec(asked.vectors, asked.queries.embeddings), asked.queries.again
        return scores if again is None else scores + tf.reduce_sum(again.of(asked.rows), 2)

    def filters(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """The arguments of `search` from `excluded` on."""
        names = ("user_id", "history", "exclude", "include_seen")
        excluded = self.serving.excluded(*(inputs[name] for name in names))
        return excluded, inputs["allow"], inputs["categories"], inputs["probes"]

    def asked(self, inputs: Mapping[str, tf.Tensor], queries: Queries, top: tf.Tensor) -> Asked:
        """The candidates, and after them the last item of `top` int32 `[batch, k]`."""
        item_ids, texts = self.asked_items(inputs)
        rows = self.serving.item_rows(item_ids)
        number = tf.maximum(tf.reduce_sum(tf.cast(top > 0, tf.int32), 1), 1)
        last = tf.gather(top, number - 1, batch_dims=1)[:, None]
        vectors = self.described(tf.reshape(item_ids, [-1]), tf.reshape(texts, [-1]))
        vectors = tf.reshape(vectors, tf.concat([tf.shape(rows), [vectors.shape[1]]], 0))
        vectors = tf.concat([vectors, self.index_vectors(last)], 1)
        return Asked(queries, tf.concat([rows, last], 1), vectors, top)

    def parts(
        self, inputs: Mapping[str, tf.Tensor], asked: Asked
    ) -> tuple[list[PartScores], tf.Tensor | None]:
        """What the retrieval's scores are sums of: the model's parts, `repeats` where it knows such and, with
        a text tower, `text`; and the words of that. The last candidate is there for its scores and gets no
        sources of a network."""
        served, queries = self.serving, asked.queries
        width = served.vectors.shape[1]
        parts = queries.explained.contributions(asked.vectors[..., :width], 1)
        if queries.again is not None:
            bonus = queries.again.of(asked.rows)
            parts.append(PartScores("repeats", tf.reduce_sum(bonus, 2), history=bonus))
        if served.text_tower is None:
            return parts, None
        # Where nothing is known of who asks in words, the words alone count (`RetrievalSignatures.query`).
        counts = served.counts(inputs["user_id"], queries.user["history"], inputs["text"])
        counts = tf.cast(counts, tf.float32)[:, None]
        vectors = queries.embeddings[:, width:], asked.vectors[..., width:]
        words, text = part_by_word(served.text_tower, inputs["text"], *vectors, unsourced=1)
        return [*(part.scaled(counts) for part in parts), text], words

    def described(self, item_ids: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
        """Index vectors of items `[m]`: float32 `[m, dim]`; looked up, but for those with a text."""
        served = self.serving
        vectors = self.index_vectors(served.item_rows(item_ids))
        if served.text_tower is None:
            return vectors
        given = tf.where(says_something(texts))

        def replaced() -> tf.Tensor:
            new = served.item(served.items(tf.gather_nd(item_ids, given), tf.gather_nd(texts, given)))
            return tf.tensor_scatter_nd_update(vectors, given, new)

        return tf.cond(tf.size(given) > 0, replaced, lambda: vectors)

    def index_vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """What the index holds of items int32 `[...]`, gone ones included: float32 `[..., dim]`."""
        # As a tensor: see `RetrievalSignatures.query`.
        vectors = tf.gather(tf.convert_to_tensor(self.serving.vectors), rows)
        if self.serving.text_tower is None:
            return vectors
        texts = tf.gather(self.serving.item_tables["text_vector"], rows)
        return tf.concat([vectors, tf.cast(texts, tf.float32)], -1)

    def filtered(self, inputs: Mapping[str, tf.Tensor], rows: tf.Tensor) -> list[tuple[str, tf.Tensor]]:
        """Why items int32 `[batch, n]` may not be recommended, whatever their scores: bool conditions, the
        first of which counts."""
        served, allow, categories = self.serving, inputs["allow"], inputs["categories"]
        listed = tf.reduce_any(allow != "", 1, keepdims=True)
        named = tf.reduce_any(categories != "", 1, keepdims=True)

        def outside() -> tf.Tensor:
            found = served.categories(categories)
            found = tf.broadcast_to(found, [tf.shape(rows)[0], tf.shape(found)[1]])
            return named & ~tf.gather(found, tf.maximum(served.indexed(rows), 0), batch_dims=1)

        hidden = tf.constant(True) if served.repeats is None else ~inputs["include_seen"]
        return [
            ("unknown", rows == 0),
            ("not_offered", rows > served.num_offered),
            ("excluded", contains(served.item_rows(inputs["exclude"]), rows)),
            ("history", hidden & contains(served.item_rows(inputs["history"]), rows)),
            ("seen", ~inputs["include_seen"] & contains(served.seen(inputs["user_id"]), rows)),
            ("not_allowed", listed & ~contains(served.item_rows(allow), rows)),
            ("category", tf.cond(tf.reduce_any(named), outside, lambda: tf.zeros_like(rows, tf.bool))),
        ]

    def answer(
        self,
        inputs: Mapping[str, tf.Tensor],
        asked: Asked,
        scores: tf.Tensor,
        parts: list[PartScores],
        words: tf.Tensor | None,
        behind: list[tuple[str, tf.Tensor]],
    ) -> dict[str, tf.Tensor]:
        """The answer; `scores` and `parts` are of all of `asked.rows`, `behind` says why an item that might
        be recommended is not, where it is not outscored."""
        served, rows, last = self.serving, asked.rows[:, :-1], asked.rows[:, -1]
        own = [part.of_first(tf.shape(rows)[1]) for part in parts]
        found = asked.top[:, None] == rows[:, :, None]
        recommended = ("recommended", tf.reduce_any(found, 2) & (rows > 0))
        states = first_of([*self.filtered(inputs, rows), recommended, *behind], "outscored")
        ranks = 1 + tf.argmax(tf.cast(found, tf.int32), 2, tf.int32)
        return {
            **self.named(rows, *self.asked_items(inputs)),
            "scores": scores[:, :-1],
            **self.taken_apart(own, asked.queries.user["history"], inputs["count"], words),
            "states": states,
            "ranks": tf.where(states == "recommended", ranks, 0),
            "last_id": tf.gather(served.item_ids, last),
            "last_title": tf.gather(served.titles, last),
            "last_parts": tf.stack([part.scores[:, -1] for part in parts], -1),
            "known_user": served.user_rows(inputs["user_id"]) > 0,
            "unknown_items": self.unknown(inputs),
        }


def full(top: tf.Tensor) -> tf.Tensor:
    """bool `[batch, 1]`: whether there are as many items as were asked for."""
    return tf.reduce_all(top > 0, 1, keepdims=True)
