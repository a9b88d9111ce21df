"""Items' texts into vectors, each distinct text once, kept between runs by content.

Vectors lie in shards in a folder; a shard appears whole (written beside, then renamed), so that a run that is killed
goes on from the last one.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
from typing import Any

import numpy as np

from pipeline import progress
from tfrec_fusion.config import TextConfig

SHARD = 4096


def digest_rows(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """16-byte digests of token rows `[n, length]`, padding left out, as an array of `S16`."""
    rows = [
        ids[: mask.sum()].astype("<i4").tobytes() for ids, mask in zip(input_ids, attention_mask, strict=True)
    ]
    return np.array([hashlib.blake2b(row, digest_size=16).digest() for row in rows], dtype="V16")


class VectorCache:
    """Vectors by digest in a folder of shards (`.npz`: digests `V16 [n]`, vectors float16 `[n, dim]`)."""

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[bytes, tuple[int, int]] = {}
        self._shards: list[np.ndarray] = []
        for file in sorted(self.folder.glob("*.npz")):
            with np.load(file) as shard:
                self._add(shard["digests"], shard["vectors"])

    def _add(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        self._places.update({bytes(digest): (len(self._shards), row) for row, digest in enumerate(digests)})
        self._shards.append(vectors)

    def __contains__(self, digest: object) -> bool:
        return bytes(digest) in self._places  # type: ignore[call-overload]

    def put(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        """Keeps vectors; the shard is on disk, whole, when this returns."""
        name = hashlib.blake2b(digests.tobytes(), digest_size=12).hexdigest()
        staging = self.folder / f".{name}"
        with staging.open("wb") as stream:
            np.savez(stream, digests=digests, vectors=vectors)
        os.replace(staging, self.folder / f"{name}.npz")
        self._add(digests, vectors)

    def get(self, digests: np.ndarray) -> np.ndarray:
        """float16 `[n, dim]`; every digest must be there."""
        places = [self._places[bytes(digest)] for digest in digests]
        return np.stack([self._shards[shard][row] for shard, row in places])


def encode_items(
    tokens: np.ndarray, mask: np.ndarray, text: TextConfig, cache_folder: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Encodes what the cache lacks with the pretrained encoder, as it is before any training.

    Args:
        tokens: int `[items, length]`, token ids in the order of the item indices from 1.
        mask: int `[items, length]`, 0 at padding.
        text: which encoder and pooling.
        cache_folder: holds vectors by encoder and text.

    Returns:
        float16 `[items + 1, dim]`, zeros in row 0 and for items without a word; and counts, seconds and the encoder's
        digest.
    """
    # Imported here: whoever only wires a pipeline has no use for TensorFlow's text operations and transformers.
    from tfrec_fusion.layers.bulk_encoding import encode_tokens
    from tfrec_fusion.layers.text_encoder import TextEncoder

    encoder = TextEncoder.from_pretrained(text.encoder, pooling=text.pooling, stage="frozen", normalize=True)
    cache = VectorCache(os.path.join(cache_folder, encoder.digest()[:16]))
    digests = digest_rows(tokens, mask)
    # Items without a word hold nothing but the two marks that every text has.
    has_text = mask.sum(1) > 2
    wanted = np.unique(digests[has_text])
    missing = np.array([digest not in cache for digest in wanted], bool)
    rows = {bytes(digest): row for row, digest in enumerate(digests)}
    start = time.perf_counter()
    for first in range(0, missing.sum(), SHARD):
        part = wanted[missing][first : first + SHARD]
        places = np.array([rows[bytes(digest)] for digest in part])
        batch = {"input_ids": tokens[places], "attention_mask": mask[places]}
        vectors = encode_tokens(encoder, batch, text.batch_size)
        progress.report(f"{first + len(part):,} of {missing.sum():,} texts")
        cache.put(part, vectors.astype(np.float16))
    seconds = time.perf_counter() - start
    vectors = np.zeros((len(digests) + 1, encoder.dim), np.float16)
    if has_text.any():
        vectors[1:][has_text] = cache.get(digests[has_text])
    report = {
        "items": len(digests),
        "without_text": int((~has_text).sum()),
        "distinct_texts": len(wanted),
        "encoded": int(missing.sum()),
        "reused": int(len(wanted) - missing.sum()),
        "encoding_seconds": round(seconds, 3),
        "encoder": text.encoder,
        "encoder_digest": encoder.digest(),
    }
    return vectors, report
