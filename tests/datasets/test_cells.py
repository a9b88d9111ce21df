"""A cell is the same string, list or number from every file format, with and without nulls beside it."""

import datetime
import decimal
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets import cells
from tfrec_fusion.datasets.ids import ids
from tfrec_fusion.datasets.list_cells import parse_list
from tfrec_fusion.datasets.reading import read_batches

WHERE = "column 'x' of the items table"
LARGE = [2**53 + 1, 1285704473650888702, 1285704473650888703]
MOMENT = datetime.datetime(2024, 1, 31, 10, 0, 0, 500)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([*LARGE, None]), [*map(str, LARGE), None]),
        (pa.array([2**64 - 1, None], pa.uint64()), ["18446744073709551615", None]),
        (pa.array([1, None], pa.int8()), ["1", None]),
        (pa.array([1.0, None, math.nan, 2.5, -0.0]), ["1", None, None, "2.5", "0"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([decimal.Decimal("12.00"), decimal.Decimal("12.50")]), ["12", "12.5"]),
        (pa.array(["Thé ".encode(), b"", None]), ["Thé", None, None]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array([" a\n", "", None], pa.large_string()), ["a", None, None]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([7, None]).dictionary_encode(), ["7", None]),
        (pa.array([True, None]), ["True", None]),
        (pa.array([None, None]), [None, None]),
        (pa.array([datetime.date(2024, 1, 31)]), ["2024-01-31"]),
        (pa.array([MOMENT], pa.timestamp("us")), ["2024-01-31 10:00:00.0005"]),
        (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("ns")), ["2024-01-31 10:00:00"]),
        (pa.array([datetime.datetime(2024, 1, 31)], pa.timestamp("ms")), ["2024-01-31"]),
        (pa.array([datetime.time(10, 30)]), ["10:30:00"]),
    ],
)
def test_strings(array, expected):
    assert cells.strings(array, WHERE).to_pylist() == expected


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (
            pa.array([{"en": "tea"}]),
            "column 'x' of the items table must hold one value a cell. Received: struct",
        ),
        (pa.array([["a"]]), "Received: list<item: string>. Give `lists` or `explode` the column"),
        (pa.array([b"\xff\xfe"]), "bytes that are no UTF-8"),
        (pa.array([datetime.timedelta(1)]), "Received: duration"),
    ],
)
def test_what_cannot_be_a_string_is_refused_by_name(array, said):
    with pytest.raises(ConfigError, match=said):
        cells.strings(array, WHERE)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([[1, None, 3], None, []]), [["1", "3"], [], []]),
        (pa.array([[b"x"], [b"y", b" "]]), [["x"], ["y"]]),
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), [["1", "2"], []]),
        (pa.array([b"red|big", None]), [["red", "big"], []]),
        (pa.array(["a| b||", None, "x"]), [["a", "b"], [], ["x"]]),
        (pa.array([[{"id": 1, "name": "Drama"}]]), [["Drama"]]),
        (pa.array([7, None]), [["7"], []]),
        (pa.array([[1, 2], [3]]).slice(1), [["3"]]),
    ],
)
def test_lists(array, expected):
    assert cells.lists(array, "|", WHERE).to_pylist() == expected
    assert cells.as_python(cells.lists(array, "|", WHERE)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{'id': 0, 'name': 'Drama'}, {'id': 1, 'name': 'War'}]", ["Drama", "War"]),
        ('[{"id": 0, "name": "Drama"}]', ["Drama"]),
        ("['easy', 'quick']", ["easy", "quick"]),
        ('["a, b", null]', ["a, b", None]),
        ("['red wine' 'big']", ["red wine", "big"]),
        ("[1 2 3]", ["1", "2", "3"]),
        ("[1, 2.0, True]", ["1", "2", "True"]),
        ("('a',)", ["a"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("[]", []),
        ("[tba] a title [2]", None),
        ("[not a list", None),
        ("[" * 5000 + "]" * 5000, None),
        ("plain", None),
    ],
)
def test_lists_in_text(text, expected):
    assert parse_list(text) == expected


def test_a_list_in_a_text_role_is_its_words():
    assert cells.strings(pa.array([["red wine", "big"], None]), WHERE, join_lists=True).to_pylist() == [
        "red wine big",
        None,
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7e41633529", None),  # read as 10^41633529 by pandas, which ends the process
        ("1" * 400, math.inf),
        ("1e-3", 0.001),
        ("$25.00", 25.0),
        ("-€ 3", -3.0),
        ("3 USD", 3.0),
        ("1,234.50", 1234.5),
        ("12 %", 12.0),
        ("1,2", None),
        ("nan", None),
        ("0x10", None),
        ("1_000", None),
        ("SKU 12", None),
        ("12/3", None),
    ],
)
def test_numbers_in_text(text, number):
    (result,) = cells.numbers(pa.array([text]), WHERE)
    assert result == number or (number is None and math.isnan(result))


