"""SentencePiece models written without the package, and run by TF Text's operation inside the graph."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Types of a piece (`sentencepiece_model.proto`): only normal ones are looked for in a text."""

UNIGRAM, BPE, CHAR = 1, 2, 4
"""Types of a model."""

UNKNOWN_PIECE = "\U000f1eeb<unk>"  # the name of the piece that stands for what no piece covers
_NONE = (1 << 64) - 1  # -1 as an unsigned varint


def write_model(
    kind: int, pieces: Iterable[tuple[str, float, int]], charsmap: bytes = b"", byte_fallback: bool = False
) -> bytes:
    """A serialised `sentencepiece.ModelProto` that splits strings as they are: no dummy prefix, no spaces
    removed or escaped.

    Args:
        kind: `UNIGRAM`, `BPE` or `CHAR`.
        pieces: text, score and type of each piece in the order of the ids; none twice, exactly one `UNKNOWN`.
        charsmap: a precompiled charsmap that strings go through first; empty for none.
        byte_fallback: whether what no piece covers becomes pieces of type `BYTE`.

    Returns:
        The bytes that `split` takes.

    Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    parts, unknown = [], 0
    for place, (text, score, piece_kind) in enumerate(pieces):
        unknown = place if piece_kind == UNKNOWN else unknown
        piece = _bytes(1, text.encode()) + _float(2, score) + _integer(3, piece_kind)
        parts.append(_bytes(1, piece))
    trainer = _integer(3, kind) + _integer(35, int(byte_fallback)) + _integer(40, unknown)
    trainer += b"".join(_integer(field, _NONE) for field in (41, 42, 43))  # no ids for begin, end, padding
    trainer += _bytes(45, UNKNOWN_PIECE.encode())
    normalizer = _bytes(1, b"identity") + _bytes(2, charsmap)
    normalizer += b"".join(_integer(field, 0) for field in (3, 4, 5))
    return b"".join(parts) + _bytes(2, trainer) + _bytes(3, normalizer)


def read_model(content: bytes) -> tuple[int, list[tuple[str, float, int]], bytes]:
    """Reads what a model file says: its type, its pieces and its precompiled charsmap.

    Raises:
        ValueError: for bytes that are no SentencePiece model.
    """
    kind, charsmap = UNIGRAM, b""
    pieces: list[tuple[str, float, int]] = []
    try:
        for field, value in _fields(content):
            if field == 1:
                piece: dict[int, Any] = dict(_fields(_message(value)))
                (score,) = struct.unpack("<f", piece[2])
                pieces.append((piece[1].decode(), score, piece.get(3, NORMAL)))
            elif field == 2:
                kind = int(dict(_fields(_message(value))).get(3, UNIGRAM))
            elif field == 3:
                charsmap = _message(dict(_fields(_message(value))).get(2, b""))
    except (KeyError, IndexError, TypeError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(
            f"A SentencePiece model must be a whole ModelProto. Received: {len(content)} bytes, of which a"
            f" part cannot be read ({type(error).__name__}: {error}). Download the file again."
        ) from error
    if not pieces:
        raise ValueError(
            f"A SentencePiece model must hold pieces. Received: {len(content)} bytes without any. Download"
            " the file again."
        )
    return kind, pieces, charsmap


def _message(value: bytes | int) -> bytes:
    """A field that holds bytes, of which the format makes messages too.

    Raises:
        TypeError: where the file has a number there.
    """
    if isinstance(value, int):
        raise TypeError("a number where bytes belong")
    return value


def split(model: bytes, texts: tf.Tensor, out_type: tf.DType = tf.int32) -> tf.RaggedTensor:
    """Splits strings `[n]` into pieces, ragged `[n, (pieces)]`: positions in the model, or the texts with
    `out_type` `tf.string`.

    The model is an attribute of an operation in the graph, which reads it once: nothing has to be tracked,
    saved or initialised beside the graph.
    """
    # `SentencepieceTokenizer` of TF Text wants a resource that is made outside the graph. Operations of one
    # name share theirs after `tf.saved_model.load`, in whatever functions they stand: of two models in one
    # SavedModel, one would be used for both.
    name = f"Sentencepiece_{hashlib.sha256(model).hexdigest()[:16]}"
    resource = gen_sentencepiece_tokenizer.sentencepiece_op(model=model, name=name)
    values, splits = gen_sentencepiece_tokenizer.sentencepiece_tokenize_op(
        resource, texts, 0, 1.0, False, False, False, out_type
    )
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of a message's fields."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 2: None, 5: 4}[key & 7]
        length = varint() if length is None else length
        if at + length > len(content):
            raise ValueError("a field goes past the end")
        yield key >> 3, content[at : at + length]
        at += length
