"""Items' pictures and sounds into vectors, each distinct file once, kept between runs by content.

Vectors lie as those of texts do (`text_vectors.VectorCache`), in a folder for each encoder, by a digest of
the file's bytes: a killed run goes on from the last shard, and of a changed catalogue new and changed files
alone are encoded. Of addresses of the web the cache also keeps what the server said of the file, so that one
that did not change is not fetched again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.media import Media, MediaKind
from tfrec_fusion.datasets.media_files import Content, Source, UnusableMedia, is_web, short
from tfrec_fusion.features.text_vectors import VectorCache
from tfrec_fusion.training import progress

__all__ = ["MediaVectors", "check_any", "encode_media"]

READERS = 8  # files that are read at once
SHARD = 256  # files that are encoded and kept together


@dataclasses.dataclass(frozen=True)
class MediaVectors:
    """Vectors of the files of one column.

    Attributes:
        keys: what the table calls them.
        vectors: float32 `[n, dim]`, of length 1.
        rejects: (reason, what the table calls the file, what was seen) of those that cannot be used.
        report: counts, seconds and the encoder's digest.
    """

    keys: list[str]
    vectors: np.ndarray
    rejects: list[tuple[str, str, str]]
    report: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {key: row for row, key in enumerate(self.keys)})

    def of(self, reference: str | None) -> np.ndarray | None:
        """A file's numbers, float32 `[dim]`; None for one that is missing or cannot be used."""
        row = self._rows.get(reference)  # type: ignore[attr-defined]
        return None if row is None else self.vectors[row]

    def counted(self) -> collections.Counter[str]:
        """How many files cannot be used, by reason."""
        return collections.Counter(reason for reason, *_ in self.rejects)


def encode_media(
    kind: MediaKind, names: Iterable[str], media: Media, cache_folder: str | None = None
) -> MediaVectors:
    """Encodes what the cache lacks.

    Args:
        kind: `images` or `audio`.
        names: what the table calls the files, each once.
        media: where they are, their limits, and the encoder.
        cache_folder: holds vectors by encoder and content; None keeps none.

    Raises:
        ConfigError: if the encoder cannot be had.
    """
    if cache_folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return encode_media(kind, names, media, scratch)
    # Imported here: who only reads tables needs no TensorFlow.
    from tfrec_fusion.features.media_encoders import load_media_encoder

    encoder = load_media_encoder(kind, media)
    try:
        cache = VectorCache(os.path.join(cache_folder, encoder.digest[:16]))
    except OSError as error:
        raise ConfigError(
            "The folder that keeps vectors must be one that can be read and written. Received:"
            f" {cache_folder!r} ({type(error).__name__}: {error}). Mend it, or name another one."
        ) from error
    work = _Encoding(encoder, media, cache)
    start = time.perf_counter()
    try:
        for name, content in work.read(names):
            work.add(name, content)
        work.finish()
    finally:
        work.source.close()
    keys = [key for key, digest in work.digests.items() if digest in work.cache]
    vectors = (
        work.cache.get(np.array([work.digests[key] for key in keys], "V16")).astype(np.float32)
        if keys
        else np.zeros([0, media.dim], np.float32)
    )
    there = np.any(vectors != 0, axis=1)
    nothing = [("nothing in it that the encoder sees", key, "") for key, one in zip(keys, there, strict=True)
               if not one]  # fmt: skip
    report = {
        "files": len(work.digests) + len(work.rejects),
        "distinct": len(set(work.digests.values())),
        "encoded": work.encoded,
        "reused": len(set(work.digests.values())) - work.encoded,
        "seconds": round(time.perf_counter() - start, 3),
        "encoder_digest": encoder.digest,
    }
    kept = [key for key, one in zip(keys, there, strict=True) if one]
    return MediaVectors(kept, vectors[there], [*work.rejects, *nothing], report)


class _Encoding:
    """Files read one by one, and encoded by shards."""

    def __init__(self, encoder: Any, media: Media, cache: VectorCache):
        self.encoder, self.cache, self.source = encoder, cache, Source(media)
        self.digests: dict[str, bytes] = {}
        self.rejects: list[tuple[str, str, str]] = []
        self.waiting: dict[bytes, np.ndarray] = {}
        self.encoded = 0
        self.web = _Web(cache.folder / "web.json")

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Content | UnusableMedia]]:
        """Files in their order, a few of them read ahead, since servers take their time."""

        def read(name: str) -> Content | UnusableMedia:
            try:
                return self.source.read(name, self.web.of(name, self.cache)[0])
            except UnusableMedia as error:
                return error

        waiting: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            for name in names:
                waiting.append((name, pool.submit(read, name)))
                if len(waiting) > READERS:
                    first, content = waiting.popleft()
                    yield first, content.result()
            for name, content in waiting:
                yield name, content.result()

    def add(self, name: str, content: Content | UnusableMedia) -> None:
        """Takes a file; what is new of it waits to be encoded."""
        try:
            if isinstance(content, UnusableMedia):
                raise content
            data = content.data
            if data is None:
                self.digests[name] = self.web.of(name, self.cache)[1]
                return
            digest = hashlib.blake2b(data, digest_size=16).digest()
            if digest not in self.cache and digest not in self.waiting:
                self.waiting[digest] = self.encoder.decoded(data)
        except UnusableMedia as error:
            self.rejects.append((error.reason, name, error.seen))
            return
        self.digests[name] = digest
        self.web.keep(name, content.tags, digest)
        if len(self.waiting) >= SHARD:
            self.finish()

    def finish(self) -> None:
        """Encodes what waits; it is on disk, whole, when this returns."""
        if self.waiting:
            vectors = self.encoder.encode(list(self.waiting.values()))
            self.cache.put(np.array(list(self.waiting), "V16"), vectors.astype(np.float16))
            self.encoded += len(self.waiting)
            progress.report(f"{self.encoded:,} files encoded")
            self.waiting.clear()
        self.web.write()


class _Web:
    """What servers said of files, in a file of the cache: address → its tags and digest."""

    def __init__(self, path: pathlib.Path):
        self.path, self.changed = path, False
        self.known: dict[str, list[str]] = {}
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            for name, (etag, modified, digest) in known.items():
                bytes.fromhex(digest)
                self.known[name] = [f"{etag}", f"{modified}", digest]
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # it is asked for again

    def of(self, name: str, cache: VectorCache) -> tuple[tuple[str, str], bytes]:
        """The tags of a file whose vector is kept, and its digest; empty for any other."""
        etag, modified, digest = self.known.get(name, ("", "", ""))
        if digest and bytes.fromhex(digest) in cache:
            return (etag, modified), bytes.fromhex(digest)
        return ("", ""), b""

    def keep(self, name: str, tags: tuple[str, str], digest: bytes) -> None:
        if is_web(name) and any(tags):
            self.known[name] = [*tags, digest.hex()]
            self.changed = True

    def write(self) -> None:
        if self.changed:
            files.write_json(self.path, self.known)
            self.changed = False


def check_any(vectors: MediaVectors, column: str) -> None:
    """Refuses a column of which no file can be used.

    Raises:
        ConfigError: with the first one, and why.
    """
    if vectors.keys or not vectors.rejects:
        return
    reason, name, seen = vectors.rejects[0]
    what = f"{short(name)!r}: {reason}{f' ({seen})' if seen else ''}"
    raise ConfigError(
        f"A file that {column!r} of the items table names must be there and be read. Received: none of"
        f" {len(vectors.rejects):,}, such as {what}. Relative paths"
        " start at `data.items.media.folder`, else at the folder of the table."
    )
