"""`similar`: the items most like one, by who chooses them, by their texts, or by both."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.base import checked, says_something, table
from tfrec_fusion.index.item_filter import allowed, listed

ROWS_AT_ONCE = 2**17
SMALLEST = 1e-12


class SimilarItems(tf.Module):
    """Answers `similar` for a `RetrievalSignatures`: cosines to every item that is offered.

    By behaviour, two items are alike whose vectors are, content, popularity and offset left out: what they
    have in common is who chooses them. By text, their text vectors decide.

    Args:
        vectors: float32 `[N + 1, width]`, the items' vectors without text.
        behaviour_width: how many of their first numbers tell who chooses an item.
    """

    def __init__(self, vectors: np.ndarray, behaviour_width: int):
        super().__init__()
        self.width = behaviour_width
        lengths = np.sqrt(np.sum(np.asarray(vectors[:, :behaviour_width], np.float64) ** 2, 1))
        inverse = np.where(lengths > SMALLEST, 1 / np.maximum(lengths, SMALLEST), 0.0)
        self.inverse_lengths = table(inverse.astype(np.float32), "inverse_lengths")

    def similar(
        self,
        served: Any,
        item_id: tf.Tensor,
        text: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        allow: tf.Tensor,
        categories: tf.Tensor,
        text_weight: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The items most like each one asked about; itself is left out. See `request.SIMILAR`."""
        k = tf.minimum(checked("k", k, served.max_k), served.max_k)
        text_weight = self.checked_weight(served, checked("text_weight", text_weight))
        rows = served.item_rows(item_id)
        described = rows > 0
        if served.text_tower is not None:
            described |= says_something(text)
        vectors = served.item(served.items(item_id, text))
        scores = self.behaviour(served, vectors) * (1 - text_weight)
        if served.text_tower is not None:
            width = served.vectors.shape[1]
            scores += tf.cond(
                text_weight > 0,
                lambda: text_weight * self.text(served, vectors[:, width:]),
                lambda: tf.zeros_like(scores),
            )
        out = tf.concat([served.item_rows(exclude), rows[:, None]], 1)
        kept = ~listed(served.indexed(out), served.num_offered) & described[:, None]
        filtered = tf.reduce_any(allow != "") | tf.reduce_any(categories != "")
        kept = tf.cond(
            filtered,
            lambda: (
                kept & allowed(served.indexed(served.item_rows(allow)), allow, categories, served.categories)
            ),
            lambda: kept,
        )
        scores = tf.where(kept, scores, -np.inf)
        top, positions = tf.math.top_k(scores, tf.minimum(k, served.num_offered))
        answer = served.answer(tf.where(top > -np.inf, positions + 1, 0), top)
        ids = tf.concat(
            [item_id[:, None], exclude, tf.broadcast_to(allow, [tf.shape(rows)[0], tf.shape(allow)[1]])], 1
        )
        unknown = served.unknown_items(ids, served.item_rows(ids))
        # An item that comes by its text is one all the same.
        own = tf.where(described, "", unknown[:, 0])[:, None]
        return {
            **answer,
            "known_item": rows > 0,
            "unknown_items": tf.concat([own, unknown[:, 1:]], 1),
            "unknown_categories": served.unknown_categories(categories, tf.shape(rows)[0]),
        }

    def checked_weight(self, served: Any, weight: tf.Tensor) -> tf.Tensor:
        """What texts count: the request's, else half where a model knows both."""
        by_text, by_behaviour = served.text_tower is not None, self.width > 0
        half = 0.5 if by_text and by_behaviour else float(by_text)
        chosen = tf.where(weight < 0, half, weight)
        if by_text:
            return chosen
        rule = "`text_weight` must be 0 or left out: this model has no text tower. Received:"
        with tf.control_dependencies([tf.raw_ops.Assert(condition=weight <= 0, data=[rule, weight])]):
            return tf.identity(chosen)

    def behaviour(self, served: Any, vectors: tf.Tensor) -> tf.Tensor:
        """Cosines by behaviour, float32 `[batch, offered]`; 0 of items of which nothing is known."""
        known = tf.convert_to_tensor(served.vectors)
        # Widened by zeros and not cut: a part of the table would be a copy of it.
        asked = tf.math.l2_normalize(vectors[:, : self.width], 1, epsilon=SMALLEST)
        asked = tf.pad(asked, [[0, 0], [0, known.shape[1] - self.width]])
        cosines = tf.matmul(asked, known, transpose_b=True) * self.inverse_lengths
        return cosines[:, 1 : served.num_offered + 1]

    def text(self, served: Any, asked: tf.Tensor) -> tf.Tensor:
        """Cosines by text, float32 `[batch, offered]`; 0 of items without text."""
        asked = tf.math.l2_normalize(asked, 1, epsilon=SMALLEST)
        known = served.item_tables["text_vector"]
        starts = tf.range(1, served.num_offered + 1, ROWS_AT_ONCE)

        def block(start: tf.Tensor) -> tf.Tensor:
            rows = tf.range(start, tf.minimum(start + ROWS_AT_ONCE, served.num_offered + 1))
            texts = tf.math.l2_normalize(tf.cast(tf.gather(known, rows), tf.float32), 1, epsilon=SMALLEST)
            return tf.matmul(texts, asked, transpose_b=True)

        blocks = tf.TensorArray(tf.float32, tf.size(starts), infer_shape=False, element_shape=[None, None])
        _, blocks = tf.while_loop(
            lambda number, _: number < tf.size(starts),
            lambda number, blocks: (number + 1, blocks.write(number, block(starts[number]))),
            [0, blocks],
        )
        return tf.transpose(blocks.concat())
