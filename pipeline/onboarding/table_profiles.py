"""The tables of a folder: which files belong together, how they are written, and the columns of each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
import re
from typing import Literal

import pandas as pd
import pyarrow as pa

from pipeline.onboarding import column_names
from pipeline.onboarding.column_profiles import Column
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import Csv, Join

SAMPLE_ROWS = 300_000
NOTHING = ("NULL", "null", "\\N", "NaN", "nan", "None", "N/A", "n/a", "#N/A", "<NA>", "-")


@dataclasses.dataclass(eq=False)
class TableProfile:
    """One table: a file, or several of one kind.

    Attributes:
        path: file name or glob, relative to the folder.
        files: the files.
        csv: how they are written.
        columns: by name.
        rows: rows that were read.
        whole: whether these are all.
        headerless: whether the columns' names are made up, since the file has no line with them.
        join: the second table whose columns were joined to this one's.
        explode: the column whose cells held several ids, and what divides them.
    """

    path: str
    files: list[pathlib.Path]
    csv: Csv
    columns: dict[str, Column]
    rows: int
    whole: bool = True
    headerless: bool = False
    join: Join | None = None
    explode: tuple[str, str] | None = None

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The sample as strings."""
        return pd.DataFrame({name: column.strings for name, column in self.columns.items()})

    @property
    def words_of_name(self) -> tuple[str, ...]:
        return column_names.tokens(pathlib.Path(self.path).name.split(".")[0])
