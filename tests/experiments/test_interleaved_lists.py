"""`tfrec experiment interleave` and `prefer`: two tables of lists in one, and what clicks on it say."""

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.main import main
from tfrec_fusion.experiments import ExperimentError
from tfrec_fusion.experiments.interleaved_lists import interleave, prefer, read_columns


def lists(users, items):
    """The same list for each user, best first."""
    return pd.DataFrame(
        [(user, rank, item) for user in users for rank, item in enumerate(items, 1)],
        columns=["user_id", "rank", "item_id"],
    )


def test_both_tables_have_their_share_in_any_order_of_rows():
    users = [f"u{number}" for number in range(200)]
    first, second = lists(users, list("abcdef")), lists(users, list("cdghij"))
    shown = interleave(first, second, 4)
    shuffled = interleave(first.sample(frac=1, random_state=0), second.sample(frac=1, random_state=1), 4)
    pd.testing.assert_frame_equal(
        shown.sort_values(["user_id", "rank"], ignore_index=True),
        shuffled.sort_values(["user_id", "rank"], ignore_index=True),
    )
    for _, one in shown.groupby("user_id"):
        assert one["rank"].tolist() == [1, 2, 3, 4] and one.item_id.is_unique
        assert sorted(one.team) == ["first", "first", "second", "second"]
        for team, ranking in (("first", "abcdef"), ("second", "cdghij")):
            put = one.item_id[one.team == team].tolist()
            assert put == sorted(put, key=ranking.index)
    begins = (shown.team[shown["rank"] == 1] == "first").mean()
    assert abs(begins - 0.5) < 4 * np.sqrt(0.25 / 200)
    # Users who come change nobody else's list; another salt does.
    alone = interleave(first[first.user_id == "u7"], second[second.user_id == "u7"], 4)
    pd.testing.assert_frame_equal(alone, shown[shown.user_id == "u7"].reset_index(drop=True))
    assert (interleave(first, second, 4, salt="again").item_id != shown.item_id).any()


def test_clicks_by_hand():
    """Of three users two click the second's items alone, one both; doubles and strangers count nothing."""
    shown = pd.DataFrame(
        [
            (user, item, team)
            for user in "xyz"
            for item, team in zip("abcd", ["first", "second"] * 2, strict=True)
        ]
        + [("w", "a", ""), ("w", "b", "")],
        columns=["user_id", "item_id", "team"],
    )
    clicks = pd.DataFrame(
        [
            ("x", "b"),
            ("x", "b"),
            ("y", "d"),
            ("y", "b"),
            ("z", "a"),
            ("z", "b"),
            ("z", "q"),
            ("w", "b"),
            ("v", "a"),
        ],
        columns=["user_id", "item_id"],
    )
    found, elsewhere = prefer(shown, clicks)
    assert found.value == pytest.approx((1 + 1 + 0) / 3) and found.units == 3 and elsewhere == 2
    with pytest.raises(ExperimentError, match="At least two units"):
        prefer(shown, clicks[clicks.user_id == "x"])
    with pytest.raises(ExperimentError, match="`team` must be first, second or empty. Received: 'third'"):
        prefer(shown.assign(team="third"), clicks)


def test_the_commands(tmp_path, capsys, monkeypatch):
    """Ids are numbers in Parquet and strings in CSV; the second table has what is clicked."""
    monkeypatch.chdir(tmp_path)
    users = list(range(1, 61))
    lists(users, [1, 2, 3, 4]).to_parquet("old.parquet")
    lists([*users, 99], [5, 6, 3, 1]).to_csv("new.csv", index=False)
    assert (
        main(["experiment", "interleave", "old.parquet", "new.csv", "--output", "shown.csv", "-k", "4"]) == 0
    )
    assert "61 users" in (said := capsys.readouterr().out) and "1 users are in one table alone" in said
    rng = np.random.default_rng(0)
    clicks = [(user, rng.choice([5, 6]), 1) for user in users] + [(user, 1, 0) for user in users]
    pd.DataFrame(clicks, columns=["user_id", "item_id", "clicked"]).to_parquet("clicks.parquet")
    assert main(["experiment", "prefer", "shown.csv", "clicks.parquet", "--metric", "clicked"]) == 0
    said = capsys.readouterr().out
    assert "60 users clicked; 0 clicks were" in said and "The table second is preferred." in said
    shown = read_columns("shown.csv", ("user_id", "item_id"), "rank", team=True)
    assert set(shown.team) == {"first", "second", ""} and shown.user_id.nunique() == 61


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,rank\nu,1\n", "has no column 'item_id'"),
        ("user_id,rank,item_id\nu,first,a\n", "'rank' of .* must hold numbers"),
        ("user_id,rank,item_id\n,1,a\n", "'user_id' of .* must hold ids"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "lists.csv").write_text(text)
    with pytest.raises(ExperimentError, match=message):
        read_columns(tmp_path / "lists.csv", ("user_id", "item_id"), "rank")


def test_where_to_write_must_be_known(tmp_path, capsys):
    lists(["u"], ["a"]).to_csv(tmp_path / "a.csv", index=False)
    path = str(tmp_path / "a.csv")
    assert main(["experiment", "interleave", path, path, "--output", str(tmp_path / "b.txt")]) == 1
    assert "must end in .parquet or .csv" in capsys.readouterr().err
