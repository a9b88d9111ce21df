"""Version folders under a model's base path, and whether one is still being written."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator

import tensorflow as tf

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"[0-9]{1,19}")
_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")

SETTLE_SECONDS = 0.2
"""How long a folder that was touched within the last second must stay the same before it is loaded."""

_SETTLE_AT_MOST = 60.0


def find_versions(base_path: str, within: str = "") -> dict[int, str] | None:
    """Paths of the versions under a base path by number, or None where the base path cannot be read.

    A folder's name is its version (`00017` is 17, and gives way to `17`); other names are ignored. A folder
    counts from the moment it holds a `saved_model.pb`, because pushes that copy file by file are seen half
    way.

    Args:
        base_path: the folder of version folders.
        within: where given, the folder that everything read must really lie in: a version that has a symbolic
            link out of it is left out.
    """
    versions: dict[int, str] = {}
    try:
        before = None if is_uri(base_path) else os.stat(base_path)
        for name in sorted(name.rstrip("/") for name in tf.io.gfile.listdir(base_path)):
            if _VERSION.fullmatch(name) is None or (number := int(name)) >= 2**63:
                continue
            path = os.path.join(base_path, name)
            if any(tf.io.gfile.exists(os.path.join(path, file)) for file in _MODEL_FILES):
                if within and not all(
                    is_inside(folder_found, within) for folder_found in (path, *_links(path))
                ):
                    logger.warning("Not loaded: %s leads out of %s.", path, within)
                    continue
                versions[number] = path
        # A base path that was moved away meanwhile looks emptied, and must not unload what is served.
        if before is not None and not os.path.samestat(before, os.stat(base_path)):
            return None
    except (OSError, tf.errors.OpError):
        return None
    return versions


def is_uri(path: str) -> bool:
    """Whether a path is one of another file system, such as `gs://bucket/model`, which TensorFlow reads
    too."""
    return re.match(r"[A-Za-z][A-Za-z0-9.+-]*://", path) is not None


def is_inside(path: str, folder: str) -> bool:
    """Whether a path lies in a folder or is it, symbolic links resolved; of URIs, whether it begins with the
    folder's."""
    if is_uri(path) or is_uri(folder):
        parts = path.split("/")
        return is_uri(path) and ".." not in parts and f"{path}/".startswith(folder.rstrip("/") + "/")
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, root]) == root


def _links(path: str) -> Iterator[str]:
    """Symbolic links below a folder."""
    if is_uri(path):
        return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            full = os.path.join(folder, name)
            if os.path.islink(full):
                yield full


Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(path: str) -> Fingerprint:
    """Names, sizes and change times of the files under a version folder."""
    return tuple(sorted((name, size, modified) for name, size, modified, _ in _files(path)))


def _files(path: str) -> Iterator[tuple[str, int, int, float]]:
    """Of each file: its name from `path`, its size, when it was last written (ns) and last changed (s)."""
    walk = tf.io.gfile.walk(path) if is_uri(path) else os.walk(path)
    for folder, _, names in walk:
        for name in names:
            full = os.path.join(folder, name)
            try:
                if is_uri(path):
                    status = tf.io.gfile.stat(full)
                    size, modified, changed = status.length, status.mtime_nsec, status.mtime_nsec / 1e9
                else:
                    stat = os.stat(full)
                    size, modified, changed = stat.st_size, stat.st_mtime_ns, stat.st_ctime
            except (OSError, tf.errors.OpError):
                continue
            yield full[len(path) :].lstrip("/"), size, modified, changed


def wait_until_settled(path: str) -> Fingerprint:
    """Waits until a version folder that was just written to stops changing, a minute at most."""
    deadline = time.monotonic() + _SETTLE_AT_MOST
    seen = fingerprint(path)
    while time.time() - _last_change(path) < 1.0 and time.monotonic() < deadline:
        time.sleep(SETTLE_SECONDS)
        now = fingerprint(path)
        if now == seen:
            break
        seen = now
    return seen


def _last_change(path: str) -> float:
    return max((changed for _, _, _, changed in _files(path)), default=0.0)
