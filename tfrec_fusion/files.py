"""Files and folders that others read while they are written: whole or not at all; and locks that a killed
process gives up.

Everything is written beside its place, forced to the disk, and renamed. A reader, another process or the
machine after a power cut finds what was there before or what is there now, and never a part.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import pathlib
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import IO, Any

from tfrec_fusion.config import ConfigError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "AtWork",
    "clear_unfinished",
    "folder_lock",
    "lock",
    "remove_folder",
    "share",
    "sync",
    "sync_tree",
    "version_of",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]

PARTIAL = ".partial"
_VERSION = re.compile(r"[0-9]{1,19}")


class AtWork(ConfigError):
    """Another process holds the lock; says which, and since when."""


def version_of(name: str) -> int | None:
    """The version that a folder's name stands for, as TF Serving reads it; None for any other name (`²`,
    `+1`, `v1`)."""
    return int(name) if _VERSION.fullmatch(name) and int(name) < 2**63 else None


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], binary: bool = False) -> Iterator[IO[Any]]:
    """A stream whose file appears, or replaces the one before, when the block ends well.

    Args:
        path: the file; its folder is made where it is missing.
        binary: bytes, or else text in UTF-8.

    Raises:
        OSError: where it cannot be written; what was there before stays.
    """
    encoding, before = None if binary else "utf-8", _there(path)
    if before is not None and not stat.S_ISREG(before.st_mode):
        # A pipe or a terminal (`/dev/stdout`) is written to, and not replaced.
        with open(path, "wb" if binary else "w", encoding=encoding) as stream:
            yield stream
        return
    # A link goes on pointing to where the file is.
    target = pathlib.Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / _staging(target.name)
    try:
        with staging.open("xb" if binary else "x", encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if before is not None:
            os.chmod(staging, stat.S_IMODE(before.st_mode))
        os.replace(staging, target)
        sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with whole_file(path) as stream:
        stream.write(text)


def write_json(path: str | os.PathLike[str], value: Any, **options: Any) -> None:
    """Writes a value as JSON, whole or not at all; `options` go to `json.dumps`."""
    write_text(path, json.dumps(value, **{"indent": 2, "ensure_ascii": False, **options}))


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], replace: bool = False) -> Iterator[pathlib.Path]:
    """A folder to fill, which appears under its name when the block ends well.

    Args:
        path: the folder's name to be.
        replace: whether a folder of that name gives way.

    Yields:
        An empty folder beside it, whose name begins with a dot.

    Raises:
        OSError: where it cannot be written, or `path` is there already and must not give way.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / _staging(target.name)
    staging.mkdir()
    try:
        yield staging
        sync_tree(staging)
        if replace and target.exists():
            aside = target.parent / _staging(target.name)
            os.rename(target, aside)
            try:
                os.rename(staging, target)
            except OSError:
                os.rename(aside, target)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        elif target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        else:
            os.rename(staging, target)
        sync(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def share(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """The same file under a second name (a hard link), or a copy where the file system or its owner allows
    none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Removes a folder that others may be reading the list of: it goes out of view whole, then is deleted.

    Raises:
        OSError: where it cannot be removed.
    """
    target = pathlib.Path(folder)
    aside = target.parent / _staging(target.name)
    os.rename(target, aside)
    shutil.rmtree(aside, ignore_errors=True)


def clear_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes what killed writers left in a folder. Call it only while nobody writes there: with the folder's
    lock."""
    for entry in pathlib.Path(folder).glob(f".*{PARTIAL}"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


@contextlib.contextmanager
def lock(
    path: str | os.PathLike[str], doing: str, wait: bool = False, where: str | os.PathLike[str] = ""
) -> Iterator[bool]:
    """Holds a lock, which the system takes back when the process ends, however it ends.

    Args:
        path: the lock's file; it stays, and says who holds it.
        doing: what for, told to others (`tfrec run`).
        wait: whether to wait for another holder.
        where: the folder that is written to, if it is not the lock's own.

    Yields:
        Whether the lock is held: file systems that know no locks give none, and nobody is kept out.

    Raises:
        AtWork: if another process, or another thread of this one, holds it and `wait` is off.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Through a link that somebody planted, another file would be emptied.
    file = os.open(target, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        held = _acquire(file, target, wait, where or target.parent)
        if held:
            now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            _write_holder(file, {"pid": os.getpid(), "since": now, "doing": doing})
        try:
            yield held
        finally:
            if held:
                _write_holder(file, {})
    finally:
        os.close(file)


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """Waits until nobody else holds a folder, and holds it; leaves no file behind. Yields whether it is held,
    as `lock`."""
    file = os.open(folder, os.O_RDONLY)
    try:
        yield _acquire(file, pathlib.Path(folder), True, folder)
    finally:
        os.close(file)


def sync(path: str | os.PathLike[str]) -> None:
    """Forces a file, or a folder's list of names, to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        # Some network file systems cannot sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(file)


def sync_tree(folder: pathlib.Path) -> None:
    """Forces all files and folders below a folder to the disk, and itself."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(os.path.join(path, name))
        sync(path)


def _there(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _staging(name: str) -> str:
    short = os.fsdecode(os.fsencode(name)[:100])  # names have an end, in bytes
    return f".{short}-{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"


def _acquire(file: int, target: pathlib.Path, wait: bool, where: str | os.PathLike[str]) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AtWork(_in_the_way(target, where)) from error
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF):
            return False
        raise
    return True


def _write_holder(file: int, holder: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode() if holder else b"", 0)


def _in_the_way(target: pathlib.Path, where: str | os.PathLike[str]) -> str:
    try:
        holder = json.loads(target.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} (`{holder['doing']}`), since {holder['since']}"
        stop = f"stop it (`kill -INT {holder['pid']}`)"
    except (OSError, ValueError, KeyError, TypeError):
        who, stop = "a process that has just begun", "stop it"
    return (
        f"Only one process at a time may write in {where}. Received: a second one beside {who}. Wait until it"
        f" is done, {stop}, or name another folder (--root, --output)."
    )
