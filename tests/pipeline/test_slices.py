"""Names of slices, and the ranks of baselines."""

import sys

import numpy as np
import pytest

from pipeline.config.pipeline_config import ConfigError
from pipeline.evaluation import baseline_ranks, slices
from pipeline.evaluation.baseline_ranks import Baselines, TrainingPairs
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

TABLES = Tables(
    Interactions(path="i.csv", user="u", item="i", time="t", context=("device",)),
    Items(path="f.csv", id="f", title="t", text=("t",), categories=("theme",), numbers=("year",)),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Third Man", "Latin"),
        ("Сталкер (Stalker 1979)", "Cyrillic"),
        ("千と千尋", "CJK"),
        ("שלום", "Hebrew"),
        ("2001 !!", "none"),
        ("", "none"),
    ],
)
def test_script_is_that_of_most_letters(text, expected):
    assert slices.script(text) == expected


def test_lengths_activities_and_reach():
    assert [slices.text_length("x" * size) for size in (0, 39, 40, 199, 200)] == [
        "none", "short", "medium", "medium", "long",
    ]  # fmt: skip
    assert [slices.item_activity(count, 10) for count in (0, 10, 11)] == ["cold", "rare", "common"]
    counts = np.array([0, 50, 3, 2, 1, 40, 1, 1, 1, 0])
    assert slices.item_reach(counts).tolist() == [
        "cold", "head", "long tail", "long tail", "long tail", "head", *["long tail"] * 3, "cold",
    ]  # fmt: skip


def test_periods_are_a_dozen_or_so():
    day = 86400
    assert slices.period_of(0, 5 * day)(day) == "1970-01-02"
    assert slices.period_of(0, 90 * day)(40 * day) == "1970-02"
    assert slices.period_of(0, 3000 * day)(400 * day) == "1971"


def test_values_beyond_the_most_frequent_are_shown_together():
    name = slices.value_namer("categories", ["a", "b", "a", "c", "b", "a"], most=2)
    assert name(["a"]) == ["a"]
    assert name(["c", "a"]) == ["a", "other values"]
    assert name([]) == ["none"]


def test_numbers_are_named_by_quarters():
    name = slices.value_namer("number", [1.0, 2.0, 3.0, 4.0, 5.0], most=9)
    assert [name([value])[0] for value in (0.0, 1.5, 2.5, 3.5, 9.0)] == [
        "1 to 2", "1 to 2", "2 to 3", "3 to 4", "4 to 5",
    ]  # fmt: skip
    assert slices.value_namer("number", [7.0, 7.0], most=9)([7.0]) == ["7"]


def test_a_slice_that_is_no_feature_is_an_error():
    slices.check_slices(["period", "item_theme", "item_year", "context_device"], TABLES)
    with pytest.raises(ConfigError, match=r"names `item_genre`.*item_theme, item_year, context_device"):
        slices.check_slices(["item_genre"], TABLES)


def test_ranks_of_baselines_against_sorting(monkeypatch):
    rng = np.random.default_rng(0)
    users = np.array([b"c", b"a", b"b", b"b", b"c", b"a", b"c"], object)
    items = np.array([b"1", b"1", b"2", b"3", b"2", b"2", b"4"], object)
    pairs = TrainingPairs(
        [(users[:3], items[:3], np.ones(3)), (users[3:], items[3:], np.ones(4))],
        {b"%d" % n: n for n in range(1, 8)},
    )
    assert pairs.rows_of == {b"a": 0, b"b": 1, b"c": 2}
    assert pairs.users.tolist() == [2, 0, 1, 1, 2, 0, 2]
    vectors = rng.normal(size=(8, 3))
    monkeypatch.setattr(baseline_ranks, "SCORES", 16)  # two users at a time
    baselines = Baselines(["popularity", "als", "content_knn"], pairs, 8, vectors)
    target, seen = (
        np.array([5, 4, 6, 0, 2, 5]),
        [np.array(seen_items, int) for seen_items in ([1, 2], [2, 3], [], [], [2], [1, 2])],
    )
    result = baselines.ranks([b"a", b"b", b"stranger", b"a", b"c", b"late"], target, seen)
    assert set(result) == {"popularity", "als", "content_knn"}
    profile = vectors[1] / np.linalg.norm(vectors[1]) + vectors[2] / np.linalg.norm(vectors[2])
    closeness = vectors @ profile / np.linalg.norm(vectors, axis=1)
    allowed = [item for item in (3, 4, 5, 6, 7)]
    assert result["content_knn"][0] == 1 + sum(closeness[item] > closeness[5] for item in allowed)
    # Popularity: 2 three times, 1 twice, 3 and 4 once. b has seen 2 and 3, so only 1 comes before 4.
    assert result["popularity"][1] == 2
    for ranks in result.values():
        # an unknown user is given what is popular; the four items that nobody chose follow in any order.
        assert 5 <= ranks[2] <= 7
        assert np.isnan(ranks[3:5]).all()  # unknown item, seen item
        # who chose the same after training ended is known by it as well
        assert ranks[5] == ranks[0]
    # a's choices in training and those of validation, 5 and 6, which the model reads too
    (more,) = baselines.ranks([b"a"], np.array([7]), [np.array([1, 2, 5, 6])])["content_knn"]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearness = units @ units[[1, 2, 5, 6]].sum(0)
    assert more == 1 + sum(nearness[item] > nearness[7] for item in (3, 4))


def test_a_baseline_whose_library_is_missing_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(
        ConfigError, match=r"needs the package `implicit`.*Or leave it out: `evaluation.baselines.als: off`"
    ):
        Baselines(["als"], TrainingPairs([([b"a"], [b"i"], [1.0])], {b"i": 1}), 3, None)


def test_the_baseline_that_repeats_against_a_definition_in_python():
    """Where repeats may be recommended nothing is left out, and base levels order what was chosen before."""
    rows = {b"%d" % n: n for n in range(1, 7)}
    pairs = TrainingPairs([([b"a"] * 4, [b"1", b"2", b"2", b"3"], np.ones(4))], rows)
    baselines = Baselines(["popularity", "repeat"], pairs, 7, None, repeats=True)
    history = [3, 1, 2, 2, 5]
    levels = {item: sum((5 - place) ** -0.5 for place, one in enumerate(history) if one == item)
              for item in set(history)}  # fmt: skip
    order = sorted(levels, key=lambda item: -levels[item])
    target = np.array([*order, 4])
    seen, read = [np.array([1, 2, 3, 5])] * 5, [np.array(history)] * 5
    ranks = baselines.ranks([b"a"] * 5, target, seen, read)
    assert ranks["repeat"][:4].tolist() == [1, 2, 3, 4] and ranks["repeat"][4] in (5, 6)
    assert not np.isnan(ranks["popularity"]).any()
    # Somebody without a past is given what is popular: 1, 2 and 3 once each, for a user counts once.
    nobody = baselines.ranks([b"z"], np.array([4]), [np.array([], int)], [np.array([], int)])
    assert nobody["repeat"][0] >= 4
