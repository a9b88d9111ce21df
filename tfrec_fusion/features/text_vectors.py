"""Items' texts into vectors, each distinct text once, kept between runs by content.

Vectors lie in shards in a folder; a shard appears whole (written beside, then renamed), so that a run that is
killed goes on from the last one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfrec_fusion import files
from tfrec_fusion.config import ConfigError, TextConfig
from tfrec_fusion.training import progress

SHARD = 4096
# What NumPy raises for a file that was cut, or holds other bytes than were written.
UNREADABLE = (
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    KeyError,
    zlib.error,
    struct.error,
    NotImplementedError,
)


def digest_rows(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """16-byte digests of token rows `[n, length]`, padding left out, as an array of `S16`."""
    rows = [
        ids[: mask.sum()].astype("<i4").tobytes() for ids, mask in zip(input_ids, attention_mask, strict=True)
    ]
    return np.array([hashlib.blake2b(row, digest_size=16).digest() for row in rows], dtype="V16")


def write_shard(folder: str, digests: np.ndarray, vectors: np.ndarray) -> None:
    """Writes a shard, which appears whole; its name is a digest of what it holds, so writing it twice does no
    harm."""
    name = hashlib.blake2b(digests.tobytes(), digest_size=12).hexdigest()
    with files.whole_file(pathlib.Path(folder, f"{name}.npz"), binary=True) as stream:
        np.savez(stream, digests=digests, vectors=vectors)


def read_shard(file: pathlib.Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Digests and vectors of a shard; None for one that is not whole, which is named, and put aside to be
    made again."""
    try:
        with np.load(file) as shard:
            digests, vectors = shard["digests"], shard["vectors"]
        if digests.ndim != 1 or vectors.ndim != 2 or len(digests) != len(vectors):
            raise ValueError(f"it holds {digests.shape} digests and {vectors.shape} vectors")
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        warnings.warn(
            f"{file} is damaged ({type(error).__name__}: {error}); its vectors are made again.", stacklevel=2
        )
        progress.report(f"{file.name} is damaged; its vectors are made again")
        with contextlib.suppress(OSError):
            os.replace(file, file.with_suffix(".damaged"))
        return None
    return digests, vectors


class VectorCache:
    """Vectors by digest in a folder of shards (`.npz`: digests `V16 [n]`, vectors float16 `[n, dim]`)."""

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._shards: list[np.ndarray] = []
        self._read: set[str] = set()
        self.read()

    def read(self) -> None:
        """Reads shards that were not there before."""
        for file in sorted(self.folder.glob("*.npz")):
            if file.name not in self._read:
                self._read.add(file.name)
                shard = read_shard(file)
                if shard is not None:
                    self._add(*shard)

    def _add(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        self._rows.update({bytes(digest): (len(self._shards), row) for row, digest in enumerate(digests)})
        self._shards.append(vectors)

    def __contains__(self, digest: object) -> bool:
        return bytes(digest) in self._rows  # type: ignore[call-overload]

    def put(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        """Keeps vectors; the shard is on disk, whole, when this returns."""
        write_shard(str(self.folder), digests, vectors)
        self._add(digests, vectors)

    def get(self, digests: np.ndarray) -> np.ndarray:
        """float16 `[n, dim]`; every digest must be there."""
        positions = [self._rows[bytes(digest)] for digest in digests]
        return np.stack([self._shards[shard][row] for shard, row in positions])


@dataclasses.dataclass(frozen=True)
class Part:
    """Texts that are encoded and kept together: their digests `V16 [n]`, tokens and mask `[n, length]`."""

    digests: np.ndarray
    tokens: np.ndarray
    mask: np.ndarray


Spread = Callable[[Sequence[Part], str], None]


def encode_items(
    tokens: np.ndarray, mask: np.ndarray, text: TextConfig, cache_folder: str, spread: Spread | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Encodes what the cache lacks with the pretrained encoder, as it is before any training.

    Args:
        tokens: int `[items, length]`, token ids in the order of the item indices from 1.
        mask: int `[items, length]`, 0 at padding and for items without a text.
        text: which encoder and pooling.
        cache_folder: holds vectors by encoder and text.
        spread: encodes parts elsewhere, and leaves their shards in the folder that it is given; None encodes
            here.

    Returns:
        float16 `[items + 1, dim]`, zeros in row 0 and for items without a text; and counts, seconds and the
        encoder's digest.
    """
    encoder = load_encoder(text)
    cache = VectorCache(os.path.join(cache_folder, encoder.digest()[:16]))
    digests = digest_rows(tokens, mask)
    has_text = mask.any(1)
    digests_needed = np.unique(digests[has_text])
    missing = np.array([digest not in cache for digest in digests_needed], bool)
    start = time.perf_counter()
    parts = _parts(tokens, mask, digests, digests_needed[missing])
    if spread is not None and parts:
        spread(parts, str(cache.folder))
        cache.read()
        _check_whole(cache, digests_needed)
    else:
        done = 0
        for entry in parts:
            vectors = encode_part(encoder, entry, text)
            done += len(vectors)
            progress.report(f"{done:,} of {missing.sum():,} texts")
            cache.put(entry.digests, vectors)
    seconds = time.perf_counter() - start
    vectors = np.zeros((len(digests) + 1, encoder.dim), np.float16)
    if has_text.any():
        vectors[1:][has_text] = cache.get(digests[has_text])
    report = {
        "items": len(digests),
        "without_text": int((~has_text).sum()),
        "distinct_texts": len(digests_needed),
        "encoded": int(missing.sum()),
        "reused": int(len(digests_needed) - missing.sum()),
        "encoding_seconds": round(seconds, 3),
        "encoder": text.encoder,
        "pooling": encoder.pooling,
        "encoder_digest": encoder.digest(),
    }
    return vectors, report


def _parts(tokens: np.ndarray, mask: np.ndarray, digests: np.ndarray, missing: np.ndarray) -> list[Part]:
    """What is to be encoded, a shard each."""
    rows = {bytes(digest): row for row, digest in enumerate(digests)}
    parts = []
    for first in range(0, len(missing), SHARD):
        part = missing[first : first + SHARD]
        positions = np.array([rows[bytes(digest)] for digest in part])
        parts.append(Part(part, tokens[positions], mask[positions]))
    return parts


def _check_whole(cache: VectorCache, digests: np.ndarray) -> None:
    lost = sum(digest not in cache for digest in digests)
    if lost:
        raise ConfigError(
            f"Workers must leave every vector in {cache.folder}, as it is seen from here. Received: all but"
            f" {lost} of {len(digests)}. Put `root` on storage that is mounted on all machines, or encode"
            " with the direct runner."
        )


def load_encoder(text: TextConfig) -> Any:
    """The pretrained encoder, as it is before any training."""
    # Imported here: whoever only wires a pipeline has no use for TensorFlow's text operations and
    # transformers.
    from tfrec_fusion.models.build import build_text_encoder

    return build_text_encoder(text.pretrained())


def encode_part(encoder: Any, part: Part, text: TextConfig) -> np.ndarray:
    """float16 `[n, dim]`, the vectors of a part's texts."""
    from tfrec_fusion.layers.bulk_encoding import encode_tokens

    batch = {"input_ids": part.tokens, "attention_mask": part.mask}
    return encode_tokens(encoder, batch, text.batch_size).astype(np.float16)
