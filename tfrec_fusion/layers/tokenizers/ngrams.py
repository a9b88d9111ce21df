"""Words and their character n-grams as hashed ids, of any language, in TensorFlow's string operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text
import tf_keras

from tfrec_fusion.layers.tokenizers.base import Frame, TextTokenizer
from tfrec_fusion.layers.tokenizers.strings import lower

# Written without spaces: Thai, Lao, Burmese, Khmer, kana, ideographs.
_UNSPACED = (
    r"\x{E00}-\x{EFF}\x{1000}-\x{109F}\x{1780}-\x{17FF}\x{3040}-\x{30FF}\x{31F0}-\x{31FF}\x{3400}-\x{9FFF}"
    r"\x{F900}-\x{FAFF}\x{20000}-\x{3FFFF}"
)
_SPACED_WIDTHS, _UNSPACED_WIDTHS = (3, 4, 5), (1, 2, 3)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class NgramTokenizer(TextTokenizer):
    """Hashes each word and its character n-grams, as fastText does: no vocabulary, so no language is unknown.

    A word between spaces gives itself and the n-grams of 3 to 5 characters of ``<word>``; a run of a script
    without spaces (Japanese, Chinese, Thai) gives n-grams of 1 to 3 characters. Texts are NFKC and
    lower-cased. A quarter of the buckets is for words, the rest for n-grams; ids begin at 1.
    `NgramEncoder` makes vectors of them.

    >>> tokenizer = NgramTokenizer(buckets=1000, max_length=8)
    >>> tokenizer(["Tea", "tea"])["attention_mask"].numpy().sum(1).tolist()
    [7, 7]

    Args:
        buckets: how many ids there are.
        max_length, pad_to, added_tokens: see `TextTokenizer`; tokens are words and n-grams.

    Raises:
        ValueError: if `buckets` is less than 4.

    Reference: Bojanowski et al., 2017, https://arxiv.org/abs/1607.04606
    """

    def __init__(
        self,
        buckets: int = 2**15,
        max_length: int = 512,
        pad_to: str = "max_length",
        added_tokens: Iterable[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length=max_length, pad_to=pad_to, added_tokens=added_tokens, **kwargs)
        if buckets < 4:
            raise ValueError(f"`buckets` must be at least 4. Received: {buckets}. Take some thousands.")
        self.buckets = buckets

    @property
    def frame(self) -> Frame:
        return Frame()

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        text = tf.strings.regex_replace(tf_text.normalize_utf8(text, "NFKC"), r"\x{0}", " ")
        return lower(text)

    def _split(self, text: tf.Tensor, first: tf.Tensor) -> tf.RaggedTensor:
        text = tf.strings.regex_replace(text, r"[^\p{L}\p{M}\p{N}]+", " ")
        words = tf.strings.split(tf.strings.regex_replace(text, f"([{_UNSPACED}]+)", r" \1 "))
        flat = words.flat_values
        unspaced = tf.strings.regex_full_match(flat, f"[{_UNSPACED}]+")
        spaced = tf.where(unspaced, "", tf.strings.join(["<", flat, ">"]))
        runs = tf.where(unspaced, flat, "")
        grams = [_ngrams(spaced, _SPACED_WIDTHS), _ngrams(runs, _UNSPACED_WIDTHS)]
        grams = tf.concat(grams, axis=1)
        for_words = self.buckets // 4
        ids = grams.with_flat_values(1 + for_words + _hashed(grams.flat_values, self.buckets - for_words))
        whole = tf.RaggedTensor.from_uniform_row_length(1 + _hashed(flat, for_words), 1, validate=False)
        return words.with_flat_values(tf.concat([whole, ids], axis=1)).merge_dims(1, 2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "buckets": self.buckets}


def _ngrams(words: tf.Tensor, widths: tuple[int, ...]) -> tf.RaggedTensor:
    characters = tf.strings.unicode_split(words, "UTF-8")
    return tf.strings.ngrams(characters, widths, separator="")


def _hashed(strings: tf.Tensor, buckets: int) -> tf.Tensor:
    return tf.cast(tf.strings.to_hash_bucket_fast(strings, buckets), tf.int32)
