"""`tfrec init` on folders of many shapes: the roles that a user would give the columns, in a file that can
be run."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from tests.pipeline import folders
from tfrec_fusion.guessing import column_names
from tfrec_fusion.guessing.folder import guess
from tfrec_fusion.guessing.ledger import Ledger
from tfrec_fusion.guessing.table_profiles import read_folder
from tfrec_fusion.guessing.time_columns import guess_time

EXPECTED = {
    "movielens": {
        "interactions": {
            "path": "ratings.csv",
            "user": "userId",
            "item": "movieId",
            "time": "timestamp",
            "label": "rating",
        },
        "items": {
            "path": "movies.csv",
            "id": "movieId",
            "title": "title",
            "text": ["title", "genres"],
            "lists": ["genres"],
        },
        "click_threshold": 4,
    },
    "shop": {
        "interactions": {"path": "orders.csv", "user": "customer", "item": "sku", "time": "ordered_at"},
        "items": {
            "path": "products.parquet",
            "id": "sku",
            "title": "name",
            "text": ["name", "brand", "description"],
            "categories": ["brand"],
            "numbers": ["price"],
        },
        "users": {"path": "customers.csv", "id": "id", "categories": ["country"], "numbers": ["age"]},
    },
    "german_shop": {
        "interactions": {
            "path": "bestellungen.csv",
            "user": "Kundennr",
            "item": "Artikelnr",
            "time": "Datum",
            "time_format": "%d.%m.%Y %H:%M",
            "csv": {"delimiter": ";"},
        },
        "items": {
            "path": "artikel.csv",
            "id": "Artikelnr",
            "title": "Bezeichnung",
            "text": ["Bezeichnung", "Kategorie"],
            "categories": ["Kategorie"],
            "numbers": ["Preis"],
            "csv": {"delimiter": ";", "encoding": "cp1252", "decimal": ","},
        },
    },
    "articles": {
        "interactions": {
            "path": "library.tsv",
            "user": "reader",
            "item": "paper",
            "time": "saved_at",
            "time_format": "ms",
        },
        "items": {
            "path": "papers.csv",
            "id": "doi",
            "title": "title",
            "text": ["title", "keywords", "abstract"],
            "lists": ["keywords"],
            "numbers": ["year"],
            "separator": ";",
        },
    },
    "invoices": {
        "interactions": {
            "path": "retail.csv",
            "user": "CustomerID",
            "item": "StockCode",
            "time": "InvoiceDate",
            "time_format": "%m/%d/%Y %H:%M",
            "quantity": "Quantity",
        },
        "items": {
            "path": "retail.csv",
            "id": "StockCode",
            "title": "Description",
            "text": ["Description"],
            "distinct": True,
        },
        "users": {"path": "retail.csv", "id": "CustomerID", "categories": ["Country"], "distinct": True},
        "max_reject_share": 0.22,
    },
    "likes": {
        "interactions": {"path": "likes.csv", "user": "uid", "item": "iid", "time": None},
        "items": {"path": "pictures.csv", "id": "iid", "title": "caption", "text": ["caption"]},
    },
    "clicks": {
        "interactions": {
            "path": "events*.parquet",
            "user": "visitorid",
            "item": "itemid",
            "time": "timestamp",
            "time_format": "ms",
        },
        "items": {"path": "events*.parquet", "id": "itemid", "distinct": True},
    },
    "library": {
        "interactions": {
            "path": "ausleihen.csv",
            "user": "Lesekarte",
            "item": "EAN",
            "time": "Ausleihdatum",
            "time_format": "%d.%m.%Y",
            "csv": {"delimiter": ";"},
        },
        "items": {
            "path": "katalog.csv",
            "id": "EAN",
            "title": "Buchtitel",
            "text": ["Buchtitel", "Sachgruppe", "Klappentext"],
            "categories": ["Sachgruppe"],
            "numbers": ["Ladenpreis"],
            "csv": {"decimal": ",", "delimiter": ";"},
        },
        "users": {
            "path": "leser.csv",
            "id": "Kartennr",
            "categories": ["PLZ"],
            "numbers": ["Jahrgang"],
            "csv": {"delimiter": ";"},
        },
    },
    "books": {
        "interactions": {
            "path": "BX-Book-Ratings.csv",
            "user": "User-ID",
            "item": "ISBN",
            "time": None,
            "label": "Book-Rating",
            "label_nulls": [0],
            "csv": {"delimiter": ";"},
        },
        "items": {
            "path": "BX-Books.csv",
            "id": "ISBN",
            "title": "Book-Title",
            "text": ["Book-Title", "Book-Author"],
            "categories": ["Book-Author"],
            "numbers": ["Year-Of-Publication"],
            "csv": {"delimiter": ";", "encoding": "cp1252"},
        },
        "users": {
            "path": "BX-Users.csv",
            "id": "User-ID",
            "categories": ["Location"],
            "numbers": ["Age"],
            "csv": {"delimiter": ";", "nulls": ["NULL"]},
        },
        "click_threshold": 8,
    },
    "plain_ids": {
        "interactions": {
            "path": "data.csv",
            "user": "user",
            "item": "item",
            "time": "date",
            "label": "value",
        },
        "items": {"path": "items.csv", "id": "id", "title": "name", "text": ["name"]},
        "users": {"path": "users.csv", "id": "id", "categories": ["gender"]},
        "click_threshold": 4,
    },
    "reviews": {
        "interactions": {
            "path": "reviews_Garden_5.csv",
            "user": "reviewerID",
            "item": "asin",
            "time": "unixReviewTime",
            "label": "overall",
        },
        "items": {
            "path": "meta_Garden.csv",
            "id": "asin",
            "title": "title",
            "text": ["title", "brand"],
            "categories": ["brand"],
            "numbers": ["price"],
        },
        "click_threshold": 4,
    },
    "news": {
        "interactions": {
            "path": "behaviors.csv",
            "user": "user_id",
            "item": "news_id",
            "time": "time",
            "time_format": "%m/%d/%Y %I:%M:%S %p",
            "outcomes": {"clicked": 1.0},
        },
        "items": {
            "path": "news.csv",
            "id": "news_id",
            "title": "title",
            "text": ["title", "category", "subcategory", "abstract"],
            "categories": ["category", "subcategory"],
        },
    },
    "places": {
        "interactions": {
            "path": "review.parquet",
            "user": "user_id",
            "item": "business_id",
            "time": "date",
            "label": "stars",
        },
        "items": {
            "path": "business.parquet",
            "id": "business_id",
            "title": "name",
            "text": ["name", "city", "categories"],
            "categories": ["city"],
            "lists": ["categories"],
            "vectors": ["photo"],
        },
        "click_threshold": 4,
    },
}


def make(shape, tmp_path):
    folder = tmp_path / shape
    folder.mkdir()
    getattr(folders, shape)(folder)
    return folder


@pytest.mark.parametrize("shape", EXPECTED)
def test_what_init_writes_is_what_a_person_would(shape, tmp_path, monkeypatch, capsys):
    folder = make(shape, tmp_path)
    monkeypatch.chdir(folder)  # paths in the file are as short as they can be
    assert cli.main(["init", "."]) == 0
    written = yaml.safe_load((folder / f"{shape}.yaml").read_text())
    assert written["data"] == EXPECTED[shape]
    config = load_config(str(folder / f"{shape}.yaml"))
    assert (config.text is None) == (shape == "clicks")
    shown = capsys.readouterr().out
    assert shown.rstrip().endswith(f"tfrec run {shape}.yaml")
    assert cli.main(["validate", f"{shape}.yaml"]) == 0
    assert "WRONG" not in capsys.readouterr().out


def test_reasons_are_shown_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(make("shop", tmp_path).parent)
    assert cli.main(["init", "shop", "--name", "spring"]) == 0
    shown, text = capsys.readouterr().out, (tmp_path / "spring.yaml").read_text()
    for output in (shown, text):
        assert "100% of them stand in products.parquet as sku" in output
        assert re.search(r"avg_rating:?\s+an outcome of choices", output)
        assert re.search(r"email:?\s+personal", output)
        assert "weight: qty" in output
    assert yaml.safe_load(text)["data"]["interactions"]["path"] == "shop/orders.csv"


def test_an_existing_file_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(make("likes", tmp_path))
    (tmp_path / "likes" / "likes.yaml").write_text("mine")
    assert cli.main(["init", "."]) == 1
    assert "'likes.yaml' is there already. Give --force" in capsys.readouterr().err
    assert cli.main(["init", ".", "--force"]) == 0


def test_times_decide_how_to_split(tmp_path, monkeypatch):
    """Users who all came at another time leave a test of the future without anybody known."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.repeat(np.arange(100), 12),
            "item": rng.integers(0, 90, 1200),
            "time": np.arange(1200) * 9999 + 10**9,
        }
    )
    frame.to_csv(tmp_path / "plays.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", ".", "--name", "plays"]) == 0
    assert load_config("plays.yaml").split.method == "leave_last_out"
    mixed = frame.assign(user=rng.permutation(frame.user))
    mixed.to_csv(tmp_path / "plays.csv", index=False)
    assert cli.main(["init", ".", "--name", "plays", "--force"]) == 0
    assert load_config("plays.yaml").split.method == "temporal"


