"""The files of a table: which they are, and a digest that changes when their content does."""

from __future__ import annotations

import hashlib
import pathlib
import re

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.storage import find_remote, fingerprint, is_remote
from tfrec_fusion.datasets.tables import Tables

_TABLES = re.compile(
    r"(^part-.*|.*\.(csv|tsv|tab|psv|txt|dat|data|json|jsonl|ndjson|parquet|pq|inter|item|user))(\.(gz|bz2|zst|xz|lz4))?$",
    re.IGNORECASE,
)


def is_table_name(name: str) -> bool:
    """Whether a file of a folder is taken for a part of a table by its name; a file that is named is read
    whatever it is called."""
    return not name.startswith((".", "_")) and _TABLES.match(name) is not None


def find_files(path: str, table: str = "table") -> list[str]:
    """The files of a table, sorted.

    Args:
        path: a file, a glob, or a folder, of which every file with the name of a table counts.
        table: the table's name, for messages.

    Raises:
        ConfigError: where there is none.
    """
    place = pathlib.Path(path).expanduser()
    if is_remote(path):
        found = find_remote(path)
    elif place.is_dir():
        found = sorted(str(file) for file in place.iterdir() if file.is_file() and is_table_name(file.name))
    elif not place.exists() and any(sign in path for sign in "*?["):
        found = sorted(
            str(file) for file in pathlib.Path(place.anchor or ".").glob(str(place.relative_to(place.anchor)))
        )
    else:
        found = [str(place)] if place.exists() else []
    if not found:
        raise ConfigError(f"The {table} table has no file at {path!r}. Mend `data.{table}.path`.")
    return found


def source_digest(tables: Tables) -> str:
    """A digest of every byte that the tables hold (of remote files, of their sizes and times); it changes
    when any does."""
    digests = [table_digest(name, path, columns) for name, path, columns in tables.columns()]
    if join := tables.interactions.join:
        digests.append(table_digest("interactions.join", join.path, (join.on,)))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def table_digest(name: str, path: str, columns: tuple[str, ...]) -> str:
    """The same of one table."""
    digest = hashlib.sha256(repr((name, columns)).encode())
    for file in find_files(path, name):
        if is_remote(file):
            digest.update(fingerprint(file))
            continue
        with open(file, "rb") as stream:
            digest.update(
                hashlib.file_digest(stream, "sha256").digest()
                if hasattr(hashlib, "file_digest")
                else hashlib.sha256(stream.read()).digest()
            )
    return digest.hexdigest()
