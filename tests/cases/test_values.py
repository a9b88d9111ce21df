"""Cases about values that change on the way: ids, nulls, vectors, line breaks."""

import collections
import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.components.table_reading import ReadInteractions
from tests.cases.reading import cells, choices, entities, needs_cases, tables
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.settling import settle
from tfrec_fusion.datasets.splits import Event, in_order
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

pytestmark = needs_cases


@pytest.mark.parametrize(("name", "people"), [("bigint", 64), ("bigint_uint64", 512)])
def test_nullable_integers_are_ids_as_they_are_written(opened, name, people):
    folder = opened("report-01")
    wanted = pq.read_table(folder / name / "orders.parquet").column("who").to_pylist()
    rows, rejects = choices(tables(f"{name}.yaml"))
    assert [user for user, _, _ in rows] == [str(value) for value in wanted if value is not None]
    assert len({user for user, _, _ in rows}) == people
    assert rejects == {"missing user id": 1}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            pa.array([2**53 + 1, 2**53 + 2, 2**53 + 3, None]),
            ["9007199254740993", "9007199254740994", "9007199254740995", None],
        ),
        (
            pa.array([2**63 + 1, 2**63 + 3, 2**63 + 5, None], pa.uint64()),
            [str(2**63 + n) for n in (1, 3, 5)] + [None],
        ),
        (pa.array([1, 2, 3, None], pa.int32()), ["1", "2", "3", None]),
        (
            pa.array([decimal.Decimal("12.00"), decimal.Decimal("13.50"), None, None], pa.decimal128(20, 2)),
            ["12", "13.5", None, None],
        ),
        (pa.array([b"p1", b"p2", b"p1", None], pa.binary()), ["p1", "p2", "p1", None]),
    ],
)
def test_an_id_of_any_type_of_parquet(tmp_path, array, expected):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"who": array, "sku": ["a", "b", "c", "d"], "at": [1, 2, 3, 4]}), path)
    read = settle(Tables(Interactions(path, "who", "sku", "at"), Items(path, "sku"))).tables
    rows, rejects = choices(read)
    assert [user for user, _, _ in rows] == [value for value in expected if value is not None]
    assert rejects["missing user id"] == expected.count(None)


def test_ids_with_a_fraction_of_nothing_are_told_and_matched(opened, validate):
    opened("report-02")
    for name, key in (("floats", "item_ids"), ("floats_users", "user_ids")):
        status, said = validate(f"{name}.yaml")
        assert status == 1
        assert f"0% match as written, 100% without '.0'. Set `data.{key}: number`" in said
        status, said = validate(f"{name}.yaml", "data.item_ids=number", "data.user_ids=number")
        assert status == 0 and "480 choices of 60 users among 30 of 30 items" in said
    status, said = validate("floats_parquet.yaml")
    assert status == 0 and "480 choices of 60 users among 30 of 30 items" in said


@pytest.mark.parametrize(
    ("role", "array", "expected"),
    [
        ("categories", pa.array([b"Acme", "Øl".encode(), None], pa.binary()), ["Acme", "Øl", None]),
        (
            "lists",
            pa.array([[b"red", b"big"], [b"blue"], None], pa.list_(pa.binary())),
            [["red", "big"], ["blue"], []],
        ),
        ("lists", pa.array([b"red|big", b"blue", None], pa.binary()), [["red", "big"], ["blue"], []]),
        ("text", pa.array(["a", "b", None], pa.large_string()), ["a", "b", None]),
        ("text", pa.array([b"Green tea", "Thé".encode(), None], pa.binary()), ["Green tea", "Thé", None]),
        ("categories", pa.array([1, 2, None]), ["1", "2", None]),
        (
            "categories",
            pa.array([1285704473650888703, 1285704473650888705, None]),
            ["1285704473650888703", "1285704473650888705", None],
        ),
        (
            "categories",
            pa.array([datetime.date(2024, 1, 2), datetime.date(2024, 1, 3), None]),
            ["2024-01-02", "2024-01-03", None],
        ),
        ("numbers", pa.array([decimal.Decimal("12.50"), decimal.Decimal("3.00"), None]), [12.5, 3.0, None]),
        ("lists", pa.array([[1, None, 3], [2], None], pa.list_(pa.int64())), [["1", "3"], ["2"], []]),
        ("text", pa.array([["red wine", "big"], ["blue"], None]), ["red wine big", "blue", None]),
        ("categories", pa.array(["web", " web", "web "]), ["web", "web", "web"]),
        (
            "vectors",
            pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4, 5, 6], pa.float32()), 2),
            [[1, 2], [3, 4], [5, 6]],
        ),
    ],
)
def test_a_cell_is_read_by_one_rule(tmp_path, role, array, expected):
    """The columns of report-03's scripts."""
    path = str(tmp_path / "i.parquet")
    pq.write_table(pa.table({"sku": ["s1", "s2", "s3"], "cell": array}), path)
    found, rejects = entities(Items(path, "sku", **{role: ("cell",)}), "items")
    assert [next(iter(row.values())) for row in found.values()] == expected
    assert not rejects