def test_names_that_say_nothing_need_a_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = folders.choices()
    pd.DataFrame({"aa": frame.u, "bb": frame.i, "cc": frame.t}).to_csv("x.csv", index=False)
    assert cli.main(["init", "."]) == 1
    error = capsys.readouterr().err
    assert "Seen: x.csv: aa, bb, cc. Name the columns with --user and --item" in error
    assert "Traceback" not in error
    assert cli.main(["init", ".", "--name", "x", "--user", "aa", "--item", "bb"]) == 0
    assert load_config("x.yaml").data.interactions.item == "bb"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no table"),
        ({"notes.pdf": "x"}, "notes.pdf: not read"),
        ({"a.csv": ""}, "is empty"),
        (
            {"a.csv": "1,2,3\n4,5,6\n"},
            "At least 30 usable interactions are needed to begin with. Received: 2 of 2 rows",
        ),
        ({"a.csv": "user,user\n1,2\n"}, "names a column twice"),
        ({"a.csv": "user,item,time\nu,i,1\nv,j,2\n"}, "At least 30 usable interactions"),
    ],
)
def test_folders_that_cannot_be_used(files, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name, text in files.items():
        (tmp_path / "data" / name).write_text(text)
    assert cli.main(["init", "data"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CustomerID", ("customer", "id")),
        ("movieid", ("movie", "id")),
        ("StockCode", ("stock", "code")),
        ("user_id:token", ("user", "id")),
        ("ISBN", ("isbn",)),
        ("ordered_at", ("ordered", "at")),
        ("Categories", ("category",)),
        ("Kartennr", ("karten", "nr")),
    ],
)
def test_words_of_names(name, words):
    assert column_names.tokens(name) == words


def test_a_day_that_could_be_a_month_is_decided_by_the_order_of_rows():
    days = pd.Series([f"{day:02d}/{month:02d}/2024" for month in range(1, 13) for day in range(1, 13)])
    guessed = guess_time(days, False, ("date",))
    assert guessed.time_format == "%d/%m/%Y"
    assert "in the order of time" in guessed.why
    months = pd.Series([f"{month:02d}/{day:02d}/2024" for month in range(1, 13) for day in range(1, 13)])
    assert guess_time(months, False, ("date",)).time_format == "%m/%d/%Y"
    clear = guess_time(pd.concat([months, pd.Series(["01/25/2024"])]), False, ("date",))
    assert clear.why == "dates written %m/%d/%Y"
    assert not clear.rivals
    shuffled = guess_time(days.sample(frac=1, random_state=1), False, ("date",))
    assert {shuffled.time_format, *shuffled.rivals} == {"%d/%m/%Y", "%m/%d/%Y"}


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (["Mon Apr 06 22:19:45 2009", "Tue Apr 07 01:02:03 2009"], "date", "%a %b %d %H:%M:%S %Y"),
        (["3 Jan 2020", "14 Feb 2021"], "day", "%d %b %Y"),
        (["20240131", "20231225"], "day", "%Y%m%d"),
        (["phone 12 mini", "ab 2020-1"], "name", "no time"),
        (["12345", "12399"], "user", "no time"),
        (["45292.5", "45293.25"], "at", "excel"),
        (["45292.5", "45293.25"], "weight", "no time"),
        (["1700000000", "1700000001"], "item", "no time"),
        (["7e41633529000f80967da24083bb6c1c", "9e15353890070a3993281d90741280a9"], "time", "no time"),
    ],
)
def test_ways_to_write_a_time(values, name, expected):
    values = pd.Series(values * 10)
    numbers = bool(values.str.fullmatch(r"[\d.]+").all())
    guessed = guess_time(values, numbers, (name,))
    assert (guessed.time_format if guessed else "no time") == expected