def test_numbers_of_other_types():
    assert cells.numbers(pa.array([True, False]), WHERE).tolist() == [1, 0]
    assert cells.numbers(pa.array([decimal.Decimal("1.5")]), WHERE).tolist() == [1.5]
    with pytest.raises(ConfigError, match="must hold numbers. Received: timestamp"):
        cells.numbers(pa.array([MOMENT]), WHERE)


@pytest.mark.parametrize("array", [pa.array(["1e39", "2"]), pa.array([1e39, 2.0])])
def test_a_number_beyond_float32_is_infinite_at_once_and_not_in_an_example(array):
    np.testing.assert_array_equal(cells.numbers(array, "column 'n'"), [np.inf, 2])


def test_vectors_name_rows_that_hold_no_numbers():
    rows, bad = cells.vectors(pa.array([[1.0, math.nan], None, [1.0, 2.0], [1.0, None], []]), WHERE)
    assert rows == [None, None, [1.0, 2.0], None, None]
    assert bad.tolist() == [True, False, False, True, False]
    rows, bad = cells.vectors(pa.array(["[0.5, 2]", "word", None]), WHERE)
    assert (rows, bad.tolist()) == ([[0.5, 2.0], None, None], [False, True, False])


def test_ids_by_rule():
    written = pa.array(["12.0", "0012", " 12 ", "-0", "007a", "12.5", "I3", "i  3"])
    assert ids(written, "as_written", WHERE).to_pylist() == [
        "12.0",
        "0012",
        "12",
        "-0",
        "007a",
        "12.5",
        "I3",
        "i  3",
    ]
    assert ids(written, "number", WHERE).to_pylist() == ["12", "12", "12", "0", "007a", "12.5", "I3", "i  3"]
    assert ids(written, "folded", WHERE).to_pylist()[-2:] == ["i3", "i 3"]


TEXT = (
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda text: text and text[0] not in "[{(")
)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
        st.lists(st.none() | st.integers(0, 2**64 - 1), min_size=1, max_size=5),
        st.lists(st.none() | TEXT, min_size=1, max_size=5),
    )
)
def test_an_id_is_the_same_from_csv_parquet_and_json(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("t")
    expected = [None if value is None else str(value) for value in values]
    try:
        array = pa.array(values)
    except OverflowError:
        array = (
            pa.array(values, pa.uint64()) if all(value is None or value >= 0 for value in values) else None
        )
    files = {"t.jsonl": "\n".join(json.dumps({"n": 1, "x": value}, ensure_ascii=False) for value in values)}
    files["t.json"] = json.dumps([{"n": 1, "x": value} for value in values])
    files["t.csv"] = pd.DataFrame({"n": 1, "x": pd.Series(expected, dtype=object)}).to_csv(index=False)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    if array is not None:
        table = pa.table({"n": [1] * len(array), "x": array})
        pa.parquet.write_table(table, folder / "t.parquet")
        if not pa.types.is_null(array.type):  # Arrow writes no dictionary of nothing
            encoded = table.set_column(1, "x", table.column("x").dictionary_encode())
            pa.parquet.write_table(encoded, folder / "d.parquet", row_group_size=2)
        if pa.types.is_string(array.type):
            pa.parquet.write_table(
                table.set_column(1, "x", table.column("x").cast(pa.binary())), folder / "b.parquet"
            )
    for file in sorted(folder.iterdir()):
        batches = read_batches(str(file), ("x", "n"), rows=3)
        results = [value for batch in batches for value in cells.strings(batch.column(0), WHERE).to_pylist()]
        assert results == expected, file.name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12) | st.from_regex(r"\d{1,3}[eE.,]\d{1,12}", fullmatch=True), max_size=6))
def test_any_text_is_a_number_or_none(texts):
    """Where both take it for one, as Python's own parser reads it."""
    result = cells.parse_numbers(pa.array([text.strip() for text in texts], pa.string()))
    for text, number in zip(texts, result, strict=True):
        try:
            expected = float(text.strip())
        except ValueError:
            continue
        assert math.isnan(number) or number == expected


def test_int_columns_never_pass_through_floats():
    rng = np.random.default_rng(0)
    values = rng.integers(2**53, 2**62, 1000).tolist()
    assert cells.strings(pa.array([*values, None]), WHERE).to_pylist()[:-1] == list(map(str, values))
