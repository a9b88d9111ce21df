"""SentencePiece's and byte-level tokenizers inside the TensorFlow graph, with Hugging Face's ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.tokenizers import sentencepiece
from tfrec_fusion.layers.tokenizers.base import Frame, TextTokenizer
from tfrec_fusion.layers.tokenizers.merges import BYTE_CHARACTERS, bpe_pieces
from tfrec_fusion.layers.tokenizers.regexes import literal
from tfrec_fusion.layers.tokenizers.steps import PreTokenizer, flat, normalizers
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError

_UNKNOWN = (sentencepiece.UNKNOWN_PIECE, 0.0, sentencepiece.UNKNOWN)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class SubwordTokenizer(TextTokenizer):
    """A `tokenizer.json` with a unigram or BPE model as a layer: strings in, ids and masks out, equal to
    Hugging Face's.

    XLM-R, multilingual E5, BGE-M3, T5, Pegasus, BARThez (unigram); RoBERTa, GPT-2, ModernBERT, Qwen, SmolLM,
    DeepSeek, Llama 3 (byte-level BPE); Llama 2, Mistral, Gemma (BPE of characters). The ids are those of
    ``tokenizer(text, split_special_tokens=True)``. Normalising and splitting are TensorFlow's string
    operations, pieces are found by TF Text's SentencePiece operation, whose model is made from the
    vocabulary and stands in the graph: nothing needs to be tracked or initialised beside it, and all
    operations are linked into TensorFlow Serving.

    Known differences: SentencePiece adds scores in float32, Hugging Face in float64, so that of two ways to
    split a word that weigh the same to the sixth digit another may be chosen (runs of one character, such as
    `!!!!!!!`); NFKC and NFKD know no characters that came after Unicode 13.

    >>> from tfrec_fusion.layers.tokenizers.merges import BYTE_CHARACTERS
    >>> model = {"type": "BPE", "vocab": [*BYTE_CHARACTERS.values(), "ab"], "merges": [["a", "b"]]}
    >>> tokenizer = SubwordTokenizer(model, pre_tokenizer={"type": "ByteLevel"}, max_length=4)
    >>> tokenizer(["abba"])["input_ids"].numpy().tolist()
    [[256, 65, 64, 0]]

    Args:
        model: ``{"type": "Unigram", "vocab": [[piece, score], …], "unk_id": …, "byte_fallback": …}`` or
            ``{"type": "BPE", "vocab": [token, …], "merges": [[left, right], …], "unk_token": …,
            "byte_fallback": …}``, tokens in the order of their ids, empty ones for ids that none has.
        normalizer, pre_tokenizer: as in `tokenizer.json`; None for none.
        before, after, between: ids of special tokens around and between fields (`Frame`).
        later_type: token type of every field but the first.
        padding: the id that fills a row.
        max_length, pad_to, added_tokens: see `TextTokenizer`.

    Raises:
        ValueError: for a model, normalizer or pre-tokenizer that cannot be carried out here; it is named.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        normalizer: Mapping[str, Any] | None = None,
        pre_tokenizer: Mapping[str, Any] | None = None,
        before: Sequence[int] = (),
        after: Sequence[int] = (),
        between: Sequence[int] = (),
        later_type: int = 0,
        padding: int = 0,
        max_length: int = 64,
        pad_to: str = "max_length",
        added_tokens: Iterable[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length=max_length, pad_to=pad_to, added_tokens=added_tokens, **kwargs)
        # Past Keras, which looks at each entry of a dictionary for what it should track: here 100,000.
        object.__setattr__(self, "model", dict(model))
        self.normalizer = dict(normalizer) if normalizer else None
        self.pre_tokenizer = dict(pre_tokenizer) if pre_tokenizer else None
        self.before, self.after, self.between = tuple(before), tuple(after), tuple(between)
        self.later_type = later_type
        self.padding = padding
        self._normalizers = tuple(normalizers(normalizer))
        self._pre_tokenizer = PreTokenizer(pre_tokenizer)
        if self._pre_tokenizer.needs_first:
            for step in flat(normalizer, "normalizers"):
                if step["type"] in ("Strip", "Precompiled"):  # may take away where a text begins
                    raise UnsupportedTokenizerError(
                        f"the normalizer {step['type']!r} in front of prepend_scheme='first'"
                    )
        if self.model["type"] == "Unigram":
            self._model, self._ids = _unigram(self.model)
        elif self.model["type"] == "BPE":
            self._model, self._ids = _bpe(self.model, self._pre_tokenizer.bytes)
        else:
            raise UnsupportedTokenizerError(f"the model {self.model['type']!r}")
        # Hugging Face leaves out bytes that are no tokens; no text in use has them.
        missing = (
            set(BYTE_CHARACTERS.values()) - set(self.model["vocab"]) if self._pre_tokenizer.bytes else ()
        )
        self._left_out = f"[{''.join(map(literal, sorted(missing)))}]" if missing else ""
        # The unknown token as a piece of a text is one with what is unknown beside it.
        is_fused = self.model["type"] == "Unigram" and not self.model.get("byte_fallback")
        self._unknown = int(self._ids[-1]) if is_fused else None
        # One function in the graph however often the layer is called: it holds the whole model.
        self._graph = tf.function(
            self._pieces,
            input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.bool)],
            autograph=False,
        )

    @property
    def frame(self) -> Frame:
        return Frame(self.before, self.after, self.between, self.later_type, self.padding)

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        for step in self._normalizers:
            text = step(text)
        return text

    def _split(self, text: tf.Tensor, first: tf.Tensor) -> tf.RaggedTensor:
        values, splits = self._graph(text, first)
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    def _pieces(self, text: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        words = self._pre_tokenizer(text, first)
        if self._left_out:
            words = words.with_flat_values(tf.strings.regex_replace(words.flat_values, self._left_out, ""))
        pieces = sentencepiece.split(self._model, words.flat_values)
        pieces = pieces.with_flat_values(tf.gather(tf.constant(self._ids), pieces.flat_values))
        if self._unknown is not None:
            pieces = _fused(pieces, self._unknown)
        tokens = words.with_flat_values(pieces).merge_dims(1, 2)
        return tokens.flat_values, tokens.row_splits

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": dict(self.model),
            "normalizer": _plain(self.normalizer),
            "pre_tokenizer": _plain(self.pre_tokenizer),
            "before": list(self.before),
            "after": list(self.after),
            "between": list(self.between),
            "later_type": self.later_type,
            "padding": self.padding,
        }


