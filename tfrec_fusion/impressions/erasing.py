"""A user taken out of logs and of tables of impressions."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.impressions.collecting import STATE, write_table
from tfrec_fusion.impressions.log import LOG_FILE
from tfrec_fusion.impressions.pseudonyms import pseudonym, read_key

__all__ = ["erase_from_log", "erase_from_table", "pseudonym_of"]


def pseudonym_of(user: str, key_file: str) -> str:
    """The name under which a user appears in what was logged with a key.

    Raises:
        ConfigError: where there is no key: it is not made, since it could be no one's.
    """
    if not os.path.isfile(key_file):
        raise ConfigError(
            f"The key of the pseudonyms must be there to know a user. Received: {key_file}, which is not."
            " Name it with --key-file; if it was thrown away, nobody can be told from anybody any more."
        )
    return pseudonym(read_key(key_file), user.encode("utf-8", "replace"))


def erase_from_log(folder: str, name: str) -> int:
    """Removes what was shown to a user, and the feedback about it; returns how many lines went.

    Args:
        folder: of an `ImpressionLog`.
        name: the user's pseudonym.
    """
    found = sorted(entry for entry in pathlib.Path(folder).iterdir() if LOG_FILE.fullmatch(entry.name))
    asked: set[str] = set()
    removed = 0
    for file in found:
        if file.name.startswith("shown"):
            removed += _rewrite(file, lambda line: line.get("user") == name, asked)
    for file in found:
        if file.name.startswith("feedback"):
            removed += _rewrite(file, lambda line: line.get("request_id") in asked)
    return removed


def erase_from_table(folder: str, name: str) -> int:
    """The same for the table that `collect` made; returns how many rows went."""
    target = pathlib.Path(folder)
    asked: set[str] = set()
    removed = 0
    for table, column in (("impressions", "user"), ("feedback", "request_id")):
        for path in sorted((target / table).glob("day=*/*.parquet")):
            rows = pq.read_table(path)
            values = [name] if column == "user" else sorted(asked)
            mine = pc.is_in(rows.column(column), pa.array(values, pa.string()))
            if pc.any(mine).as_py():
                asked |= set(rows.filter(mine).column("request_id").to_pylist())
                removed += pc.sum(mine).as_py()
                write_table(path, rows.filter(pc.invert(mine)))
    (target / STATE).unlink(missing_ok=True)  # the log's files have changed
    return removed


def _rewrite(
    file: pathlib.Path, mine: Callable[[dict[str, Any]], bool], asked: set[str] | None = None
) -> int:
    """Writes a log again without some lines; lines that a server adds meanwhile are looked at too."""
    while True:
        size = file.stat().st_size
        kept, removed = [], 0
        for text in file.read_bytes()[:size].splitlines(keepends=True):
            try:
                line = json.loads(text)
                goes = isinstance(line, dict) and mine(line)
            except (ValueError, RecursionError):
                goes = True  # nobody can say whose half of a line it is
                line = {}
            if goes:
                removed += 1
                if asked is not None and isinstance(line.get("request_id"), str):
                    asked.add(line["request_id"])
            else:
                kept.append(text)
        if not removed:
            return 0
        if file.stat().st_size == size:
            break
    with files.whole_file(file, binary=True) as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(b"".join(kept))
    return removed
