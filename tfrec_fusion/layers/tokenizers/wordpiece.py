"""BERT's WordPiece tokenizer inside the TensorFlow graph, with Hugging Face's ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
import tf_keras
from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder as wordpiece_builder

from tfrec_fusion.layers.tokenizers.base import Frame, TextTokenizer
from tfrec_fusion.layers.tokenizers.bert_characters import (
    DROPPED,
    IDEOGRAPHS,
    MARKS,
    PUNCTUATION,
    SPACES,
    regex_class,
)
from tfrec_fusion.layers.tokenizers.strings import lower
from tfrec_fusion.layers.tokenizers.wordpiece_files import read_vocabulary, without_repeats

_MAX_WORD_CHARACTERS = 100  # BERT's `max_input_chars_per_word`; a longer word is unknown


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class WordPieceTokenizer(TextTokenizer):
    """BERT's WordPiece tokenizer as a layer: strings in, ids and masks out, equal to Hugging Face's ids.

    The ids are those of ``BertTokenizerFast(text, split_special_tokens=True)``: a literal ``[SEP]`` in a text
    is text and cannot forge a special token. Equality covers control characters, combining marks in any
    normal form, CJK, emoji, private use, Greek final sigma, and words over 100 characters. One difference is
    known: 88 capital letters that came into Unicode after 2021 (Vithkuqi, Garay, some Latin Extended-D) are
    not lower-cased here as they are there; in BERT's vocabularies both forms are unknown.

    The vocabulary is a constant of the graph, not a file or a lookup table: a SavedModel can be moved and
    needs no initialisation, and the layer works inside `tf.data` and a TFX `preprocessing_fn` (where the
    outputs must be cast to int64, the one integer type that Transform writes). All operations
    are linked into TensorFlow Serving. How fields are joined, truncated and padded: see `TextTokenizer`.

    >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "story", "##s"]
    >>> tokenizer = WordPieceTokenizer(vocabulary, max_length=6)
    >>> tokenizer(["Toy Stories", "TOY STORYS"])["input_ids"].numpy().tolist()
    [[2, 4, 1, 3, 0, 0], [2, 4, 5, 6, 3, 0]]

    Args:
        vocabulary: the tokens in the order of their ids, an empty one for an id that no text has; or the path
            of a file with one token a line. Of a token that stands there twice, the last counts, as in
            Hugging Face's.
        max_length: the most tokens in a row, special ones included.
        lowercase: whether the model is uncased.
        strip_accents: whether accents are removed; None means as `lowercase` says, BERT's own rule.
        split_ideographs: whether each CJK ideograph is a word (Hugging Face's `tokenize_chinese_chars`).
        cls_token, sep_token, pad_token, unk_token: the special tokens; each must be in the vocabulary.
        separators: separators between two fields: 1 for BERT, 2 for MPNet.
        pad_to: ``"max_length"`` or ``"longest"``.
        added_tokens: see `TextTokenizer`.

    Raises:
        ValueError: for a vocabulary that lacks a special token, or for a `max_length` under 3.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike,
        max_length: int = 64,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_ideographs: bool = True,
        cls_token: str = "[CLS]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        unk_token: str = "[UNK]",
        separators: int = 1,
        pad_to: str = "max_length",
        added_tokens: Iterable[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length=max_length, pad_to=pad_to, added_tokens=added_tokens, **kwargs)
        if isinstance(vocabulary, (str, os.PathLike)):
            vocabulary = read_vocabulary(vocabulary)
        # A tuple, because Keras wraps lists for tracking, which is slow to save at this length.
        self.vocabulary = without_repeats(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.split_ideographs = split_ideographs
        self.cls_token, self.sep_token = cls_token, sep_token
        self.pad_token, self.unk_token = pad_token, unk_token
        self.separators = separators
        ids = {token: place for place, token in enumerate(self.vocabulary) if token}
        for argument in ("cls_token", "sep_token", "pad_token", "unk_token"):
            if getattr(self, argument) not in ids:
                raise ValueError(
                    f"`{argument}` must be in the vocabulary ({len(ids)} tokens). Received: "
                    f"{argument}={getattr(self, argument)!r}. Name the token that this vocabulary uses."
                )
        self.cls_id, self.sep_id, self.pad_id = ids[cls_token], ids[sep_token], ids[pad_token]
        # Linear-time WordPiece (Song et al., 2021, https://arxiv.org/abs/2012.15524) on words already split.
        model = wordpiece_builder.build_fast_wordpiece_model(
            list(ids), 4 * _MAX_WORD_CHARACTERS, "##", unk_token, True, False
        )
        self._ids = None if len(ids) == len(self.vocabulary) else np.array(list(ids.values()), np.int32)
        self._model = np.frombuffer(model, np.uint8)
        self._constant: tf.Tensor | None = None
        self._drop = f"[{regex_class(DROPPED + ' ' + MARKS if self._strips else DROPPED)}]"
        self._space = f"[{regex_class(SPACES)}]"
        self._isolate = (
            f"([{regex_class(PUNCTUATION + ' ' + IDEOGRAPHS if split_ideographs else PUNCTUATION)}])"
        )

    @property
    def _strips(self) -> bool:
        return self.lowercase if self.strip_accents is None else self.strip_accents

    @property
    def frame(self) -> Frame:
        return Frame(
            (self.cls_id,),
            (self.sep_id,),
            (self.sep_id,) * self.separators,
            later_type=1,
            padding=self.pad_id,
        )

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        if self._strips:
            text = tf_text.normalize_utf8(text, "NFD")
        # U+FFFD, which bytes that are no UTF-8 have become, is dropped.
        text = tf.strings.regex_replace(text, self._drop, "")
        return lower(text) if self.lowercase else text

    def _split(self, text: tf.Tensor, first: tf.Tensor) -> tf.RaggedTensor:
        text = tf.strings.regex_replace(text, self._space, " ")
        words = tf.strings.split(tf.strings.regex_replace(text, self._isolate, r" \1 "))
        too_long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > _MAX_WORD_CHARACTERS
        words = words.with_flat_values(tf.where(too_long, self.unk_token, words.flat_values))
        tokenizer = tf_text.FastWordpieceTokenizer(model_buffer=self._buffer(), token_out_type=tf.int32)
        pieces = tokenizer.tokenize(words)
        pieces = pieces.merge_dims(1, 2)
        return (
            pieces if self._ids is None else pieces.with_flat_values(tf.gather(self._ids, pieces.flat_values))
        )

    def _buffer(self) -> tf.Tensor:
        """The vocabulary as the operation reads it, one tensor for all graphs: a SavedModel holds it once."""
        with tf.init_scope():
            if not tf.executing_eagerly():
                return tf.constant(self._model)
            if self._constant is None:
                self._constant = tf.constant(self._model)
            return self._constant

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary": list(self.vocabulary),
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "split_ideographs": self.split_ideographs,
            "cls_token": self.cls_token,
            "sep_token": self.sep_token,
            "pad_token": self.pad_token,
            "unk_token": self.unk_token,
            "separators": self.separators,
        }
