"""What every in-graph tokenizer shares: joining fields under one length budget, truncating, padding."""

from __future__ import annotations

import hashlib
import json

import tensorflow as tf
import tf_keras


class TextTokenizer(tf_keras.layers.Layer):
    """Base class: a subclass turns strings into ragged ids (`tokenize`), this class makes a batch of them.

    One field becomes ``[CLS] a [SEP]``, several become ``[CLS] a [SEP] b [SEP] c [SEP]`` (MPNet and RoBERTa
    put two separators between fields). An empty field keeps its separator, as in Hugging Face's pairs.

    **Budget.** `max_length` counts every token of a row, special ones included. Fields that do not fit
    together share the room by max-min fairness: a field shorter than an equal share is kept whole and what it
    leaves goes to the longer ones, which get equal parts; a remainder goes to the longest (of equally long
    ones, to the last). For two fields this is exactly Hugging Face's ``longest_first``. A field is cut at its
    end.

    **Token types.** 0 for ``[CLS]`` and the first field, 1 for every later field (BERT was trained with two
    segments, so it has no third type), 0 for padding. `TextEncoder` ignores them for models without segments.

    Args:
        max_length: the most tokens in a row; at least the special tokens and one token a field.
        pad_to: ``"max_length"`` pads every batch to `[batch, max_length]`, the fixed shape that accelerators
            want; ``"longest"`` pads to the longest row of the batch, so that a short query costs little.
    """

    def __init__(self, max_length: int = 64, pad_to: str = "max_length", **kwargs):
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

    # What a subclass sets: ids of the special tokens, separators between two fields.
    cls_id: int
    sep_id: int
    pad_id: int
    separators: int = 1

    def tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Turns strings into ids without special tokens: string `[n]` → int32 ragged `[n, (tokens)]`."""
        raise NotImplementedError

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tokenizes, joins the fields, truncates and pads.

        Args:
            inputs: string `[batch]` or `[batch, fields]`, UTF-8; bytes that are no UTF-8 are dropped.

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
        least = 2 + self.separators * (fields - 1) + fields
        if fields < 1 or self.max_length < least:
            raise ValueError(
                "`max_length` must leave room for the special tokens and one token of each field: at least"
                f" {least} for {fields} field(s). Received: max_length={self.max_length}. Raise `max_length`"
                " or join fields into one string."
            )
        return fields

    def _pack(self, tokens: tf.RaggedTensor, fields: int) -> dict[str, tf.Tensor]:
        lengths = tf.reshape(tf.cast(tokens.row_lengths(), tf.int32), [-1, fields])
        room = self.max_length - 2 - self.separators * (fields - 1)
        kept = fair_shares(lengths, room)
        # Field f begins after [CLS], the fields before it, and their separators.
        starts = 1 + tf.cumsum(kept + self.separators, axis=1, exclusive=True)
        totals = starts[:, -1:] + kept[:, -1:] + 1
        width = self.max_length if self.pad_to == "max_length" else tf.maximum(tf.reduce_max(totals), 2)
        position = tf.range(width)[tf.newaxis, :]
        real = position < totals
        # Whatever is neither padding, nor [CLS], nor a token of a field is a separator.
        base = tf.where(real, self.sep_id, self.pad_id)
        base = tf.where(position == 0, self.cls_id, base)
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
        if fields > 1:
            types = tf.cast(real & (position >= starts[:, 1:2]), tf.int32)
        else:
            types = tf.zeros_like(mask)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    def compute_output_shape(self, input_shape) -> dict[str, tf.TensorShape]:
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

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length, "pad_to": self.pad_to}


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
