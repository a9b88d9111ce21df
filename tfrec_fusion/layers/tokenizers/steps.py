"""Normalizers and pre-tokenizers of `tokenizer.json`, as functions of string tensors.

Each is made from its JSON and does what Hugging Face's of the same `type` does; what there is not here is
refused by name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from tfrec_fusion.layers.tokenizers.charsmap import CharsMap
from tfrec_fusion.layers.tokenizers.merges import BYTE_CHARACTERS
from tfrec_fusion.layers.tokenizers.regexes import GPT2, Splitter, cut, literal, to_re2
from tfrec_fusion.layers.tokenizers.strings import lower
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError

Step = Callable[[tf.Tensor], tf.Tensor]
Json = Mapping[str, Any]

_SPACE = to_re2(r"\s")
_ASCII_PUNCTUATION = r"!-\/:-@\[-`{-~"


def normalizers(spec: Json | None) -> list[Step]:
    """The functions that a text goes through before it is split, in their order.

    Raises:
        ValueError: for a normalizer that there is not here.
    """
    return [_normalizer(step) for step in flat(spec, "normalizers")]


def flat(spec: Json | None, key: str) -> Iterator[Json]:
    """The steps of a `Sequence`, or the one step; `key` is where a sequence keeps them."""
    if not spec:
        return
    if spec["type"] == "Sequence":
        for step in spec[key]:
            yield from flat(step, key)
    else:
        yield spec


def _normalizer(spec: Json) -> Step:
    kind = spec["type"]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return lambda texts: tf_text.normalize_utf8(texts, kind)
    if kind == "Lowercase":
        return _lower
    if kind == "Precompiled":
        blob = base64.b64decode(spec["precompiled_charsmap"] or "")
        return CharsMap(blob) if blob else tf.identity
    if kind == "Replace":
        pattern, content = _pattern(spec["pattern"]), spec["content"].replace("\\", "\\\\")
        return lambda texts: tf.strings.regex_replace(texts, pattern, content)
    if kind == "Prepend":
        content = spec["prepend"]
        return lambda texts: tf.where(texts == "", texts, tf.strings.join([content, texts]))
    if kind == "Strip":
        ends = [rf"^{_SPACE}+"] * bool(spec["strip_left"]) + [rf"{_SPACE}+$"] * bool(spec["strip_right"])
        pattern = "|".join(ends)
        return (lambda texts: tf.strings.regex_replace(texts, pattern, "")) if ends else tf.identity
    raise UnsupportedTokenizerError(f"the normalizer {kind!r}")


def _lower(texts: tf.Tensor) -> tf.Tensor:
    # A noncharacter stands for NUL meanwhile.
    texts = lower(tf.strings.regex_replace(texts, r"\x{0}", "\ufdd3"))
    return tf.strings.regex_replace(texts, "\ufdd3", b"\0")


def _pattern(spec: Json | str) -> str:
    if isinstance(spec, str):
        return literal(spec)
    return literal(spec["String"]) if "String" in spec else to_re2(spec["Regex"])


class PreTokenizer:
    """Splits texts into the words that a model of subwords is given one by one.

    Args:
        spec: `pre_tokenizer` of a `tokenizer.json`; None for none.

    Raises:
        ValueError: for a pre-tokenizer that there is not here.
    """

    def __init__(self, spec: Json | None):
        self.steps: list[tuple[str, Callable]] = []
        self.bytes = False  # whether the model's characters stand for bytes
        for step in flat(spec, "pretokenizers"):
            self._add(step)

    def _add(self, spec: Json) -> None:
        kind = spec["type"]
        if self.bytes:
            raise UnsupportedTokenizerError(f"the pre-tokenizer {kind!r} behind 'ByteLevel'")
        if kind == "ByteLevel":
            self.bytes = True
            if spec.get("add_prefix_space"):
                self.steps.append(("map", _with_space))
            if spec.get("use_regex", True):
                self.steps.append(("cut", Splitter(GPT2)))
        elif kind == "Split":
            pattern, behavior = spec["pattern"], spec["behavior"]
            regex = pattern["Regex"] if "Regex" in pattern else literal(pattern["String"])
            if spec.get("invert"):
                # What matches is kept, the rest is dropped: of a pattern that covers everything, nothing is.
                if not (regex.endswith((r"|\s+", r"|\s")) and behavior == "Removed"):
                    raise UnsupportedTokenizerError(
                        f"the pre-tokenizer 'Split' with invert=true and {regex!r}"
                    )
                behavior = "Isolated"
            self.steps.append(("cut", Splitter(regex, behavior)))
        elif kind == "Digits":
            each = "" if spec.get("individual_digits") else "+"
            self.steps.append(("cut", Splitter(rf"\p{{N}}{each}")))
        elif kind == "Punctuation":
            pattern = rf"[{_ASCII_PUNCTUATION}\p{{P}}]"
            self.steps.append(("cut", Splitter(pattern, spec.get("behavior", "Isolated"))))
        elif kind == "WhitespaceSplit":
            self.steps.append(("cut", Splitter(r"\s", "Removed")))
        elif kind == "Metaspace":
            self._metaspace(spec)
        else:
            raise UnsupportedTokenizerError(f"the pre-tokenizer {kind!r}")

    def _metaspace(self, spec: Json) -> None:
        mark = spec.get("replacement", "▁")
        scheme = spec.get("prepend_scheme") or ("always" if spec.get("add_prefix_space", True) else "never")
        if scheme == "first" and self.steps:
            raise UnsupportedTokenizerError(
                "the pre-tokenizer 'Metaspace' with prepend_scheme='first' behind another"
            )
        space = literal(" ")
        self.steps.append(("map", lambda texts: tf.strings.regex_replace(texts, space, mark)))
        if scheme != "never":
            self.steps.append(
                ("map" if scheme == "always" else "first", lambda texts: _prefixed(texts, mark))
            )
        if spec.get("split", True):
            self.steps.append(("cut", Splitter(literal(mark), "MergedWithNext")))

    @property
    def needs_first(self) -> bool:
        """Whether it does something else where a text begins."""
        return any(kind == "first" for kind, _ in self.steps)

    def __call__(self, texts: tf.Tensor, first: tf.Tensor) -> tf.RaggedTensor:
        """Splits.

        Args:
            texts: string `[n]`, normalised.
            first: bool `[n]`, whether nothing stands before the text in what it is a part of.

        Returns:
            string ragged `[n, (words)]`; of a byte-level model, in the characters that stand for bytes.
        """
        words = tf.RaggedTensor.from_uniform_row_length(texts, 1, validate=False)
        words = tf.ragged.boolean_mask(words, words != "")
        is_cut = False
        for kind, step in self.steps:
            if kind == "cut":
                words, is_cut = words.with_flat_values(step(words.flat_values)), True
                continue
            if is_cut:
                words, is_cut = words.with_flat_values(cut(words.flat_values)).merge_dims(1, 2), False
            changed = step(words.flat_values)
            if kind == "first":
                changed = tf.where(tf.gather(first, words.value_rowids()), changed, words.flat_values)
            words = words.with_flat_values(changed)
        if is_cut:
            words = words.with_flat_values(cut(words.flat_values)).merge_dims(1, 2)
        return words.with_flat_values(_as_bytes(words.flat_values)) if self.bytes else words


def _with_space(texts: tf.Tensor) -> tf.Tensor:
    return _prefixed(texts, " ")


def _prefixed(texts: tf.Tensor, mark: str) -> tf.Tensor:
    begins = tf.strings.substr(texts, 0, len(mark.encode())) == mark
    return tf.where(begins, texts, tf.strings.join([mark, texts]))


def _as_bytes(words: tf.Tensor) -> tf.Tensor:
    """Each byte as the character that stands for it."""
    pieces = tf.strings.bytes_split(words)
    values = tf.reshape(tf.io.decode_raw(pieces.flat_values, tf.uint8), [-1])
    points = tf.constant([ord(BYTE_CHARACTERS[byte]) for byte in range(256)])
    return tf.strings.unicode_encode(
        pieces.with_flat_values(tf.gather(points, tf.cast(values, tf.int32))), "UTF-8"
    )
