"""Cases about tables as users have them: encodings, flags, weights, lists, joins."""

import ast
import collections
import csv
import re

import pandas as pd
import pytest

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from tests.cases.reading import cells, choices, entities, needs_cases, tables
from tfrec_fusion.datasets.splits import Event, in_order, split_user

pytestmark = needs_cases


def test_ids_that_look_like_numbers_stay_texts(init, validate):
    _, data = init("table-01")
    assert data["interactions"] | {"path": ""} == {
        "path": "",
        "user": "customer_id",
        "item": "product_id",
        "time": "ordered_at",
    }
    rows, rejects = choices(tables("x.yaml"))
    wanted = [(row["customer_id"], row["product_id"]) for row in cells("t/orders.csv")]
    assert [row[:2] for row in rows] == wanted and not rejects
    assert any(re.match(r"\d+e\d{4}", user) for user, _ in wanted)
    assert validate()[0] == 0
    assert validate("t.yaml")[0] == 0


@pytest.mark.parametrize(("folder", "encoding"), [("t", "cp1251"), ("t_sjis", "cp932")])
def test_encodings_are_told_with_a_title(init, validate, folder, encoding):
    said, data = init("table-02", folder)
    assert data["items"]["csv"] == {"encoding": encoding}
    with open(f"{folder}/items.csv", encoding=encoding, newline="") as file:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    assert f"items.csv: read as {encoding}, for example {next(iter(titles.values()))!r}" in said
    found, _ = entities(tables("x.yaml").items, "items")
    assert {item: row["title"] for item, row in found.items()} == titles
    assert load_config("x.yaml").text.encoder == "subwords"
    assert validate()[0] == 0
    status, told = validate("x.yaml", "text.encoder=all-MiniLM-L6-v2")
    assert (
        "unknown to all-MiniLM-L6-v2" in told if folder == "t_sjis" else "its vocabulary holds only" in told
    )
    assert status == (folder == "t_sjis")


def test_minus_one_is_no_grade(init, validate):
    said, data = init("table-03")
    assert data["interactions"]["label_nulls"] == [-1]
    assert "-1 (22% of the rows) stands apart from 7 to 10" in said
    assert "from 7 to 10" in validate()[1]
    assert "looks like 'not rated'" in validate("x.yaml", "data.interactions.label_nulls=[]")[1]


def test_a_flag_is_no_text_and_what_is_left_out_is_listed(init, validate):
    said, data = init("table-04")
    assert not {"title", "text"} & set(data["items"]) and "users" not in data
    left = said.partition("left out:")[2]
    assert "verified yes and no" in left and "reviewText" in left and "summary" in left
    assert validate()[0] == 0


@pytest.mark.parametrize(("folder", "column"), [("t", "plays"), ("t_hours", "hours_played")])
def test_counts_and_hours_are_offered_as_weights(init, validate, folder, column):
    said, _ = init("table-05", folder)
    assert f"To use it: weight: {column}" in said
    assert validate("x.yaml", f"data.interactions.weight={column}")[0] == 0


def test_a_dislike_is_no_choice(init, validate):
    _, data = init("table-06")
    grades = data["interactions"]["label_values"]
    assert grades["love"] > grades["like"] > grades["dislike"]
    rows, rejects = choices(tables("x.yaml"))
    given = collections.Counter(row["rating"] for row in cells("t/ratings.csv"))
    assert len(rows) == given["like"] + given["love"]
    assert rejects == {"no choice: event 'dislike' counts 0": given["dislike"]}
    assert validate()[0] == 0


@pytest.mark.parametrize(
    ("folder", "words", "rule"),
    [
        ("t", "100% without '.0'", "number"),
        ("t2", "100% without leading zeros", "number"),
        ("t_spaces", "100% without capital letters", "folded"),
    ],
)
def test_ids_that_are_written_differently_are_told_and_matched(init, validate, folder, words, rule):
    said, data = init("table-08", folder)
    assert f"0% match as written, {words}" in said
    assert data["item_ids"] == rule and data["items"]["text"] == ["title"]
    assert "among 15 of 15 items" in validate()[1]


def test_lists_of_ids_in_a_cell(init, validate):
    _, data = init("table-09")
    assert data["interactions"]["item"] == "items" and data["interactions"]["explode"] == " "
    wanted = [(row["user_id"], item) for row in cells("t/sessions.csv") for item in row["items"].split()]
    rows, _ = choices(tables("x.yaml"))
    assert [row[:2] for row in rows] == wanted
    assert validate()[0] == 0


