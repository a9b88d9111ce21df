"""The table of impressions: one row an item shown, partitioned by day, and how it is read."""

from __future__ import annotations

import pathlib
import re

import pyarrow as pa
import pyarrow.parquet as pq

from tfrec_fusion.config import ConfigError
from tfrec_fusion.impressions.contract import KINDS

__all__ = ["EVENTS", "IMPRESSIONS", "days_of", "missing_days", "partition", "read_impressions"]

TIME = pa.timestamp("us", "UTC")
IMPRESSIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", TIME),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("arm", pa.string()),
        ("user", pa.string()),
        ("item", pa.string()),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
        ("score", pa.float64()),
        *((kind, pa.float64()) for kind in KINDS),
    ]
)
"""`request_id` and `item` are the key. `position` counts from 1; `propensity` is the probability with which
the item was shown there, null where it is not known; a column of each kind of feedback holds the sum of its
values, 0 where there was none."""

EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("request_id", pa.string()),
        ("item", pa.string()),
        ("kind", pa.string()),
        ("value", pa.float64()),
        ("time", TIME),
    ]
)
"""Feedback as it came, without repetitions; kept beside the impressions, since it may come before them."""

_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})")


def partition(folder: pathlib.Path, table: str, day: str) -> pathlib.Path:
    """The file of a day: `FOLDER/impressions/day=2026-11-30/part-0.parquet`."""
    return folder / table / f"day={day}" / "part-0.parquet"


def days_of(folder: pathlib.Path, table: str) -> list[str]:
    """Days that have a partition, the first one first."""
    found = (_DAY.fullmatch(entry.name) for entry in (folder / table).glob("day=*"))
    return sorted(match[1] for match in found if match)


def missing_days(days: list[str]) -> list[str]:
    """Days between the first and the last that have no partition."""
    import datetime

    if not days:
        return []
    first, last = (datetime.date.fromisoformat(day) for day in (days[0], days[-1]))
    all_days = (first + datetime.timedelta(number) for number in range((last - first).days))
    return [str(day) for day in all_days if str(day) not in set(days)]


def read_impressions(path: str) -> pa.Table:
    """Impressions, ordered by time, request and position.

    Args:
        path: the folder that `tfrec feedback collect` fills, a file, or a glob of files.

    Returns:
        A table of `IMPRESSIONS`. Columns that a file lacks are null, or 0 for kinds of feedback.

    Raises:
        ConfigError: where there are none, or a file is no table of impressions.
    """
    folder = pathlib.Path(path).expanduser()
    if folder.is_dir():
        root = folder / "impressions" if (folder / "impressions").is_dir() else folder
        files = sorted(root.rglob("*.parquet"))
    elif folder.is_file():
        files = [folder]
    else:
        files = sorted(pathlib.Path(folder.anchor or ".").glob(str(folder.relative_to(folder.anchor))))
    files = [file for file in files if not any(part.startswith(".") for part in file.parts[-3:])]
    if not files:
        raise ConfigError(
            f"Impressions must be a folder, file or glob of Parquet files. Received: {path!r}, where there"
            " are none. `tfrec feedback collect` makes them of a log."
        )
    tables = [_read(file) for file in files]
    return pa.concat_tables(tables).sort_by(
        [(name, "ascending") for name in ("time", "request_id", "position")]
    )


def _read(file: pathlib.Path) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            table = opened.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(
            f"{file} must be a Parquet file. Received: {error}. Collect the day again, or remove the file."
        ) from error
    needed = ("request_id", "time", "item", "position")
    if lost := [name for name in needed if name not in table.column_names]:
        raise ConfigError(
            f"A table of impressions needs {', '.join(needed)}. Received: {file} without {', '.join(lost)}."
            " Other tables are described under `data.impressions`."
        )
    columns = []
    for field in IMPRESSIONS:
        if field.name in table.column_names:
            columns.append(table.column(field.name).cast(field.type))
        else:
            fill = pa.scalar(0.0 if field.name in KINDS else None, field.type)
            columns.append(pa.repeat(fill, len(table)))
    return pa.table(columns, schema=IMPRESSIONS)
