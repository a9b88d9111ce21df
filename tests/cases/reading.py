"""Where the cases lie, and what ExampleGen reads of one."""

import collections
import csv
import pathlib

import pytest

from pipeline.components.table_reading import ReadEntities, ReadInteractions
from pipeline.config.pipeline_config import load_config, tables_of
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.tables import Tables

ROOT = pathlib.Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases do not lie in {CASES}")


def case_of(number: str) -> str:
    """The folder's name that begins with `table-04`, say."""
    (folder,) = CASES.glob(f"{number}-*")
    return folder.name


def tables(name: str) -> Tables:
    return settle(tables_of(load_config(name))).tables


def choices(read: Tables) -> tuple[list[tuple[str, str, int]], collections.Counter]:
    """What ExampleGen reads of the interactions: (user, item, time) each, and rejects by reason."""
    rows, rejects = [], collections.Counter()
    for row in ReadInteractions(read).process(read.interactions.path):
        if isinstance(row, tuple):
            rows.append((row[1][0], row[0], row[1][1]))
        else:
            rejects[row.value[1]] += 1
    return rows, rejects


def entities(table, name: str, rule="as_written") -> tuple[dict, list]:
    """What ExampleGen reads of items or users: features by id, and rejects."""
    values, rejects = {}, []
    for row in ReadEntities(table, name, rule).process(table.path):
        if isinstance(row, tuple):
            assert row[0] not in values
            values[row[0]] = row[1]
        else:
            rejects.append(row.value)
    return values, rejects


def cells(path) -> list[dict]:
    """The rows of a CSV file by Python's own reader."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