def test_lists_taken_for_items_are_not_ready(opened, validate):
    folder = opened("table-09")
    (folder / "x.yaml").write_text(
        "name: x\ndata:\n  interactions: {path: t/sessions.csv, user: user_id, item: items, time: time}\n"
        "  items: {path: t/sessions.csv, id: items, distinct: true}\ntext: none\n"
    )
    status, said = validate()
    assert status == 1 and "no model can be judged by items that it never saw" in said and "`explode`" in said


@pytest.mark.parametrize("ending", ["dat", "csv"])
def test_double_colons_and_no_header(opened, capsys, validate, ending):
    folder = opened("table-10")
    for name in ("ratings", "movies"):
        (folder / "t" / f"{name}.dat").rename(folder / "t" / f"{name}.{ending}")
    assert cli.main(["init", "t", "--name", "x"]) == 0
    assert f"ratings.{ending}: columns divided by '::' and no header line" in " ".join(
        capsys.readouterr().out.split()
    )
    rows, _ = choices(tables("x.yaml"))
    lines = (folder / "t" / f"ratings.{ending}").read_text().split()
    assert [(user, item) for user, item, _ in rows] == [tuple(line.split("::")[:2]) for line in lines]
    assert validate()[0] == 0


def test_json_lines(init, validate):
    init("table-11")
    written = pd.read_json("t/reviews.jsonl", lines=True, dtype=str)
    rows, _ = choices(tables("x.yaml"))
    assert [row[:2] for row in rows] == list(zip(written.reviewerID, written.asin, strict=True))
    assert validate()[0] == 0


def test_a_time_that_fits_no_format_is_named_with_the_way_out(init, validate):
    said, _ = init("table-13")
    assert "time looks like a time, but '11/01/2019 00:21:00 AM' fits no format" in said
    assert "--time time --time-format FORMAT" in said
    assert cli.main(["init", "t", "--name", "y", "--time=time", "--time-format=%m/%d/%Y %H:%M:%S AM"]) == 0
    assert "from 2019-11-01" in validate("y.yaml")[1]


def test_html_is_cleaned_and_said(init):
    said, _ = init("table-14")
    assert "100% of the texts hold HTML ('Thing i0 &amp; more')" in said
    found, _ = entities(tables("x.yaml").items, "items")
    assert found["i0"]["title"] == "Thing i0 & more"
    assert "&amp;" not in str(found) and "<" not in str(found)


@pytest.mark.parametrize(("folder", "column"), [("t", "genres"), ("t_tags", "tags")])
def test_lists_as_python_writes_them(init, folder, column):
    _, data = init("table-15", folder)
    assert data["items"]["lists"] == [column]
    found, _ = entities(tables("x.yaml").items, "items")
    for row in cells(f"{folder}/items.csv"):
        values = [
            value if isinstance(value, str) else value["name"] for value in ast.literal_eval(row[column])
        ]
        assert found[row["item_id"]][f"item_categories__{column}"] == values


def test_the_previews_split_is_the_runs(init, validate):
    said, _ = init("table-17")
    rows, _ = choices(tables("x.yaml"))
    people = collections.defaultdict(list)
    for user, item, time in rows:
        people[user].append(Event(time, item))
    trained, tested = set(), []
    for user, events in people.items():
        for example in split_user(in_order(user, events)[0], "leave_last_out", None, 5):
            if example.split == "train":
                trained.add(example.event.item)
            elif example.split == "test":
                tested.append(example.event.item)
    cold = sum(item not in trained for item in tested) / len(tested)
    assert 0 < cold < 0.5
    assert f"{cold:.0%} of the test's items are new there" in said
    assert f"{1 - cold:.0%} of its items are known from training" in validate()[1]


def test_orders_and_their_lines_are_joined(init, validate):
    said, data = init("table-18")
    assert data["interactions"]["path"] == "t/order_items.csv"
    assert data["interactions"]["join"] == {"path": "t/orders.csv", "on": "order_id"}
    frame = pd.read_csv("t/order_items.csv", dtype=str).merge(
        pd.read_csv("t/orders.csv", dtype=str), on="order_id"
    )
    rows, _ = choices(tables("x.yaml"))
    assert sorted(row[:2] for row in rows) == sorted(zip(frame.customer_id, frame.product_id, strict=True))
    assert "weight: qty" in said and "price" in said.partition("left out:")[2]
    assert validate()[0] == 0


def test_an_empty_label_is_a_choice(init, validate):
    said, data = init("table-20")
    assert data["interactions"]["label"] == "stars"
    assert "33% of the rows have one; the others are choices without an opinion" in said
    rows, rejects = choices(tables("x.yaml"))
    assert len(rows) == 300 and not rejects
    assert validate()[0] == 0
