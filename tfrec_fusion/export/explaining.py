"""The `explain` signature that all models share: scores as sums, by part and by source, the largest sources
first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfrec_fusion.export.base import Signatures, as_unicode, candidates, checked, says_something
from tfrec_fusion.models.contributions import PartScores


class Explainer:
    """Answers `explain` for a served model.

    Args:
        serving: what is served.
    """

    def __init__(self, serving: Signatures):
        self.serving = serving

    def asked_items(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The candidates by id, by text, or both: string `[batch, n]` each."""
        return candidates(inputs["item_ids"], inputs["texts"])

    def user(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The model's query inputs; histories without the columns that are padding in every row, but one."""
        context = {name: inputs[name] for name in self.serving.context_inputs}
        user = self.serving.user_inputs(inputs["user_id"], inputs["history"], context)
        history = user["history"]
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(history > 0, tf.int32), 1))
        return {**user, "history": history[:, tf.shape(history)[1] - tf.maximum(longest, 1) :]}

    def named(self, rows: tf.Tensor, item_ids: tf.Tensor, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`item_ids` and `titles` of the answer; the text itself for an item without a title."""
        titles = tf.gather(self.serving.titles, rows)
        return {
            "item_ids": as_unicode(item_ids),
            "titles": tf.where(titles == "", as_unicode(texts), titles),
        }

    def unknown(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Ids of the request that are in no catalogue: string `[batch, any]`. One with a text of its own is
        an item all the same."""
        item_ids, texts = self.asked_items(inputs)
        lists = [inputs[name] for name in ("history", "exclude", "allow") if name in inputs]
        unknown = [self.serving.unknown_items(ids, self.serving.item_rows(ids)) for ids in lists]
        missing = self.serving.unknown_items(item_ids, self.serving.item_rows(item_ids))
        return tf.concat([*unknown, tf.where(says_something(texts), "", missing)], 1)

    def taken_apart(
        self,
        parts: Sequence[PartScores],
        history: tf.Tensor,
        count: tf.Tensor,
        words: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """The outputs that hold numbers and sources; see `request.EXPLAINED`.

        Args:
            parts: what the score is a sum of.
            history: int32 `[batch, H]`, rows of the items that `PartScores.history` is about, 0 for padding.
            count: int32 `[]`, how many sources are listed of each item.
            words: string `[batch, T]`, what `PartScores.words` is about.
        """
        count = checked("count", count)
        scores = tf.stack([part.scores for part in parts], -1)
        batch, n = tf.shape(scores)[0], tf.shape(scores)[1]
        zeros = tf.zeros_like(parts[0].scores)
        named = list(dict.fromkeys(source for part in parts for source in part.others))
        words = tf.zeros([batch, 0], tf.string) if words is None else words
        grouped = _grouped(history)

        def of_sources(part: PartScores) -> tf.Tensor:
            """float32 `[batch, n, sources]`."""
            listed = (part.history, tf.shape(history)[1]), (part.words, tf.shape(words)[1])
            of_history, of_words = (
                tf.zeros([batch, n, width]) if values is None else values for values, width in listed
            )
            others = [part.others.get(source, zeros)[:, :, None] for source in named]
            return tf.concat([tf.matmul(of_history, grouped), of_words, *others], 2)

        each = tf.stack([of_sources(part) for part in parts], -1)
        base = tf.stack([zeros if part.base is None else part.base for part in parts], -1)
        total = tf.reduce_sum(each, 2)
        size = tf.abs(tf.reduce_sum(each, -1))
        positions = tf.math.top_k(size, tf.minimum(count, tf.shape(size)[2])).indices
        listed = tf.gather(each, positions, batch_dims=2)
        there = tf.reduce_any(listed != 0.0, -1)

        def column(of_history: tf.Tensor, of_words: tf.Tensor, of_named: list[str]) -> tf.Tensor:
            """A string for each listed source."""
            others = tf.broadcast_to(tf.constant(of_named, tf.string), [batch, len(of_named)])
            known = tf.concat([of_history, of_words, others], 1)
            names = tf.gather(known, tf.reshape(positions, [batch, -1]), batch_dims=1)
            return tf.where(there, tf.reshape(names, tf.shape(positions)), "")

        kinds = [tf.fill(tf.shape(some), kind) for some, kind in ((history, "history"), (words, "word"))]
        ids, titles = (tf.gather(some, history) for some in (self.serving.item_ids, self.serving.titles))
        return {
            "part_names": tf.constant([part.name for part in parts]),
            "parts": scores,
            "base": base,
            "others": total - tf.reduce_sum(listed, 2),
            "completeness_error": scores - base - total,
            "source_kinds": column(kinds[0], kinds[1], [kind for kind, _ in named]),
            "sources": column(ids, words, [name for _, name in named]),
            "source_titles": column(titles, tf.fill(tf.shape(words), ""), [""] * len(named)),
            "contributions": listed,
        }


def contains(lists: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """bool `[batch, n]`: which of int32 `[batch, n]` rows are in int32 `[batch, any]` lists."""
    return tf.reduce_any(rows[:, :, None] == lists[:, None, :], 2)


def first_of(states: Sequence[tuple[str, tf.Tensor]], otherwise: str) -> tf.Tensor:
    """The name of the first condition that holds: string of the shape of the bool conditions."""
    state = tf.fill(tf.shape(states[0][1]), otherwise)
    for name, holds in reversed(states):
        state = tf.where(holds, name, state)
    return state


def _grouped(history: tf.Tensor) -> tf.Tensor:
    """float32 `[batch, H, H]` that adds up contributions of an item which a history holds more than once, at
    its first position; nothing of padding."""
    same = history[:, :, None] == history[:, None, :]
    leader = tf.one_hot(tf.argmax(tf.cast(same, tf.int32), 2), tf.shape(history)[1])
    return leader * tf.cast(history > 0, tf.float32)[:, :, None]
