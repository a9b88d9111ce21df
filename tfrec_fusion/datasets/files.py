"""The files of a table: which they are, and a digest that changes when their content does."""

from __future__ import annotations

import hashlib
import pathlib
import re

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.storage import find_remote, fingerprint, is_remote

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
    location = pathlib.Path(path).expanduser()
    if is_remote(path):
        paths = find_remote(path)
    elif location.is_dir():
        paths = sorted(
            str(file) for file in location.iterdir() if file.is_file() and is_table_name(file.name)
        )
    elif not location.exists() and any(sign in path for sign in "*?["):
        paths = sorted(
            str(file)
            for file in pathlib.Path(location.anchor or ".").glob(str(location.relative_to(location.anchor)))
            if file.is_file()
        )
    else:
        paths = [str(location)] if location.exists() else []
    if not paths:
        raise ConfigError(f"The {table} table has no file at {path!r}. Mend `data.{table}.path`.")
    return paths


def table_digest(name: str, path: str, columns: tuple[str, ...]) -> str:
    """A digest of every byte that a table holds (of remote files, of their sizes and times)."""
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
