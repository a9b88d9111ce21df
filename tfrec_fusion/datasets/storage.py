"""Files of tables wherever they lie: paths of this machine, or URIs (`gs://bucket/file.csv`) that Arrow
opens."""

from __future__ import annotations

import fnmatch
import hashlib
from typing import Any

from tfrec_fusion.config import ConfigError


def is_remote(path: str) -> bool:
    """Whether a path is a URI."""
    return "://" in path


def open_remote(path: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it.

    Raises:
        ConfigError: where Arrow knows no such file system.
    """
    import pyarrow as pa
    import pyarrow.fs

    scheme, rest = path.split("://", 1)
    # Names in buckets may hold any sign; a URI is made of the bucket alone.
    root, _, inside = rest.partition("/")
    try:
        filesystem, base = pa.fs.FileSystem.from_uri(f"{scheme}://{root}/")
    except (pa.ArrowInvalid, NotImplementedError, OSError) as error:
        raise ConfigError(f"{path!r} cannot be opened: {error}. Use a path, gs:// or s3://.") from error
    return filesystem, f"{base.rstrip('/')}/{inside}"


def find_remote(path: str) -> list[str]:
    """URIs of the files that a URI names: one, all in a folder, or those that match a pattern (`*`, `?`)."""
    import pyarrow.fs

    filesystem, inside = open_remote(path)
    scheme = path.split("://", 1)[0]
    pattern = any(sign in inside for sign in "*?[")
    base = inside
    while any(sign in base for sign in "*?["):
        base = base.rpartition("/")[0]
    try:
        if not pattern and filesystem.get_file_info(base).is_file:
            return [path]
        selector = pyarrow.fs.FileSelector(base, recursive=pattern, allow_not_found=True)
        paths = [entry.path for entry in filesystem.get_file_info(selector) if entry.is_file]
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be listed: {error}") from error
    matching = [name for name in paths if not pattern or _matches(name, inside)]
    return sorted(f"{scheme}://{name}" for name in matching)


def fingerprint(path: str) -> bytes:
    """A digest that changes with a remote file, from its size and time of change, without reading it."""
    filesystem, inside = open_remote(path)
    try:
        info = filesystem.get_file_info(inside)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error}") from error
    return hashlib.sha256(repr((path, info.size, info.mtime_ns)).encode()).digest()


def _matches(name: str, pattern: str) -> bool:
    """As a shell matches: a `*` stays within a folder."""
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))
