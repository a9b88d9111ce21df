"""Files in the forms of exports: signs between columns, parts, spreadsheets, words for nothing."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from pipeline.onboarding.measuring import measure_choices
from tests.guessing.forms import left, offers, run
from tests.pipeline.onboarding_tables import ROWS, WORDS, choices, items, pick, ratings, write
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.dialect import detect_kind
from tfrec_fusion.datasets.encodings import detect_encoding
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.guessing.folder import guess


def test_addresses_are_no_lists(tmp_path):
    urls = [f"http://news.example/{['sport', 'world'][n % 2]}/{['a', 'b', 'c'][n % 3]}" for n in range(15)]
    write(tmp_path, ratings=ratings(), items=items(url=urls))
    found = guess(tmp_path).tables.items
    assert "url" not in (*found.lists, *found.text)


@pytest.mark.parametrize("sign", ["<SEP>", "~", "@@", " +++$+++ ", "¦"])
def test_any_sign_between_columns(tmp_path, sign):
    """The Million Song Dataset's tracks: `<SEP>`, and no header line."""
    lines = [
        sign.join([f"i{n}", f"Artist {word}", f"The {word} of the north"]) for n, word in enumerate(WORDS)
    ]
    (tmp_path / "tracks.txt").write_text("\n".join(lines), encoding="utf-8")
    write(tmp_path, ratings=ratings())
    found = guess(tmp_path).tables.items
    assert (found.path, found.csv.delimiter) == ("tracks.txt", sign.strip())


@pytest.mark.parametrize("name", ["ratings.parquet/part-0.parquet", "ratings/day={day}/part-0.parquet"])
def test_a_table_in_parts_in_a_folder(tmp_path, name):
    """As Spark and Hive write them."""
    for day, part in enumerate(np.array_split(ratings(), 3)):
        path = tmp_path / name.format(day=f"2024-01-0{day + 1}").replace("-0.", f"-{day}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.to_parquet(path)
        (path.parent / "_SUCCESS").touch()
    write(tmp_path, items=items())
    (tmp_path / "old").mkdir()
    items().to_csv(tmp_path / "old/things.csv", index=False)
    result, text = left(tmp_path)
    files = find_files(str(tmp_path / result.tables.interactions.path))
    assert len(files) == 3 and result.profile.rows == ROWS
    assert "old/: a folder, not looked into" in text
    if "{day}" in name:
        assert "stands in the names of folders (day=2024-01-01), which a run does not read" in text


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"FEA1\0\0\0\0", "a Feather file"),
        (b"\xff\xff\xff\xff\x90", "an Arrow stream"),
        (b"r.csv".ljust(257, b"\0") + b"ustar\x0000" + bytes(100), "a tar archive"),
        (b"-- MySQL dump 10.13\n\nDROP TABLE IF EXISTS `a`;", "an SQL dump"),
        (b"/* x */\nINSERT INTO `orders` VALUES (1,2),(3,4);\n", "an SQL dump"),
        (b"COPY public.orders (id, item) FROM stdin;\n1\t2\n", "an SQL dump"),
    ],
)
def test_files_that_are_no_tables_say_what_they_are(tmp_path, start, words):
    (tmp_path / "x.csv").write_bytes(start)
    with pytest.raises(ConfigError, match=words):
        detect_kind(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    "start", ["ORCID,name\n0000,x\n", "MATLAB,Rar!\n1,2\n", "Set,copy from\n1,2\n", "-- a,b\n1,2\n"]
)
def test_names_that_files_of_other_kinds_begin_with(tmp_path, start):
    (tmp_path / "x.csv").write_text(start)
    assert detect_kind(str(tmp_path / "x.csv")) == "csv"


def test_chinese_behind_numbers_is_no_hebrew():
    text = "user_id,age\n" + "".join(
        f"{n},{['26-35岁', '36-45岁', '-1', '56岁以上'][n % 4]}\n" for n in range(40)
    )
    assert detect_encoding(text.encode("gbk")) == "gb18030"


@pytest.mark.parametrize("above", ["", "sep=;\n", "Orders of 2024;;;;;\nby the shop;;;;;\n;;;;;\n"])
def test_a_spreadsheet_with_blank_columns_and_lines(tmp_path, above):
    lines = [f"{row.user_id};{row.item_id};{row.t:%d.%m.%Y %H:%M:%S};4,5;;" for row in dated().itertuples()]
    text = above + "\n".join(["Kunde;Artikel;Datum;Note;;", *lines, ";;Summe;720,00;;"]) + "\n"
    (tmp_path / "orders.csv").write_text(f"\ufeff{text}", encoding="utf-8")
    table = guess(tmp_path).tables.interactions
    assert (table.user, table.item, table.time) == ("Kunde", "Artikel", "Datum")
    assert (table.time_format, table.csv.decimal) == ("%d.%m.%Y %H:%M:%S", ",")
    measured = measure_choices(dataclasses.replace(table, path=str(tmp_path / table.path)), None)
    assert len(measured.frame) == ROWS
    assert sum(measured.rejects.values()) == 1 + above.count("\n")  # the sum, and what stands above


def dated():
    return ratings().assign(t=lambda frame: pd.to_datetime(frame.timestamp, unit="s"))


def test_marks_for_nothing_beside_numbers(tmp_path):
    stars = pick(["5", "4", "3", "1", "2", "NA", "--", "(null)", "missing", "n.a."])
    write(tmp_path, ratings=ratings(stars=stars), items=items(brand=["NA", "Acme", "--"] * 5))
    table = guess(tmp_path).tables.interactions
    assert table.label == "stars"
    assert {"NA", "--", "(null)", "missing", "n.a."} == {*table.csv.nulls}
    assert guess(tmp_path).tables.items.csv.nulls == ()


def test_numbers_among_words_keep_their_value_in_an_offer(tmp_path):
    write(tmp_path, ratings=ratings(stars=pick(["5", "4", "abstained", "5 or so"])), items=items())
    result, _ = left(tmp_path)
    assert offers(result)["stars"]["label_values"] == {"5": 5.0, "4": 4.0}


def test_ids_between_single_quotes_are_pointed_at(tmp_path):
    frame = ratings()
    write(tmp_path, ratings=frame.assign(item_id="'" + frame.item_id + "'"), items=items())
    assert "ratings.csv: values of item_id stand between single quotes" in left(tmp_path)[1]


def test_columns_of_fixed_width(tmp_path):
    frame = choices()
    lines = [f"{row.u + 1:<9d}{row.i + 100:<9d}{row.t}" for row in frame.itertuples()]
    (tmp_path / "log.txt").write_text("\n".join(["user_id  item_id  time", *lines]))
    with pytest.raises(ConfigError, match="spaces divide 3 in it") as error:
        guess(tmp_path)
    run(re.search(r"sed .*? > table.csv", str(error.value))[0], tmp_path)
    (tmp_path / "log.txt").unlink()
    table = guess(tmp_path).tables.interactions
    assert (table.user, table.item, table.time) == ("user_id", "item_id", "time")