def _plain(value: Any) -> Any:
    """Keras' tracked lists and dictionaries as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _fused(pieces: tf.RaggedTensor, unknown: int) -> tf.RaggedTensor:
    """Runs of the unknown token within a word as one."""
    is_unknown, row = pieces.flat_values == unknown, pieces.value_rowids()
    again = is_unknown[1:] & is_unknown[:-1] & (row[1:] == row[:-1])
    kept = tf.concat([tf.ones_like(is_unknown[:1]), ~again], axis=0)
    return tf.ragged.boolean_mask(pieces, pieces.with_flat_values(kept))


def _unigram(model: Mapping[str, Any]) -> tuple[bytes, np.ndarray]:
    """The model for SentencePiece, and the id of each of its pieces."""
    unknown = model.get("unk_id")
    if unknown is None:
        raise UnsupportedTokenizerError("a unigram model without unk_id")
    fallback = bool(model.get("byte_fallback"))
    pieces, ids, seen = [], [], set()
    for place, (piece, score) in enumerate(model["vocab"]):
        if piece in seen:
            raise UnsupportedTokenizerError(f"a unigram model that has {piece!r} twice")
        if piece:
            seen.add(piece)
            is_byte = fallback and len(piece) == 6 and piece.startswith("<0x")
            pieces.append((piece, score, sentencepiece.BYTE if is_byte else sentencepiece.NORMAL))
            ids.append(place)
    pieces.append(_UNKNOWN)
    fallback = fallback and sum(kind == sentencepiece.BYTE for _, _, kind in pieces) == 256
    content = sentencepiece.write_model(sentencepiece.UNIGRAM, pieces, byte_fallback=fallback)
    return content, np.array([*ids, unknown], np.int32)


def _bpe(model: Mapping[str, Any], is_bytes: bool) -> tuple[bytes, np.ndarray]:
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UnsupportedTokenizerError(f"a BPE model with {name}={model[name]!r}")
    vocabulary = {token: place for place, token in enumerate(model["vocab"]) if token}
    fallback, unknown = bool(model.get("byte_fallback")), model.get("unk_token")
    if is_bytes:
        if unknown is not None:
            raise UnsupportedTokenizerError(f"a byte-level BPE model with unk_token={unknown!r}")
    elif unknown not in vocabulary or not model.get("fuse_unk"):
        # Hugging Face leaves out what is unknown then, or repeats the token; SentencePiece does neither.
        raise UnsupportedTokenizerError(
            f"a BPE model of characters with unk_token={unknown!r} and fuse_unk="
            f"{model.get('fuse_unk', False)}."
        )
    pieces = [*bpe_pieces(vocabulary, [tuple(pair) for pair in model["merges"]], fallback), _UNKNOWN]
    if model.get("ignore_merges"):
        hidden = [text for text, _, kind in pieces if kind == sentencepiece.CONTROL]
        made = {left + right for left, right in model["merges"]}
        if lost := [text for text in hidden if text in made]:
            raise UnsupportedTokenizerError(
                f"ignore_merges=true with {lost[0]!r}, which the merges do not make"
            )
    content = sentencepiece.write_model(sentencepiece.BPE, pieces, byte_fallback=fallback)
    return content, np.array([*vocabulary.values(), vocabulary.get(unknown, 0)], np.int32)
