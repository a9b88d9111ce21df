"""What lies under a model's base path: version folders, and whether one is still being written."""

from __future__ import annotations

import os
import re
import time

_VERSION = re.compile(r"[0-9]{1,19}")
_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")

SETTLE_SECONDS = 0.2
"""How long a folder that was touched within the last second must stay the same before it is loaded."""

_SETTLE_AT_MOST = 60.0


def find_versions(base_path: str) -> dict[int, str] | None:
    """Paths of the versions under a base path by number, or None where the base path cannot be read.

    A folder's name is its version (`00017` is 17, and gives way to `17`); other names are ignored. A folder counts from
    the moment it holds a `saved_model.pb`, because pushes that copy file by file are seen half way.
    """
    versions: dict[int, str] = {}
    try:
        before = os.stat(base_path)
        for name in sorted(os.listdir(base_path)):
            if _VERSION.fullmatch(name) is None or (number := int(name)) >= 2**63:
                continue
            path = os.path.join(base_path, name)
            if any(os.path.isfile(os.path.join(path, file)) for file in _MODEL_FILES):
                versions[number] = path
        # A base path that was moved away meanwhile looks emptied, and must not unload what is served.
        if not os.path.samestat(before, os.stat(base_path)):
            return None
    except OSError:
        return None
    return versions


Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(path: str) -> Fingerprint:
    """Names, sizes and change times of the files under a version folder."""
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            try:
                stat = os.stat(full)
            except OSError:
                continue
            files.append((os.path.relpath(full, path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(files))


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
    latest = 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                latest = max(latest, os.stat(os.path.join(folder, name)).st_ctime)
            except OSError:
                continue
    return latest
