"""The bytes of pictures and sounds: files of this machine, of buckets and of the web."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.media import Media
from tfrec_fusion.datasets.storage import fingerprint, is_remote, open_remote

if TYPE_CHECKING:
    import httpx

__all__ = ["Content", "Source", "UnusableMedia", "is_web", "reference_digest"]

_BLOCK = 1 << 16
_REDIRECTS = 3


def is_web(reference: str) -> bool:
    """Whether a file is fetched from the web."""
    return reference.lower().startswith(("http://", "https://"))


class UnusableMedia(Exception):
    """A file that cannot be used: `reason` in a few words, and `seen`, what was found in its place."""

    def __init__(self, reason: str, seen: str = "") -> None:
        super().__init__(reason)
        self.reason, self.seen = reason, seen


@dataclasses.dataclass(frozen=True)
class Content:
    """A file's bytes.

    Attributes:
        data: the bytes; None where a server says that they did not change.
        tags: by which a server tells whether it did: `ETag` and `Last-Modified`, "" where it does not.
    """

    data: bytes | None
    tags: tuple[str, str] = ("", "")


class Source:
    """Reads files by what a table calls them: relative and absolute paths, http(s) addresses, and URIs that
    Arrow opens (`gs://`, `s3://`).

    Args:
        media: limits, and where relative paths start.
    """

    def __init__(self, media: Media):
        self.media = media
        self.most = int(media.max_megabytes * 1e6)
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def read(self, reference: str, tags: tuple[str, str] = ("", "")) -> Content:
        """A file's bytes.

        Args:
            reference: as the table has it.
            tags: what a server said of the file the last time; it may answer that nothing changed.

        Raises:
            UnusableMedia: where there is no such file, or it is too large or late.
        """
        if is_web(reference):
            return self._fetched(reference, tags)
        try:
            if is_remote(reference):
                system, inside = open_remote(reference)
                with system.open_input_stream(inside) as stream:
                    return Content(self._bounded(iter(lambda: stream.read(_BLOCK), b"")))
            path = self.path(reference)
            if path.is_file() and path.stat().st_size > self.most:
                raise self._too_large(f"{path.stat().st_size / 1e6:.1f} MB")
            with path.open("rb") as stream:
                return Content(self._bounded(iter(lambda: stream.read(_BLOCK), b"")))
        except ConfigError as error:
            raise UnusableMedia("no file that can be opened", str(error)) from error
        except (OSError, ValueError) as error:
            raise UnusableMedia("no such file", f"{type(error).__name__}: {error}") from error

    def path(self, reference: str) -> pathlib.Path:
        """Where a path of a table leads."""
        return pathlib.Path(self.media.folder or ".", reference).expanduser()

    def _fetched(self, address: str, tags: tuple[str, str]) -> Content:
        # Imported here: who reads tables alone has no use for it.
        import httpx

        until = time.monotonic() + self.media.timeout
        headers = {"Accept": "image/*, audio/*, */*;q=0.1"}
        headers |= {name: tag for name, tag in zip(("If-None-Match", "If-Modified-Since"), tags, strict=True)
                    if tag}  # fmt: skip
        try:
            if not urlsplit(address).hostname:
                raise UnusableMedia("no address of a file", "it names no server")
            with self._open_client().stream("GET", address, headers=headers) as response:
                if response.status_code == 304:
                    return Content(None, tags)
                if response.status_code != 200:
                    raise UnusableMedia("not fetched", f"the server answered {response.status_code}")
                if int(response.headers.get("content-length") or 0) > self.most:
                    raise self._too_large(f"{int(response.headers['content-length']) / 1e6:.1f} MB")
                return Content(
                    self._bounded(response.iter_bytes(_BLOCK), until),
                    (response.headers.get("etag", ""), response.headers.get("last-modified", "")),
                )
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise UnusableMedia("not fetched", f"{type(error).__name__}: {error}") from error

    def _open_client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=self.media.timeout, follow_redirects=True, max_redirects=_REDIRECTS
                )
        return self._client

    def _bounded(self, blocks: Iterator[bytes], until: float | None = None) -> bytes:
        content = bytearray()
        for block in blocks:
            content += block
            if until is not None and time.monotonic() > until:
                raise self._late()
            if len(content) > self.most:
                raise self._too_large("more")
        return bytes(content)

    def _late(self) -> UnusableMedia:
        return UnusableMedia("not fetched in time", f"not whole after {self.media.timeout:g} s")

    def _too_large(self, seen: str) -> UnusableMedia:
        rule = f"larger than `media.max_megabytes` ({self.media.max_megabytes:g})"
        return UnusableMedia(rule, seen)

    def close(self) -> None:
        """Ends connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def reference_digest(reference: str, media: Media) -> bytes:
    """A digest that changes with a file, from its size and time of change, without reading it; of an address
    of the web it holds the address alone."""
    seen: object = None
    if not is_web(reference):
        try:
            if is_remote(reference):
                seen = fingerprint(reference)
            else:
                status = os.stat(Source(media).path(reference))
                seen = (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError, ConfigError):
            seen = "gone"
    return hashlib.sha256(repr((reference, seen)).encode("utf-8", "surrogatepass")).digest()
