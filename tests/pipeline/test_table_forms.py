"""Tables in the forms that users have, through ExampleGen: rows are read, and counted, as `tfrec validate`
counts them."""

import collections
import dataclasses
import json

import pandas as pd
import pytest

from pipeline.components.table_reading import ReadEntities, ReadInteractions
from pipeline.onboarding.measuring import measure_choices, measure_entities
from tests.pipeline.test_example_gen import execute
from tests.pipeline.test_example_gen import read as written
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.csv_format import Csv
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.settling import settle_interactions
from tfrec_fusion.datasets.splits import Event, in_order
from tfrec_fusion.datasets.tables import Interactions, Items, Join, Tables
from tfrec_fusion.features.columns import RawFeature


def items(folder, names="abcd"):
    frame = pd.DataFrame({"item": list(names), "title": [f"Thing {name}" for name in names]})
    frame.to_csv(folder / "items.csv", index=False)
    return Items(str(folder / "items.csv"), "item", "title")


def measured(tables):
    ids = measure_entities(tables.items, "items", rule=tables.item_ids).ids
    return measure_choices(tables.interactions, ids, user_ids=tables.user_ids, item_ids=tables.item_ids)


def read(table, **rules):
    """Each user's items in order, and rejects by reason: as a run reads them, and as `measure_choices`
    foretells."""
    tables = Tables(table, Items("", "item"), **rules)
    users, rejects = {}, collections.Counter()
    reader = ReadInteractions(settle_interactions_of(tables))
    for file in find_files(table.path):
        for row in reader.process(file):
            if isinstance(row, tuple):
                item, (user, time, *others) = row
                users.setdefault(user, []).append(Event(time, item, *others))
            else:
                rejects[row.value[1]] += 1
    choices = measure_choices(table, None, **rules)
    assert choices.rejects | choices.left_out == rejects
    assert len(choices.frame) == sum(map(len, users.values()))
    return {
        user: [event.item for event in in_order(user, events)[0]] for user, events in users.items()
    }, rejects


def settle_interactions_of(tables):
    return dataclasses.replace(tables, interactions=settle_interactions(tables.interactions)[0])


