"""The fuzzer of tables: a few of its folders, and that its witness sees a changed value and a dropped
column."""

import random

import pytest

from benchmarks.fuzz_tables import Finding, check, try_one
from benchmarks.random_tables import make
from benchmarks.table_forms import Column


@pytest.mark.parametrize("number", range(1, 7))
def test_random_tables_are_read_as_they_were_written(tmp_path, number):
    assert try_one(0, number, tmp_path)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder whose choices are plain CSV that `init` can tell."""
    for number in range(200):
        folder = tmp_path / f"{number}" / "shop"
        folder.mkdir(parents=True)
        made = make(random.Random(f"{number}"), folder)
        file = folder / made.interactions.pattern
        if (
            made.interactions.header
            and file.suffix == ".csv"
            and "encoding='utf-8'," in made.interactions.form
        ):
            monkeypatch.chdir(folder.parent)
            if check(made, folder) == "ready":
                return made, folder
    raise AssertionError("no such folder among 200")


def test_a_changed_id_is_a_finding(shop):
    made, folder = shop
    user = made.interactions.columns[0].values
    made.interactions.columns[0].values = [None if value is None else f"{value}0" for value in user]
    with pytest.raises(Finding, match="rows changed"):
        check(made, folder)


def test_an_unnamed_column_is_a_finding(shop):
    made, folder = shop
    made.interactions.columns.append(Column("more", ["x"] * len(made.interactions)))
    with pytest.raises(Finding, match="'more'.* dropped unnamed"):
        check(made, folder)
