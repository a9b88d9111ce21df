"""What `tfrec init` tells from values: flags, grades, sentinels, outcomes, ids written differently, headers;
on a few rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.onboarding import yaml_writing
from tfrec_fusion.guessing import id_writing, value_shapes
from tfrec_fusion.guessing.column_profiles import Column
from tfrec_fusion.guessing.combined_tables import marked_ids
from tfrec_fusion.guessing.headers import has_no_header
from tfrec_fusion.guessing.popularity import Popularity


def column(name, values):
    return Column(name, "t.csv", pa.array(values, pa.string()))


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        (["True", "False"], True),
        (["ja", "nein"], True),
        (["да", "нет"], True),
        (["0", "1"], True),
        (["yes"], True),
        (["red", "blue"], False),
        (["0", "1", "2"], False),
    ],
)
def test_flags_are_no_texts(values, flag):
    result = column("title", values * 20)
    assert result.is_flag == flag
    assert not (flag and result.is_words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["3 stars", "1 star", "5 stars"], {"3 stars": 3, "1 star": 1, "5 stars": 5}),
        (["4/5", "2/5"], {"4/5": 4, "2/5": 2}),
        (["five stars", "one star"], {"five stars": 5, "one star": 1}),
        (["★★☆", "★★★"], {"★★☆": 2, "★★★": 3}),
        (["like", "dislike"], {"like": 1, "dislike": 0}),
        (["Love", "like", "dislike"], {"Love": 2, "like": 1, "dislike": 0}),
        (["好评", "中评", "差评"], {"好评": 2, "中评": 1, "差评": 0}),
        (["bom", "péssimo", "excelente"], {"bom": 1, "péssimo": 0, "excelente": 2}),
        (["Paris", "Rome"], None),
        (["12", "13"], None),
        (["1 Main Street", "2 Broadway"], None),
        (["i1", "i2", "i3"], None),
        (["room 1", "room 2"], None),
        (["2 von 5", "4 von 5"], {"2 von 5": 2, "4 von 5": 4}),
    ],
)
def test_opinions_in_words_become_grades(words, expected):
    assert value_shapes.word_grades(pd.Series(words)) == expected


@pytest.mark.parametrize(
    ("scale", "apart"),
    [
        ([-1, 7, 8, 9, 10], [-1]),
        ([0, 1, 2, 3, 4, 5], [0]),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [0]),
        ([1, 2, 3, 4, 5, 99], [99]),
        ([-1, 1, 2, 3, 4, 5, 99], [-1, 99]),
        ([1, 2, 3, 4, 5], []),
        ([0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5], []),
        ([-1, 1], []),
        ([-1, 0, 1], []),
        ([0, 1, 2, 3], []),
        ([-10, -5, 0, 5, 10], []),
        ([1, 2, 4, 5], []),
    ],
)
def test_values_apart_from_a_scale(scale, apart):
    assert value_shapes.sentinels(pd.Series(scale * 5, dtype=float)) == apart


def test_a_number_in_words_is_no_title():
    ranks = pd.Series([f"{n:,} in Gift Cards" for n in range(2, 3000, 7)])
    assert value_shapes.numbers_in_words(ranks).iloc[0] == 2
    assert value_shapes.numbers_in_words(pd.Series([f"{n} min" for n in range(60, 200)])) is not None
    films = pd.Series(["12 Angry Men", "2001: A Space Odyssey", "7 Samurai", "8 Mile", "21 Grams", "300"])
    assert value_shapes.numbers_in_words(films) is None
    assert value_shapes.numbers_in_words(pd.Series([f"Symphony {n}" for n in range(50)])) is None


@pytest.mark.parametrize(
    ("values", "expected"), [(["$25.00", "$1,234.50"], 25), (["1.234,50 €", "2,00 €"], 1234.5)]
)
def test_prices_are_numbers(values, expected):
    price = Column("price", "t.csv", pa.array(values * 10), "," if "€" in values[0] else ".")
    assert price.is_number
    assert price.numbers.iloc[0] == expected
    assert not price.is_words


def test_outcomes_are_judged_by_their_values_and_not_by_names():
    rng = np.random.default_rng(0)
    ids = pd.Series([f"i{n}" for n in range(60)])
    counts = pd.Series(rng.integers(1, 400, 60), index=ids)
    popular = Popularity(ids, counts, counts * 0 + rng.random(60), "item")
    owners = (counts.to_numpy() * 1000 + rng.integers(0, 3000, 60)).astype(str)
    ranks = counts.rank(ascending=False).astype(int).to_numpy().astype(str)
    for name in ("donos", "besitzer", "num_pages"):
        assert "an outcome of choices" in popular.outcome(column(name, owners))
        assert "an outcome of choices" in popular.outcome(column(name, ranks))
    assert popular.outcome(column("popularity", rng.permutation(owners))) == ""
    words = [f"{rank} in Toys" for rank in ranks]
    in_words = value_shapes.numbers_in_words(pd.Series(words))
    assert "an outcome of choices" in popular.outcome(column("rank", words), in_words)


@pytest.mark.parametrize(
    ("one", "other", "rule", "words"),
    [
        (["12.0", "7.0", "30.0"], ["12", "7", "30"], "number", "0% match as written, 100% without '.0'"),
        (["0012", "0007"], ["12", "7"], "number", "0% match as written, 100% without leading zeros"),
        (["0012.0", "7"], ["12", "07"], "number", "0% match as written, 100% without '.0' and leading zeros"),
        (["I3", "I4"], ["i3", "i4"], "folded", "0% match as written, 100% without capital letters"),
        (["a  b", "c  d"], ["a b", "c d"], "folded", "0% match as written, 100% without spaces"),
        (["a", "b"], ["a", "b"], "as_written", "100% match"),
        (["a", "b"], ["x", "y"], "as_written", "0% match"),
    ],
)
def test_ids_that_are_written_differently(one, other, rule, words):
    match = id_writing.match(pd.Series(one), pd.Series(other))
    assert match.rule == rule
    assert match.words == words


def test_ids_that_a_rule_would_take_for_one_another_are_left_alone():
    known = pd.Series(["12", "012", "7", "07"])
    assert id_writing.match(pd.Series(["12.0", "7.0"]), known).rule == "as_written"
    assert id_writing.within(pd.Series(["I1", "i1", "I2", "i2"])).rule == "folded"
    assert id_writing.within(pd.Series(["12", "12.0", "7", "7.0"])).without == "'.0'"
    assert id_writing.within(pd.Series(["aB3dE", "Ab3De2", "x1"])) is None


@pytest.mark.parametrize(
    ("first", "rows", "missing"),
    [
        (["user", "item", "time"], [["1", "2", "3"]], False),
        (["1", "1193", "5", "978300760"], [["1", "661", "3", "978302109"]] * 3, True),
        (
            ["N1", "lifestyle", "royals", "The Brands"],
            [["N2", "lifestyle", "a", "b"], ["N3", "lifestyle", "c", "d"]],
            True,
        ),
        (["id", "name", "url"], [["1", "x", "http://a"], ["2", "y", "http://b"]], False),
        (["1", "Toy Story (1995)", "01-Jan-1995"], [["2", "GoldenEye (1995)", "01-Jan-1995"]] * 3, True),
        (["user_id", "feature_1", "feature_2"], [["u1", "0.3", "0.1"], ["u2", "0.4", "0.2"]], False),
        (["year", "2019", "2020"], [["a", "12", "13"], ["b", "14", "15"]], True),
        (
            ["user", "time", "{x: 1}"],
            [["0000682", "2016-11-25", "4.1"], ["0000660", "2016-11-26", "5"]],
            False,
        ),
        (["sku", "1", "[y]"], [["726", "same", "word"], ["727", "same", "other"]], False),
        (
            ["da8e10d2-a08e-400b-baca-de45ec0e6c29", "tea"],
            [
                ["089da9a8-34ad-49ef-9e74-a55c0c9f37b3", "pot"],
                ["f6a39565-2fa0-4228-ab6d-9544c81fc7b0", "cup"],
            ],
            True,
        ),
        (["user_id", "name"], [["u17", "a"], ["u18", "b"]], False),
    ],
)
def test_a_first_line_that_holds_no_names(first, rows, missing):
    assert has_no_header(first, rows) == missing


def test_ids_with_marks_are_pointed_at():
    assert marked_ids(column("impressions", ["N1-0 N2-1 N3-0", "N4-1 N1-0"] * 5)).startswith("N1-0")
    assert marked_ids(column("history", ["N1 N2", "N3 N4"] * 5)) is None


ANY = st.text(max_size=12)
VALUES = st.one_of(ANY, st.integers(-5, 5), st.booleans(), st.none(), st.lists(ANY, max_size=3))


@given(
    st.dictionaries(ANY, st.one_of(VALUES, st.dictionaries(ANY, VALUES, max_size=3)), min_size=1, max_size=4),
    ANY,
)
def test_a_configuration_reads_back_as_it_was_written(values, comment):
    """Whatever columns and files are called: a comment never becomes a key."""
    paths = [(key,) for key in values] + [
        (key, inner) for key, value in values.items() if isinstance(value, dict) for inner in value
    ]
    text = yaml_writing.write(
        values, dict.fromkeys(paths, comment), [comment], {key: [comment] for key in paths[:1]}, [comment]
    )
    assert yaml.safe_load(text) == values
    assert comment == "" or yaml_writing.one_line(comment) in text


@pytest.mark.parametrize("sign", ["\n", "\r", "\u2028", "\x85", "\x0b", "\x1b[31m", "\x00"])
def test_what_is_printed_stays_on_its_line(sign):
    shown = yaml_writing.one_line(f"a{sign}root: /")
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()
