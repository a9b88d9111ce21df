"""Pictures of the items, as a column of their table names them, for the page of `tfrec serve --ui`."""

from __future__ import annotations

import pathlib

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.reading import column_names, read_batches
from tfrec_fusion.datasets.settling import settle_items
from tfrec_fusion.datasets.storage import is_remote
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.serving.page.pictures import Pictures


def item_pictures(tables: Tables, column: str) -> Pictures:
    """The first picture that the table has of each item.

    Args:
        tables: of a run.
        column: of the items table: a file below the table's folder, or an `http(s)://` address.

    Raises:
        ConfigError: there is no such column, or its addresses name too many servers.
    """
    table, _ = settle_items(tables.items)
    values: dict[str, str] = {}
    files = find_files(table.path, "items")
    for file in files:
        known = column_names(file, table.csv)
        if column not in known:
            raise ConfigError(
                f"`serving.pictures` must name a column of the items table. Received: {column!r}. {file!r}"
                f" has: {', '.join(known)}."
            )
        wanted = tuple(dict.fromkeys((table.id, column)))
        for batch in read_batches(file, wanted, "items", csv=table.csv, report=lambda _: None):
            keys = ids(batch.column(table.id), tables.item_ids, f"column {table.id!r} of the items table")
            found = cells.strings(batch.column(column), f"column {column!r} of the items table")
            for key, value in zip(cells.as_python(keys), cells.as_python(found), strict=True):
                if key and value:
                    values.setdefault(key, value)
    folder = pathlib.Path() if is_remote(files[0]) else pathlib.Path(files[0]).parent
    try:
        return Pictures(values, folder)
    except ValueError as error:
        raise ConfigError(f"`serving.pictures`: {error}") from error
