"""Files as people have them: dividers, headers, encodings, compression, times."""

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import load_config
from tests.pipeline.onboarding_tables import ROWS, WORDS, choices, init, items, pick, ratings, validate, write


def test_yaml_reads_the_key_on_as_true(folder):
    (folder / "x.yaml").write_text(
        "name: x\ndata:\n  interactions: {path: a.csv, join: {path: b.csv, on: order}}\n  items: {path:"
        " c.csv}\n"
    )
    assert load_config("x.yaml").data.interactions.join.on == "order"


@pytest.mark.parametrize("divider", [" ", "|", ","])
def test_lists_of_ids_in_a_cell(folder, capsys, divider):
    rng = np.random.default_rng(5)
    sessions = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 12, ROWS)],
            "time": 1_700_000_000 + np.arange(ROWS) * 100,
            "items": [divider.join(f"i{n}" for n in rng.integers(0, 15, 4)) for _ in range(ROWS)],
        }
    )
    write(folder, sessions=sessions, items=items())
    assert init(capsys)[0] == 0
    assert load_config("x.yaml").data.interactions.explode == divider
    status, out = validate(capsys)
    assert status == 0
    # The same as if each list were one item.
    sessions.rename(columns={"items": "item_id"}).to_csv("flat.csv", index=False)
    (folder / "x.yaml").write_text(
        "name: x\ntext: none\ndata:\n  interactions: {path: flat.csv, user: user_id, item: item_id, time:"
        " time}\n  items: {path: flat.csv, id: item_id, distinct: true}\n"
    )
    status, out = validate(capsys)
    assert status == 1
    assert "do its cells hold one id each (`explode`)" in out


def test_files_without_a_header_and_with_another_sign_between_columns(folder, capsys):
    frame = choices()
    rows = zip(frame.u + 1, frame.i + 1, pick([1, 2, 3, 4, 5]), frame.t, strict=True)
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in rows))
    films = "".join(f"{n + 1}::The {word} ({1990 + n})::Drama|War\n" for n, word in enumerate(WORDS))
    (folder / "movies.dat").write_text(films, encoding="utf-8")
    assert init(capsys)[0] == 0
    data = load_config("x.yaml").data
    assert data.interactions.csv.header == ("user_id", "item_id", "rating", "time")
    assert data.interactions.csv.delimiter == "::"
    assert (data.interactions.user, data.interactions.item) == ("user_id", "item_id")
    assert (data.items.id, data.items.title) == ("item_id", "title")
    assert validate(capsys)[0] == 0


def test_compressed_json_lines_and_a_broken_row(folder, capsys):
    lines = [json.dumps(row) for row in ratings(overall=pick([1, 2, 3, 4, 5])).to_dict("records")]
    with gzip.open(folder / "reviews.json.gz", "wt") as stream:
        stream.write("\n".join([*lines[:80], "{broken", *lines[80:]]))
    write(folder, items=items())
    status, out = init(capsys)
    assert status == 0
    assert "1 of 161 rows cannot be read" in out
    assert "reviews.json.gz, line 81" in out
    assert load_config("x.yaml").data.interactions.label == "overall"


@pytest.mark.parametrize(
    ("encoding", "titles"),
    [
        (
            "cp1251",
            ["красная", "шапка", "зелёный", "диван", "старые", "часы", "белый", "медведь", "синее", "море"],
        ),
        ("gb18030", ["红色的帽子", "绿色的沙发", "旧时钟", "白熊", "蓝色的大海", "中国的电影", "北京的春天"]),
        (
            "cp932",
            ["赤い帽子", "青いソファ", "古い時計", "白いくま", "日本の映画", "東京の春です", "猫のカフェ"],
        ),
    ],
)
def test_encodings_are_told_with_a_title(folder, capsys, encoding, titles):
    listing = items(title=[f"{titles[n % len(titles)]} {n}" for n in range(15)])
    listing.to_csv(folder / "items.csv", index=False, encoding=encoding)
    write(folder, ratings=ratings())
    status, out = init(capsys)
    assert status == 0
    assert f"items.csv: read as {encoding}, for example" in out
    assert titles[0] in out
    assert yaml.safe_load((folder / "x.yaml").read_text(encoding="utf-8"))["data"]["items"]["csv"] == {
        "encoding": encoding
    }


def test_a_time_that_fits_no_format_is_named_with_the_way_out(folder, capsys):
    write(folder, ratings=ratings(timestamp=[f"day {n} of spring" for n in range(ROWS)]), items=items())
    _, out = init(capsys)
    assert "looks like a time, but 'day 0 of spring' fits no format" in out
    assert "--time timestamp --time-format FORMAT" in out


def test_day_and_month_that_cannot_be_told_apart_are_asked_for(folder, capsys):
    rng = np.random.default_rng(6)
    days = [f"{a:02d}/{b:02d}/2024" for a, b in rng.integers(1, 13, (ROWS, 2))]
    write(folder, ratings=ratings(timestamp=days), items=items())
    assert cli.main(["init", ".", "--name", "x"]) == 1
    error = capsys.readouterr().err
    assert "can be read in 2 ways" in error
    assert re.search(r"'%d/%m/%Y' reads \S+ as \d+ \w+ 2024, '%m/%d/%Y' reads", error)
    status, _ = init(capsys, "--time-format", "%d/%m/%Y")
    assert status == 0
    assert load_config("x.yaml").data.interactions.time_format == "%d/%m/%Y"
    assert "from 2024-01-" in validate(capsys)[1]


@pytest.mark.parametrize("times", [1_700_000_000, 45_000.25])
def test_numbers_are_times_where_the_caller_says_so(folder, capsys, times):
    """Of seconds and of Excel's days the column's name would have to say it."""
    table = ratings(other=[times + n for n in range(ROWS)]).drop(columns="timestamp")
    write(folder, ratings=table, items=items())
    assert init(capsys, "--time=other")[0] == 0
    assert load_config("x.yaml").data.interactions.time == "other"
    assert validate(capsys)[0] == 0


def test_a_delimiter_at_the_end_of_each_row_does_not_hide_the_header(folder, capsys):
    rows = ratings().to_csv(index=False).splitlines()
    (folder / "ratings.csv").write_text("\n".join([rows[0], *(f"{row}," for row in rows[1:])]))
    write(folder, items=items())
    assert init(capsys)[0] == 0
    assert "header" not in (folder / "x.yaml").read_text()
    assert validate(capsys)[0] == 0


@pytest.mark.parametrize("above", ["# exported today\n# by a shop\n", "sep=,\n"])
def test_lines_above_the_header_are_no_rows(folder, capsys, above):
    table = ratings()
    (folder / "ratings.csv").write_text(above + table.to_csv(index=False))
    status, output = init(capsys)
    assert status == 0 and f"user user_id {table.user_id.nunique()} different values" in output
    status, output = validate(capsys)
    assert status == 0 and f"{table.item_id.nunique()} of {table.item_id.nunique()} items" in output


def test_a_table_without_a_row_that_can_be_read_says_why(folder, capsys):
    write(folder, ratings=ratings())
    (folder / "broken.csv").write_text("a,b\n" + "".join(f"{word},x{word},y{word}\n" for word in WORDS))
    _, message = init(capsys)
    assert "broken.csv: not read: none of its 15 rows can be read, the first: " in message
