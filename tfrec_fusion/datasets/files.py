"""The files of a table: which they are, and a digest that changes when their content does."""

from __future__ import annotations

import hashlib
import pathlib

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.storage import find_remote, fingerprint, is_remote
from tfrec_fusion.datasets.tables import Tables

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


def find_files(path: str, table: str = "table") -> list[str]:
    """The files of a table, sorted.

    Raises:
        ConfigError: where there is none, or one of another kind than CSV and Parquet.
    """
    place = pathlib.Path(path).expanduser()
    if is_remote(path):
        found = find_remote(path)
    elif place.is_dir():
        found = sorted(
            str(file) for file in place.iterdir() if file.name.lower().endswith(PARQUET_ENDINGS + CSV_ENDINGS)
        )
    elif any(sign in path for sign in "*?["):
        found = sorted(
            str(file) for file in pathlib.Path(place.anchor or ".").glob(str(place.relative_to(place.anchor)))
        )
    else:
        found = [str(place)] if place.exists() else []
    if not found:
        raise ConfigError(f"The {table} table has no file at {path!r}. Mend `data.{table}.path`.")
    for file in found:
        if not file.lower().endswith(PARQUET_ENDINGS + CSV_ENDINGS):
            raise ConfigError(
                f"The {table} table must be CSV or Parquet ({', '.join(CSV_ENDINGS + PARQUET_ENDINGS)}). Received: {file!r}."
            )
    return found


def source_digest(tables: Tables) -> str:
    """A digest of every byte that the tables hold (of remote files, of their sizes and times); it changes when any does."""
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
