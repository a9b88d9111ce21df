"""Files of outcomes: the folder of impressions that `tfrec feedback collect` fills, or a table of
anybody's."""

from __future__ import annotations

import glob
import os
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa

from tfrec_fusion.datasets.reading import column_names, read_batches
from tfrec_fusion.datasets.values import parse_numbers, parse_times
from tfrec_fusion.experiments.checks import ExperimentError
from tfrec_fusion.experiments.outcomes import ROWS, Reading
from tfrec_fusion.impressions.schema import IMPRESSIONS, read_impressions


def read_table(path: str | os.PathLike[str], reading: Reading) -> pd.DataFrame:
    """Reads the columns of a table of outcomes.

    Args:
        path: a folder of impressions; or a file, a folder or a glob of files of CSV, JSON or Parquet.
        reading: which columns are needed.

    Returns:
        These columns: units, arms and ids as strings where the file has no types, outcomes and covariates as
        numbers, the time as times or as seconds since 1970.

    Raises:
        ConfigError: a file cannot be read, or lacks a column.
        ExperimentError: there is no file, or an outcome is no number.
    """
    columns = reading.columns()
    files = files_of(path)
    if os.path.isdir(path) and set(columns) <= set(IMPRESSIONS.names):
        return read_impressions(os.fspath(path)).select(columns).to_pandas()
    parts = []
    for file in files:
        names = column_names(file)
        if missing := [name for name in columns if name not in names]:
            raise ExperimentError(
                f"{file} has no column {', '.join(map(repr, missing))}. Its columns: {', '.join(names)}. Say"
                " which"
                " hold unit, arm, metric, time and id (`''` for none)."
            )
        batches = list(read_batches(file, tuple(columns), "outcomes"))
        frame = pa.Table.from_batches(batches).to_pandas(types_mapper=_types)
        parts.append(_typed(frame, reading, file))
    return pd.concat(parts, ignore_index=True)


def _types(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    """Integers with nulls stay integers: as floating-point numbers, ids lose digits."""
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


def files_of(path: str | os.PathLike[str]) -> list[str]:
    """The files of a table: a file, all in a folder that is not hidden, or those of a glob.

    Raises:
        ExperimentError: there is none.
    """
    text = os.path.expanduser(os.fspath(path))
    if os.path.isdir(text):
        found = sorted(
            str(file)
            for file in pathlib.Path(text).rglob("*")
            if file.is_file()
            and not any(part.startswith((".", "_")) for part in file.relative_to(text).parts)
        )
    else:
        found = [text] if os.path.isfile(text) else sorted(filter(os.path.isfile, glob.glob(text)))
    if not found:
        raise ExperimentError(
            f"A table must be a file, a folder or a glob of files. Received: {text!r}, where there are none."
        )
    return found


def _typed(frame: pd.DataFrame, reading: Reading, file: str) -> pd.DataFrame:
    """Strings of CSV as numbers and times."""
    sides = {side for metric in reading.metrics for side in metric.split("/", 1)} - {ROWS}
    for name in dict.fromkeys([*sides, *reading.covariates]):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            numbers = parse_numbers(frame[name])
            wrong = np.isnan(numbers) & frame[name].notna()
            if wrong.any():
                raise ExperimentError(
                    f"An outcome must be a number. Received: {frame[name][wrong].iloc[0]!r} in {name!r} of"
                    f" {file}"
                    f" ({int(wrong.sum()):,} such rows). Write 1 where it happened and 0 where it did not,"
                    " or an"
                    " amount."
                )
            frame[name] = numbers
    if reading.time and not pd.api.types.is_datetime64_any_dtype(frame[reading.time]):
        seconds = parse_times(frame[reading.time])
        if np.isnan(seconds).any():
            row = int(np.flatnonzero(np.isnan(seconds))[0])
            raise ExperimentError(
                f"Times must all be written alike. Received: {frame[reading.time].iloc[row]!r} in row"
                f" {row:,} of"
                f" {file}. Leave out such rows, or give `--time ''` where no time is needed."
            )
        frame[reading.time] = seconds
    return frame
