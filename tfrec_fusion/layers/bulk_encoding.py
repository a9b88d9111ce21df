"""Encodes many texts at once on the host, without paying for padding or for a text twice."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.base import TextTokenizer

_CHUNK = 4096  # texts tokenized at once; bounds memory, not the batch
_compiled: weakref.WeakKeyDictionary[TextEncoder, tuple[str, tf.types.experimental.PolymorphicFunction]] = (
    weakref.WeakKeyDictionary()
)


def encode_texts(
    tokenizer: TextTokenizer,
    encoder: TextEncoder,
    texts: Sequence[str] | Sequence[Sequence[str]],
    batch_size: int = 64,
) -> np.ndarray:
    """Encodes texts, each distinct one once, in batches of similar length.

    Texts are tokenized, sorted by their number of tokens and padded only to the longest of their batch. The
    encoder is traced once for all lengths.

    Args:
        tokenizer: its `pad_to` does not matter here.
        encoder: a built encoder; it runs without dropout.
        texts: strings, or rows of fields.
        batch_size: texts a batch.

    Returns:
        float32 `[len(texts), dim]`, in the order of `texts`.

    Raises:
        ValueError: if `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size!r}.")
    if len(texts) == 0:
        return np.zeros([0, encoder.dim], np.float32)
    distinct: dict[str | tuple[str, ...], int] = {}
    places = np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        key = text if isinstance(text, (str, bytes)) else tuple(text)
        places[place] = distinct.setdefault(key, len(distinct))
    keys = list(distinct)
    rows = [_tokenize(tokenizer, keys[begin : begin + _CHUNK]) for begin in range(0, len(keys), _CHUNK)]
    vectors = np.concatenate([encode_tokens(encoder, tokens, batch_size) for tokens in rows])
    return vectors[places]


def encode_tokens(encoder: TextEncoder, tokens: Mapping[str, np.ndarray], batch_size: int = 64) -> np.ndarray:
    """Encodes tokenized texts in batches of similar length, each padded only to its longest.

    Args:
        encoder: a built encoder; it runs without dropout.
        tokens: a tokenizer's output: int `[texts, length]` each; `token_type_ids` may be absent.
        batch_size: texts a batch.

    Returns:
        float32 `[texts, dim]`.
    """
    tokens = {"token_type_ids": np.zeros_like(tokens["input_ids"]), **tokens}
    vectors = np.empty([len(tokens["input_ids"]), encoder.dim], np.float32)
    forward = _forward(encoder)
    lengths = tokens["attention_mask"].sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = lengths[chosen[-1]]
        batch = {name: value[chosen, :width].astype(np.int32) for name, value in tokens.items()}
        vectors[chosen] = forward(**batch).numpy()
    return vectors


def _tokenize(tokenizer: TextTokenizer, texts: list) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tokenizer(tf.constant(texts, tf.string)).items()}


def _forward(encoder: TextEncoder) -> Callable[..., tf.Tensor]:
    """The encoder as one compiled function for all shapes, kept as long as the encoder lives and stays as it
    is."""
    kept = _compiled.get(encoder)
    if kept is None or kept[0] != encoder.stage:
        reference = weakref.ref(encoder)  # the function must not keep the encoder alive
        signature = tf.TensorSpec([None, None], tf.int32)

        @tf.function(input_signature=[signature] * 3, autograph=False)
        def compiled(input_ids: tf.Tensor, attention_mask: tf.Tensor, token_type_ids: tf.Tensor) -> tf.Tensor:
            tokens = dict(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            alive = reference()
            assert alive is not None  # whoever calls holds it
            return tf.cast(alive(tokens, training=False), tf.float32)

        kept = _compiled[encoder] = (encoder.stage, compiled)
    return kept[1]
