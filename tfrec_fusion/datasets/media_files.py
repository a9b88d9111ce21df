"""The bytes of pictures and sounds: files of this machine, of buckets and of the web."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import stat
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

__all__ = ["Content", "Source", "UnusableMedia", "check_regular", "is_web", "reference_digest", "short"]

_BLOCK = 1 << 16
_REDIRECTS = 3
_LONGEST = 4096  # bytes of a path, and characters of an address


def is_web(reference: str) -> bool:
    """Whether a file is fetched from the web."""
    return reference.lower().startswith(("http://", "https://"))


def short(text: str, most: int = 200) -> str:
    """The text, or its beginning where it is long: a cell may hold a whole file."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


class UnusableMedia(Exception):
    """A file that cannot be used: `reason` in a few words, and `seen`, what was found in its place."""

    def __init__(self, reason: str, seen: str = "") -> None:
        super().__init__(reason)
        self.reason, self.seen = reason, short(seen, 400)


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
        if reference.lower().startswith("data:") or len(reference) > _LONGEST:
            seen = f"{len(reference):,} characters; what a cell holds itself is not read, write it to a file"
            raise UnusableMedia("no address of a file", seen)
        if is_web(reference):
            return self._fetched(reference, tags)
        try:
            path = self.path(reference)
            if is_remote(reference):
                system, inside = open_remote(reference)
                if system.type_name == "local":
                    return self._local(pathlib.Path(inside))
                with system.open_input_stream(inside) as stream:
                    return Content(self._bounded(iter(lambda: stream.read(_BLOCK), b"")))
            return self._local(path)
        except (ConfigError, PermissionError, NotImplementedError) as error:
            raise UnusableMedia("no file that can be opened", f"{type(error).__name__}: {error}") from error
        except (OSError, ValueError) as error:
            raise UnusableMedia("no such file", f"{type(error).__name__}: {error}") from error

    def _local(self, path: pathlib.Path) -> Content:
        check_regular(path)
        if path.stat().st_size > self.most:
            raise self._too_large(f"{path.stat().st_size / 1e6:.1f} MB")
        with path.open("rb") as stream:
            return Content(self._bounded(iter(lambda: stream.read(_BLOCK), b"")))

    def path(self, reference: str) -> pathlib.Path:
        """Where a path of a table leads."""
        path = pathlib.Path(self.media.folder or ".", reference)
        return pathlib.Path(os.path.expanduser(path))  # `~nobody` stays as it is, and leads nowhere

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
            client, extensions = self._open_client(), {"until": until}
            with client.stream("GET", address, headers=headers, extensions=extensions) as response:
                if response.status_code == 304 and any(tags):
                    return Content(None, tags)
                if response.status_code != 200:
                    raise UnusableMedia("not fetched", f"the server answered {response.status_code}")
                if int(response.headers.get("content-length") or 0) > self.most:
                    raise self._too_large(f"{int(response.headers['content-length']) / 1e6:.1f} MB")
                # Blocks as they come: httpx would wait for whole ones, however slowly a server sends.
                content = self._bounded(response.iter_bytes(), until)
                said = [response.headers.get(name, "") for name in ("etag", "last-modified")]
                etag, modified = (tag if tag.isascii() else "" for tag in said)  # httpx sends no others
                return Content(content, (etag, modified))
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise UnusableMedia("not fetched", f"{type(error).__name__}: {error}") from error

    def _open_client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    follow_redirects=True, max_redirects=_REDIRECTS, event_hooks={"request": [_in_time]}
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


def _in_time(request: httpx.Request) -> None:
    """Gives a request, and each that a redirection makes of it, the time that is left."""
    import httpx

    left = request.extensions["until"] - time.monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("redirected for too long", request=request)
    request.extensions["timeout"] = httpx.Timeout(left).as_dict()


def check_regular(path: pathlib.Path) -> None:
    """Refuses a folder, and a pipe or device, of which reading may never end.

    Raises:
        UnusableMedia: for such.
        OSError: where nothing is there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UnusableMedia("no such file", "a folder, a pipe or a device")


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