@pytest.mark.parametrize(
    ("role", "array", "kind"),
    [
        ("text", pa.array([{"en": "tea"}, {"en": "tool"}, None]), "struct"),
        ("categories", pa.array([["tea", "pot"], ["tool"], None]), "list"),
    ],
)
def test_what_is_no_single_value_is_refused_by_name(tmp_path, role, array, kind):
    path = str(tmp_path / "i.parquet")
    pq.write_table(pa.table({"sku": ["s1", "s2", "s3"], "cell": array}), path)
    with pytest.raises(ConfigError, match=rf"'cell'.*Received: {kind}"):
        entities(Items(path, "sku", **{role: ("cell",)}), "items")


def test_a_context_is_one_category_in_every_row_group(tmp_path):
    path, rows = str(tmp_path / "o.parquet"), 70_000
    shop = pa.array([*(row % 3 + 1 for row in range(rows - 1)), None])
    columns = {"who": [f"p{n % 50}" for n in range(rows)], "sku": [f"s{n % 20}" for n in range(rows)]}
    pq.write_table(pa.table({**columns, "at": range(rows), "shop": shop}), path)
    read = settle(Tables(Interactions(path, "who", "sku", "at", context=("shop",)), Items(path, "sku")))
    found = collections.Counter(row[1][3][0] for row in ReadInteractions(read.tables).process(path))
    assert found == {"1": 23_333, "2": 23_333, "3": 23_333, "": 1}


def test_a_vector_with_nan_costs_its_item_and_is_named(opened, validate):
    opened("report-03")
    found, rejects = entities(tables("nanvec.yaml").items, "items")
    assert len(found) == 29 and "s3" not in found
    ((_, reason, row),) = rejects
    assert reason == "a vector of 'photo' that holds NaN, an infinity or no number" and '"s3"' in row
    status, said = validate("nanvec.yaml")
    assert status == 0 and "1 a vector of 'photo' that holds NaN" in said


@pytest.mark.parametrize("name", ["newline_item", "newline_user", "newline_category", "newline_country"])
def test_line_breaks_are_kept_and_fit_a_vocabulary(opened, validate, name):
    import tensorflow as tf

    from pipeline.data.vocabularies import as_it_was, one_line

    folder = opened("report-04")
    read = tables(f"{name}.yaml")
    items, users = entities(read.items, "items")[0], entities(read.users, "users")[0]
    assert set(items) == {row["sku"].strip() for row in cells(folder / name / "items.csv")}
    assert set(users) == {row["who"].strip() for row in cells(folder / name / "users.csv")}
    rows, rejects = choices(read)
    assert len(rows) == 480 and not rejects
    assert {item for _, item, _ in rows} <= set(items) and {user for user, _, _ in rows} <= set(users)
    values = [*items, *users]
    for features_of in (*items.values(), *users.values()):
        values += [value for value in features_of.values() if isinstance(value, str)]
    values = [value.encode() for value in dict.fromkeys(values)]
    assert any(b"\n" in value for value in values)
    written = one_line(tf.constant(values)).numpy().tolist()
    assert not any(b"\n" in value or b"\r" in value for value in written)
    assert [as_it_was(value) for value in written] == values
    assert validate(f"{name}.yaml")[0] == 0


def test_clicks_within_a_second_stay_in_order(tmp_path):
    """ "report-08", a script: seven clicks 200 ms apart; the second `f` is no duplicate."""
    at = [1_700_000_000_000 + after for after in (100, 300, 500, 700, 900, 1100, 1500)]
    path = str(tmp_path / "clicks.csv")
    for values, time_format in (
        (at, "ms"),
        (at, None),
        ([f"2024-01-01T00:00:00.{n}00Z" for n in range(1, 8)], None),
    ):
        pd.DataFrame({"who": "p", "sku": list("abcdeff"), "at": values}).to_csv(path, index=False)
        read = settle(
            Tables(Interactions(path, "who", "sku", "at", time_format=time_format), Items(path, "sku"))
        )
        rows, _ = choices(read.tables)
        for person in "pqrs":
            kept, duplicates = in_order(person, [Event(time, item) for _, item, time in rows])
            assert [event.item for event in kept] == list("abcdeff") and not duplicates
