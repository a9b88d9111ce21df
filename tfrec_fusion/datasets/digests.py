"""A digest of all that is read of a source, which changes when any of it does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.files import find_files, table_digest
from tfrec_fusion.datasets.media_files import reference_digest
from tfrec_fusion.datasets.reading import read_batches
from tfrec_fusion.datasets.tables import Items, Tables

__all__ = ["items_digest", "media_references", "source_digest"]


def source_digest(tables: Tables) -> str:
    """A digest of every byte that the tables hold (of remote files, and of pictures and sounds, of their
    sizes and times; of what is fetched from the web, of the addresses alone)."""
    digests = [table_digest(name, path, columns) for name, path, columns in tables.columns()]
    if join := tables.interactions.join:
        digests.append(table_digest("interactions.join", join.path, (join.on,)))
    if tables.items.media_columns:
        digests.append(_media_digest(tables.items))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def items_digest(table: Items) -> str:
    """The same of a table of items alone, whatever columns are read."""
    digest = table_digest("items", table.path, ())
    return digest + _media_digest(table) if table.media_columns else digest


def _media_digest(table: Items) -> str:
    digest = hashlib.sha256()
    for _, column in table.media_columns:
        for reference in media_references(table, column):
            digest.update(reference_digest(reference, table.media))
    return digest.hexdigest()


def media_references(table: Items, column: str) -> Iterator[str]:
    """What a table calls the files of a column of pictures or sounds, each once, as its rows come."""
    seen: set[str] = set()
    for file in find_files(table.path, "items"):
        for batch in read_batches(file, (column,), "items", csv=table.csv, report=lambda _: None):
            names = cells.strings(batch.column(column), f"column {column!r} of the items table")
            for name in names.to_pylist():
                name = name.strip() if name else ""
                if name and name not in seen:
                    seen.add(name)
                    yield name
