"""Base of in-graph tokenizers: added tokens, joining fields under one length budget, truncating, padding."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.tokenizers.added_tokens import AddedToken, Finder
from tfrec_fusion.layers.tokenizers.strings import as_utf8, says_something


@dataclasses.dataclass(frozen=True)
class Frame:
    """Special tokens around a text and its fields, as ids.

    Attributes:
        before, after: in front of the first field and behind the last.
        between: between two fields.
        later_type: token type of every field but the first, and of `after` behind them.
        padding: what fills a row.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    later_type: int = 0
    padding: int = 0


class TextTokenizer(tf_keras.layers.Layer):
    """Base class: a subclass turns strings into ragged ids (`_normalize`, `_split`), this class makes a batch
    of them.

    One field becomes ``[CLS] a [SEP]``, several become ``[CLS] a [SEP] b [SEP] c [SEP]``, with the special
    tokens of the encoder (MPNet and RoBERTa put two separators between fields, GPT-2 none). An empty field
    keeps its separator, as in Hugging Face's pairs.

    **Special tokens in a text** are text: with ``split_special_tokens=True`` Hugging Face does the same, and
    nobody can forge a separator. **Added tokens** that are not special are one token wherever they stand.

    **Budget.** `max_length` counts every token of a row, special ones included. Fields that do not fit
    together share the room by max-min fairness: a field shorter than an equal share is kept whole and what it
    leaves goes to the longer ones, which get equal parts; a remainder goes to the longest (of equally long
    ones, to the last). For two fields this is exactly Hugging Face's ``longest_first``. A field is cut at its
    end.

    **Token types.** 0 for what stands before and in the first field, `Frame.later_type` for every later field
    (BERT was trained with two segments, so it has no third type), 0 for padding. `TextEncoder` ignores them
    for models without segments.

    Args:
        max_length: the most tokens in a row; at least the special tokens and one token a field.
        pad_to: ``"max_length"`` pads every batch to `[batch, max_length]`, the fixed shape that accelerators
            want; ``"longest"`` pads to the longest row of the batch, so that a short query costs little.
            Padding is on the right, also of encoders whose files say left: a mask tells them apart.
        added_tokens: mappings with the attributes of an `AddedToken`.
    """

    def __init__(
        self,
        max_length: int = 64,
        pad_to: str = "max_length",
        added_tokens: Iterable[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("trainable", False)
        kwargs.setdefault("dtype", "int32")
        super().__init__(**kwargs)
        if pad_to not in ("max_length", "longest"):
            raise ValueError(f"`pad_to` must be 'max_length' or 'longest'. Received: pad_to={pad_to!r}.")
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 3:
            raise ValueError(
                "`max_length` must be an integer of at least 3: two special tokens and one of the text. "
                f"Received: max_length={max_length!r}."
            )
        self.max_length = max_length
        self.pad_to = pad_to
        self.added_tokens = tuple(dataclasses.asdict(AddedToken(**token)) for token in added_tokens)
        self._finders: tuple[Finder, Finder] | None = None

    @property
    def frame(self) -> Frame:
        """Special tokens around the fields."""
        raise NotImplementedError

    @property
    def num_special_tokens(self) -> int:
        """How many tokens a row of one field has that says nothing."""
        return len(self.frame.before) + len(self.frame.after)

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        """What happens to strings `[n]` before they are split, added tokens taken out."""
        raise NotImplementedError

    def _split(self, text: tf.Tensor, first: tf.Tensor) -> tf.RaggedTensor:
        """Normalised strings `[n]` to ids, int32 ragged `[n, (tokens)]`; `first`: bool `[n]`, whether a
        string begins its text."""
        raise NotImplementedError

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Turns strings into ids without special tokens.

        Args:
            text: string `[n]`; bytes that are no UTF-8 are U+FFFD.

        Returns:
            int32 ragged `[n, (tokens)]`.
        """
        text = as_utf8(text)
        if not self.added_tokens:
            return self._split(self._normalize(text), tf.fill(tf.shape(text), True))
        raw, normalized = self._finder()
        segments = tf.RaggedTensor.from_uniform_row_length(text, 1, validate=False)
        segments, found = raw(segments, tf.fill(tf.shape(text), -1))
        segments = segments.with_flat_values(self._normalize(segments.flat_values))
        segments, found = normalized(segments, found)
        row = segments.value_rowids()
        first = tf.range(tf.size(row, tf.int64), dtype=tf.int64) == tf.gather(segments.row_starts(), row)
        tokens = self._split(tf.where(found >= 0, "", segments.flat_values), first)
        own = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(found, found >= 0), tf.cast(found >= 0, tf.int64), validate=False
        )
        tokens = tf.concat([tokens, own], axis=1)
        return segments.with_flat_values(tokens).merge_dims(1, 2)

    def _finder(self) -> tuple[Finder, Finder]:
        if self._finders is None:
            tokens = [AddedToken(**token) for token in self.added_tokens]
            raw = [token for token in tokens if not token.normalized]
            rest = [token for token in tokens if token.normalized]
            # Kept as one object, which Keras does not look into.
            self._finders = (Finder(raw), Finder(rest, self._normalize))
        return self._finders

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tokenizes, joins the fields, truncates and pads.

        Args:
            inputs: string `[batch]` or `[batch, fields]`, UTF-8; bytes that are no UTF-8 are U+FFFD.

        Returns:
            `input_ids`, `attention_mask` (1 for tokens, 0 for padding) and `token_type_ids`, each int32
            `[batch, length]` with `length` = `max_length`, or the longest row for ``pad_to="longest"``.

        Raises:
            ValueError: if `inputs` is not of dtype string, has another rank or an unknown number of fields,
                or has more fields than `max_length` has room for.
        """
        text = tf.convert_to_tensor(inputs)
        fields = self._check(text)
        if text.shape.rank == 1:
            text = text[:, tf.newaxis]
        tokens = self.tokenize(tf.reshape(text, [-1]))
        return self._pack(tokens, fields)

    def _check(self, text: tf.Tensor) -> int:
        if text.dtype != tf.string:
            raise ValueError(
                f"A tokenizer takes strings. Received: dtype {text.dtype.name}. "
                "Convert numbers with `tf.strings.as_string`."
            )
        if text.shape.rank not in (1, 2) or (text.shape.rank == 2 and text.shape[1] is None):
            raise ValueError(
                "A tokenizer takes strings of shape [batch] or [batch, fields] with a known number of"
                f" fields. Received: shape {text.shape}. Stack the fields with `tf.stack([title, overview],"
                " axis=1)`."
            )
        fields = 1 if text.shape.rank == 1 else text.shape[1]
        least = self.num_special_tokens + len(self.frame.between) * (fields - 1) + fields
        if fields < 1 or self.max_length < least:
            raise ValueError(
                "`max_length` must leave room for the special tokens and one token of each field: at least"
                f" {least} for {fields} field(s). Received: max_length={self.max_length}. Raise `max_length`"
                " or join fields into one string."
            )
        return fields

    def _pack(self, tokens: tf.RaggedTensor, fields: int) -> dict[str, tf.Tensor]:
        frame = self.frame
        lengths = tf.reshape(tf.cast(tokens.row_lengths(), tf.int32), [-1, fields])
        special = self.num_special_tokens
        kept = fair_shares(lengths, self.max_length - special - len(frame.between) * (fields - 1))
        # A field begins behind what stands before all, the fields before it, and their separators.
        starts = len(frame.before) + tf.cumsum(kept + len(frame.between), axis=1, exclusive=True)
        ends = starts + kept
        totals = ends[:, -1:] + len(frame.after)
        longest = tf.maximum(tf.reduce_max(totals), max(special, 1))
        width = self.max_length if self.pad_to == "max_length" else longest
        position = tf.range(width)[tf.newaxis, :]
        real = position < totals
        base = tf.fill(tf.shape(real), frame.padding)
        base = _put(base, position, tf.zeros_like(totals), frame.before)
        for field in range(fields - 1):
            base = _put(base, position, ends[:, field : field + 1], frame.between)
        base = _put(base, position, ends[:, -1:], frame.after)
        row = tokens.value_rowids()
        column = tf.range(tf.size(row)) - tf.gather(tf.cast(tokens.row_starts(), tf.int32), row)
        is_kept = column < tf.gather(tf.reshape(kept, [-1]), row)
        where = tf.stack(
            [tf.cast(row, tf.int32) // fields, column + tf.gather(tf.reshape(starts, [-1]), row)], 1
        )
        ids = tf.tensor_scatter_nd_update(
            base, tf.boolean_mask(where, is_kept), tf.boolean_mask(tokens.flat_values, is_kept)
        )
        mask = tf.cast(real, tf.int32)
        if fields > 1 and frame.later_type:
            types = tf.cast(real & (position >= starts[:, 1:2]), tf.int32) * frame.later_type
        else:
            types = tf.zeros_like(mask)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    def compute_output_shape(self, input_shape: Any) -> dict[str, tf.TensorShape]:
        length = self.max_length if self.pad_to == "max_length" else None
        shape = tf.TensorShape([tf.TensorShape(input_shape)[0], length])
        return {name: shape for name in ("input_ids", "attention_mask", "token_type_ids")}

    def digest(self) -> str:
        """A sha256 over everything that decides the ids: a key for caches of what was made from them.

        `pad_to`, the layer's name and dtype do not count, because they change no vector.
        """
        config = self.get_config()
        for name in ("name", "dtype", "trainable", "pad_to"):
            config.pop(name, None)
        content = json.dumps([type(self).__name__, config], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "pad_to": self.pad_to,
            "added_tokens": [dict(token) for token in self.added_tokens],
        }


def catalogue_tokens(tokenizer: TextTokenizer, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
    """Tokens of items' texts, without any where a text says nothing.

    Args:
        tokenizer: pads to its `max_length`.
        texts: string `[items]`.

    Returns:
        `input_ids` and `attention_mask`, int32 `[items, length]`; a row of padding alone, mask 0, for an item
        without a text.
    """
    texts = tf.convert_to_tensor(texts, tf.string)
    tokens = tokenizer(texts)
    said = says_something(texts)[:, tf.newaxis]
    ids = tf.where(said, tokens["input_ids"], tokenizer.frame.padding)
    return {"input_ids": ids, "attention_mask": tf.where(said, tokens["attention_mask"], 0)}


def _put(base: tf.Tensor, position: tf.Tensor, start: tf.Tensor, ids: tuple[int, ...]) -> tf.Tensor:
    """int32 `[batch, width]` with `ids` from each row's `start`, `[batch, 1]`, on."""
    for offset, token in enumerate(ids):
        base = tf.where(position == start + offset, token, base)
    return base


def fair_shares(lengths: tf.Tensor, room: int) -> tf.Tensor:
    """Divides `room` among fields by max-min fairness.

    Args:
        lengths: int32 `[batch, fields]`, what each field would take.
        room: what there is for all fields of a row.

    Returns:
        int32 `[batch, fields]`, at most `lengths`, summing to at most `room` in each row.
    """
    fields = lengths.shape[1]
    if fields == 1:
        return tf.minimum(lengths, room)
    # Shortest first: each takes at most an equal part of what is left, so the remainder falls to the longest.
    order = tf.argsort(lengths, axis=1, stable=True)
    ascending = tf.gather(lengths, order, batch_dims=1)
    left = tf.fill([tf.shape(lengths)[0]], room)
    shares = []
    for place in range(fields):
        share = tf.minimum(ascending[:, place], left // (fields - place))
        shares.append(share)
        left -= share
    return tf.gather(tf.stack(shares, axis=1), tf.argsort(order, axis=1), batch_dims=1)
