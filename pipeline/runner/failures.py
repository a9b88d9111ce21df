"""Failures from outside a run, in words: a full disk, a folder that cannot be written, a damaged record of
runs."""

from __future__ import annotations

import datetime
import errno
import pathlib
import sqlite3
from collections.abc import Iterator

from tfrec_fusion.config import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# As TensorFlow, Arrow and SQLite word it, whose errors carry no number.
WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "database or disk is full": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "readonly database": errno.EROFS,
    "Permission denied": errno.EACCES,
}


def way_out(error: BaseException) -> str | None:
    """What to do about an error of the disk, however it was wrapped; None for any other error."""
    for one in _chain(error):
        number, name = _number(one)
        where = f" ({name})" if name else ""
        if number in FULL:
            return (
                f"The disk is full{where}. Nothing half-written is in view. Make room (`keep_runs` and"
                " `serving.keep_versions` say how much is kept), or name a folder on another disk with"
                " --root, and run it again: it goes on at the step that stopped."
            )
        if number in FORBIDDEN:
            return (
                f"A file cannot be read or written{where}: {one}. Change its permissions, or name another"
                " folder with --root."
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _number(error: BaseException) -> tuple[int | None, str]:
    if isinstance(error, OSError) and error.errno in (*FULL, *FORBIDDEN):
        return error.errno, str(error.filename or "")
    if isinstance(error, ConfigError):
        return None, ""
    return next((number for words, number in WORDS.items() if words in str(error)), None), ""


def check_record(home: pathlib.Path) -> str | None:
    """Looks whether TFX's record of earlier runs (`metadata.sqlite`) can be read, and begins a new one where
    it cannot.

    Without its record, what lies in `artifacts` belongs to nobody: new folders would bear the numbers of old
    ones, and their files be mixed. So both are put aside together.

    Args:
        home: of the pipeline.

    Returns:
        What was done, in words; None if all is well.

    Raises:
        ConfigError: where the record is in use, or cannot be opened.
    """
    record, artifacts = home / "metadata.sqlite", home / "artifacts"
    there = record.exists() and record.stat().st_size > 0
    try:
        damage = _damage(record) if there else "it is empty" if record.exists() else "it is not there"
    except sqlite3.OperationalError as error:
        raise ConfigError(
            f"The record of runs, {record}, must be a file that can be opened and written. Received: {error}."
            " Change its permissions, end what is using it, or name another folder with --root."
        ) from error
    if damage is None or not (there or artifacts.is_dir()):
        return None
    mark = f"damaged-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    moved = []
    for path in (record, home / "metadata.sqlite-journal", artifacts):
        if path.exists():
            moved.append(path.with_name(f"{path.name}.{mark}"))
            path.rename(moved[-1])
    return (
        f"The record of earlier runs, {record}, cannot be used: {damage}. It is now"
        f" {' and '.join(entry.name for entry in moved)} (delete what you do not need), and a new one is"
        " begun: all steps run again, texts are not encoded again, what is served stays, and the next model"
        " is not compared with the last blessed one."
    )


def _damage(record: pathlib.Path) -> str | None:
    try:
        connection = sqlite3.connect(record, timeout=2)
        try:
            problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            if record.stat().st_size % page:
                return "it was cut off within a page"
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return "it holds no tables"
        finally:
            connection.close()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if problems == ["ok"] else str(problems[0])