def test_a_run_counts_what_was_measured(tmp_path):
    """Bad lines, choices without an opinion, kinds that are none, and clicks within a second, in one file."""
    start = 1_704_067_200_000
    rows = [(user, item, start + 200 * n) for user in "uv" for n, item in enumerate("dbacbd")]
    stars = ["5", "", "1", "-1", "", "4"] * 2
    lines = [f"{user},{item},{time},{star},buy" for (user, item, time), star in zip(rows, stars, strict=True)]
    lines += [f"u,a,{start},,view"] * 20 + [
        f"u,a,{start},,return",
        "u,a",
        f'u,"b,{start},5,buy',
        f"u,c,{start},5,buy,9",
    ]
    (tmp_path / "clicks.dat").write_text("\n".join(["user,item,time,stars,kind", *lines]))
    table = Interactions(
        str(tmp_path / "clicks.dat"),
        "user",
        "item",
        "time",
        label="stars",
        label_nulls=(-1,),
        event="kind",
        events={"view": 0, "buy": 2},
    )
    tables = Tables(table, items(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"4 of 36 rows of the interactions table \(11.1%\) cannot be used: .*1 too few values",
    ):
        execute(tmp_path, tables, share=0.1)
    report = json.loads((tmp_path / "report/report.json").read_text())
    choices = measured(tables)
    results = {entry["reason"]: entry["rows"] for entry in report["rejected"]}
    assert choices.rejects | choices.left_out == results
    assert results == {
        "too few values": 1,
        "too many values": 1,
        "a quote that is never closed": 1,
        "event 'return' is not among `events`": 1,
        "no choice: event 'view' counts 0": 20,
    }
    assert report["tables"]["interactions"] == {"read": 36, "kept": 12, "rejected": 4, "left_out": 20}
    assert report["read_as"] == list(choices.notes) == ["`time` is read as milliseconds since 1970"]
    assert [str(moment) for moment in choices.period] == [
        "2024-01-01 00:00:00+00:00",
        "2024-01-01 00:00:01+00:00",
    ]
    assert any("clicks.dat, line 36: a quote that is never closed" in row for row in choices.bad_rows)
    rejects = map(json.loads, (tmp_path / "report/rejects-00000-of-00001.jsonl").read_text().splitlines())
    broken = [
        json.loads(line["row"])["line"]
        for line in rejects
        if "value" in line["reason"] or "quote" in line["reason"]
    ]
    assert sorted(broken) == [35, 36, 37]
    users = {row["user_id"][0]: row["history"] for row in written(tmp_path / "users", "all")}
    assert users == {"u": list("dbacbd"), "v": list("dbacbd")}
    kept = [
        row for part in ("train", "validation", "test") for row in written(tmp_path / "interactions", part)
    ]
    assert sorted(row.get("label", [0])[0] for row in kept) == [0] * 6 + [1, 1, 4, 4, 5, 5]
    assert {row["time"][0] for row in kept} == {start // 1000, start // 1000 + 1}


def test_sessions_with_many_items_in_a_cell(tmp_path):
    (tmp_path / "sessions.tsv").write_text(
        "user\titems\tday\nu\td b a\t2024-01-01\nv\ta c\t2024-01-02\nw\t\t2024-01-03\n"
    )
    result, rejects = read(Interactions(str(tmp_path / "sessions.tsv"), "user", "items", "day", explode=" "))
    assert result == {"u": ["d", "b", "a"], "v": ["a", "c"]}
    assert rejects == {"missing item id": 1}


def test_orders_and_lines_in_two_tables(tmp_path):
    orders = pd.DataFrame(
        {"order_id": [1, 2, 3], "who": ["u", "v", "u"], "when": pd.date_range("2024-01-01", periods=3)}
    )
    orders.to_parquet(tmp_path / "orders.parquet")
    lines = pd.DataFrame({"order_id": [1, 3, 2, 1, 7], "item": list("abcda")})
    for n in range(2):
        lines[n::2].to_csv(tmp_path / f"lines{n}.csv", index=False)
    join = Join(str(tmp_path / "orders.parquet"), "order_id")
    result, rejects = read(Interactions(str(tmp_path / "lines*.csv"), "who", "item", "when", join=join))
    assert {user: sorted(names) for user, names in result.items()} == {"u": ["a", "b", "d"], "v": ["c"]}
    assert result["u"][-1] == "b"  # of the third order
    assert rejects == {"no row of its own in the joined table for its 'order_id'": 1}


def test_ids_that_are_written_differently_are_matched_by_a_key(tmp_path):
    rows = pd.DataFrame({"user": ["7.0", "07", "7"], "item": ["1.0", "02", "3"], "time": [1, 2, 3]})
    rows.to_csv(tmp_path / "r.csv", index=False)
    pd.DataFrame({"item": [1, 2, 3, None]}).astype("Int64").to_parquet(tmp_path / "i.parquet")
    table = Interactions(str(tmp_path / "r.csv"), "user", "item", "time")
    assert read(table, user_ids="number", item_ids="number")[0] == {"7": ["1", "2", "3"]}
    tables = Tables(table, Items(str(tmp_path / "i.parquet"), "item"))
    assert measured(tables).rejects == {"unknown item": 2}
    assert measured(dataclasses.replace(tables, item_ids="number")).rejects == {}


def test_a_file_without_a_header_line(tmp_path):
    (tmp_path / "ratings.dat").write_text("".join(f"{n % 2}::{'abcd'[n % 4]}::5::{n}\n" for n in range(8)))
    style = Csv("::", header=("user", "item", "stars", "time"))
    result, _ = read(
        Interactions(str(tmp_path / "ratings.dat"), "user", "item", "time", label="stars", csv=style)
    )
    assert result == {"0": list("acac"), "1": list("bdbd")}


def test_lists_of_json_lines(tmp_path):
    (tmp_path / "movies.jsonl").write_text(
        "\n".join(json.dumps({"id": name, "tags": ["x", name]}) for name in "ab")
    )
    rows, _ = read_items(Items("", "id", lists=("tags",)), tmp_path / "movies.jsonl")
    name = RawFeature("item", "categories", "tags").name
    assert rows == {"a": {name: ["x", "a"]}, "b": {name: ["x", "b"]}}


def read_items(table, path):
    rows, rejects = [], []
    for row in ReadEntities(table, "items").process(str(path)):
        (rows if isinstance(row, tuple) else rejects).append(row)
    return dict(rows), [reject.value for reject in rejects]


def test_a_vector_with_nan_is_a_reject_that_names_its_item(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "v": [[1.0, 2.0], [1.0, float("nan")]]})
    frame.to_parquet(tmp_path / "i.parquet")
    table = Items(str(tmp_path / "i.parquet"), "id", vectors=("v",))
    rows, (reject,) = read_items(table, tmp_path / "i.parquet")
    assert list(rows) == ["a"]
    assert reject[:2] == ("items", "a vector of 'v' that holds NaN, an infinity or no number")
    assert json.loads(reject[2])["id"] == "b"
    assert measure_entities(table, "items").rejects == {reject[1]: 1}


def test_one_category_in_two_row_groups_is_one(tmp_path):
    """Of 70,000 rows with a null at the end, half read '1' and half '1.0'."""
    frame = pd.DataFrame({"id": range(200), "c": pd.array([1] * 199 + [None], "Int64")})
    frame.to_parquet(tmp_path / "i.parquet", row_group_size=100)
    rows, _ = read_items(Items("", "id", categories=("c",)), tmp_path / "i.parquet")
    name = RawFeature("item", "categorical", "c").name
    assert collections.Counter(row[name] for row in rows.values()) == {"1": 199, None: 1}


def test_a_struct_as_a_title_is_refused_by_name(tmp_path):
    pd.DataFrame({"id": ["a"], "t": [{"en": "tea"}]}).to_parquet(tmp_path / "i.parquet")
    with pytest.raises(
        ConfigError, match="column 't' of the items table must hold one value a cell. Received: struct"
    ):
        read_items(Items("", "id", title="t"), tmp_path / "i.parquet")
