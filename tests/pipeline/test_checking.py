"""`tfrec validate`: what would stop a run in its tenth minute is said in the first seconds."""

import pandas as pd
import pytest

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import SplitConfig
from pipeline.onboarding.measuring import measure_choices, measure_split
from tests.pipeline import folders
from tests.pipeline.test_example_gen import FINE, ITEMS, interactions, make
from tfrec_fusion.datasets.tables import Interactions


@pytest.fixture
def shop(tmp_path, monkeypatch):
    folders.shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", ".", "--name", "shop"]) == 0
    return tmp_path


def validate(capsys, *sets):
    capsys.readouterr()
    status = cli.main(["validate", "shop.yaml", *(f"--set={one}" for one in sets)])
    return status, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.interactions.path=nothing.csv", "has no file at"),
        ("data.items.title=nme", "has no column 'nme'. It has: sku, name"),
        ("data.interactions.time=customer", "must hold times of one known format"),
        ("data.interactions.label=customer", "1,500 unparsable label"),
        (
            "data.interactions.item=order_id",
            "most interactions name an item that products.parquet does not hold",
        ),
        ("data.interactions.label=qty", "`data.click_threshold` 4"),
        ("data.items.numbers=[brand]", "only 0% of 'brand' are numbers ('"),
        ("data.items.lists=[brand]", "no value of 'brand' holds the separator '|'"),
        ("data.items.vectors=[price]", "must hold lists of numbers of one length. Received: no lists"),
        ("data.users.id=country", "0% of the users who chose are in the users table"),
        ("data.items.text=[]", "`data.items.text` names no column"),
        ("text.encoder=./no-such-folder", "from the Hugging Face Hub or its cache"),
    ],
)
def test_what_is_wrong_is_said(change, message, shop, capsys):
    status, shown = validate(capsys, change)
    assert message in shown
    fine = ("data.interactions.label=qty", "text.encoder=./no-such-folder")
    assert status == (0 if change in fine else 1)
    assert ("WRONG" in shown) == (status == 1)


def test_a_label_that_all_reach_is_wrong(shop, capsys):
    status, shown = validate(capsys, "data.interactions.label=qty", "data.click_threshold=1")
    assert status == 1
    assert "from 1 to 4; 100% reach `data.click_threshold` 1: the ranking model needs both" in shown


def test_an_empty_column_is_wrong(shop, capsys):
    frame = pd.read_parquet("products.parquet")
    frame.assign(brand=pd.Series([None] * len(frame), dtype="string")).to_parquet("products.parquet")
    status, shown = validate(capsys)
    assert status == 1
    assert "the column 'brand' is empty" in shown


@pytest.mark.slow
def test_the_counts_are_those_of_a_run(tmp_path):
    """Rejects by reason and sizes of splits equal what TablesExampleGen reports."""
    bad = interactions(
        (None, "a", 1, 5),
        ("u", "a", "yesterday", 5),
        ("u", "a", 7, "good"),
        ("u", "nowhere", 7, 5),
        ("u", "a", 1, 5),
    )
    report, _ = make(tmp_path, pd.concat([FINE, bad]), ITEMS)
    table = Interactions(str(tmp_path / "interactions.csv"), "user", "item", "time", label="stars")
    choices = measure_choices(table, frozenset("abcd"))
    rejected = {
        entry["reason"]: entry["rows"] for entry in report["rejected"] if entry["table"] == "interactions"
    }
    assert choices.rejects == rejected
    sizes = measure_split(choices.frame, SplitConfig(method="leave_last_out")).sizes
    assert {f"interactions/{name}": size for name, size in sizes.items()} == {
        name: size for name, size in report["splits"].items() if name.startswith("interactions/")
    }