def test_init_and_validate_need_no_tensorflow(tmp_path):
    folder = make("invoices", tmp_path)
    code = (
        "import sys; from pipeline.cli import main as cli; assert cli.main(['init', '.', '--name', 'x']) =="
        " 0\nassert cli.main(['validate', 'x.yaml']) == 0\nassert not {'tensorflow', 'tfx', 'apache_beam',"
        " 'transformers'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**__import__("os").environ, "PYTHONPATH": str(folders.ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_files_of_several_years_and_quarters_are_one_table(tmp_path):
    frame = pd.DataFrame({"client": ["a", "b"], "sku": [1, 2]})
    quarters = [f"orders_{year}_Q{quarter}.csv" for year in (2024, 2025) for quarter in (1, 2)]
    for name in [*quarters, "log.2024.csv.gz", "log.2025.csv.gz", "clients.2024.csv"]:
        frame.to_csv(tmp_path / name, index=False)
    tables = read_folder(tmp_path, Ledger())
    assert {table.path: len(table.files) for table in tables} == {
        "orders*Q*.csv": 4,
        "log*.csv.gz": 2,
        "clients.2024.csv": 1,
    }


def test_outcomes_of_what_was_shown_are_guessed(tmp_path):
    """Several of 0 and 1, and the position; a table of -1 and 1 has dislikes."""
    rng = np.random.default_rng(0)
    shown = pd.DataFrame({
        "user_id": np.repeat([f"u{user}" for user in range(40)], 10),
        "item_id": [f"i{item}" for item in rng.integers(0, 30, 400)],
        "time": 1_700_000_000 + np.arange(400),
        "slot": np.tile(np.arange(1, 11), 40),
        "clicked": rng.integers(0, 10, 400) < 2,
        "bought": rng.integers(0, 20, 400) < 1,
    }).astype({"clicked": int, "bought": int})  # fmt: skip
    items = pd.DataFrame({"item_id": [f"i{item}" for item in range(30)], "name": "a cup"})
    for name, table in (("shown", shown), ("votes", shown[["user_id", "item_id", "time"]])):
        folder = tmp_path / name
        folder.mkdir()
        if name == "votes":
            table = table.assign(vote=np.where(shown.clicked, 1, -1))
        table.to_csv(folder / "interactions.csv", index=False)
        items.to_csv(folder / "items.csv", index=False)
    found = guess(tmp_path / "shown").tables.interactions
    assert (found.outcomes, found.position, found.label, found.quantity) == (
        {"clicked": 1.0, "bought": 1.0}, "slot", None, None)  # fmt: skip
    assert guess(tmp_path / "votes").tables.interactions.outcomes == {"vote": 1.0}
