"""Tables of impressions: what was shown and not chosen, in the arrays that models take."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.components.example_gen import SplitUsers
from tfrec_fusion.config import ConfigError, SplitConfig, from_dict
from tfrec_fusion.datasets.splits import Event, split_user
from tfrec_fusion.datasets.tables import Interactions, Items, Tables
from tfrec_fusion.features.preparing import prepare
from tfrec_fusion.impressions import Feedback, ImpressionLog, ImpressionLogConfig, collect
from tfrec_fusion.tasks import Ranking
from tfrec_fusion.training.batches import batches, only_chosen
from tfrec_fusion.training.negatives import WithNegatives

SPLIT = SplitConfig(history_length=4)


def write_shown(folder, clicks=(0, 3)):
    """Twenty users see a list of four items a day for ten days; those at `clicks` are clicked."""
    rows = [
        (f"u{user}", f"i{(user + 5 * day + position) % 60}", 1000 * day + user, position + 1,
         int(position in clicks), int(position == 2 and user == 0))
        for user in range(20) for day in range(10) for position in range(4)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["who", "what", "at", "place", "clicked", "hidden"])
    frame.to_csv(folder / "shown.csv", index=False)
    pd.DataFrame({"what": [f"i{number}" for number in range(60)]}).to_csv(folder / "items.csv", index=False)
    return frame


def tables_of(folder, **more):
    shown = {"outcomes": {"clicked": 1.0}, "position": "place", **more}
    table = Interactions(str(folder / "shown.csv"), "who", "what", "at", **shown)
    return Tables(table, Items(str(folder / "items.csv"), "what"))


def test_a_table_of_zeros_and_ones_is_used_to_the_last_row(tmp_path):
    frame = write_shown(tmp_path)
    data = prepare(tables_of(tmp_path), SPLIT, max_reject_share=0.0)
    assert data.rejects == {}
    clicked = frame[frame["clicked"] == 1].sort_values("at")
    for part, size in ((data.train, 320), (data.validation, 40), (data.test, 40)):
        assert int((part["chosen"] > 0).sum()) == size
    train = data.train
    assert (data.validation["chosen"] > 0).all() and (data.test["chosen"] > 0).all()
    np.testing.assert_array_equal(train["click"], train["chosen"])
    before = frame[(frame["clicked"] == 0) & (frame["at"] < clicked["at"].iloc[320])]
    assert int((train["chosen"] == 0).sum()) == len(before) == 320
    # Positions weigh choices alone, and a history holds choices alone, from before.
    assert set(train["exposure"][train["chosen"] > 0]) == {1.0, 4.0}
    assert set(train["exposure"][train["chosen"] == 0]) == {1.0}
    ids = data.catalogue.ids
    own = clicked[clicked["who"] == "u7"]
    row = np.flatnonzero((train["chosen"] == 0) & (train["user_index"] == user_index(data, "u7")))[-1]
    history = [ids[item] for item in train["history"][row] if item]
    day = before[before["who"] == "u7"]["at"].max()
    assert sorted(history) == sorted(list(own[own["at"] < day]["what"])[-4:])  # two each at one moment
    np.testing.assert_array_equal(
        data.catalogue.counts, np.bincount(train["item_index"][train["chosen"] > 0], minlength=61)
    )


def user_index(data, user):
    row = list(data.known.profiles.ids).index(user)
    return data.known.profiles.features["user_index"][row]


def test_what_was_disliked_is_no_choice_and_not_recommended_again(tmp_path):
    frame = write_shown(tmp_path)
    data = prepare(tables_of(tmp_path, outcomes={"clicked": 1.0, "hidden": -5.0}), SPLIT)
    assert int((data.train["chosen"] < 0).sum()) == 8
    assert (data.train["weight"] >= 0).all()
    profiles = data.known.profiles
    row = list(profiles.ids).index("u0")
    seen = profiles.seen_items[profiles.seen_splits[row] : profiles.seen_splits[row + 1]]
    own = frame[frame["who"] == "u0"]
    met = own[(own["clicked"] == 1) | (own["hidden"] == 1)]["what"]
    assert set(data.catalogue.ids[seen]) == set(met)


def test_the_run_divides_as_memory_does(tmp_path):
    frame = write_shown(tmp_path)
    tables = tables_of(tmp_path, outcomes={"clicked": 1.0, "hidden": -5.0})
    data = prepare(tables, SPLIT)
    table = tables.interactions
    step = SplitUsers(vars(SPLIT), [], 4.0, tables)
    chosen = np.sort(frame[frame["clicked"] == 1]["at"].to_numpy())
    cutoffs = int(chosen[320]), int(chosen[360])
    rows, pairs = [], 0
    for user, own in frame.groupby("who"):
        events = [
            Event(row.at, row.what, None, (), row.clicked - 5.0 * row.hidden, row.place)
            for row in own.sort_values("at", kind="stable").itertuples()
        ]
        for result in step.process((user, {"events": [events], "users": []}), cutoffs):
            pairs += getattr(result, "tag", "") == "pairs"
            if getattr(result, "tag", "") == "train":
                feature = tf.train.Example.FromString(result.value).features.feature
                rows.append(
                    tuple(
                        feature[name].float_list.value[0]
                        for name in ("chosen", "exposure", "click", "weight")
                    )
                )
    names = ("chosen", "exposure", "click", "weight")
    assert table.exposure(4) == 4.0 and pairs == 320
    assert sorted(rows) == sorted(zip(*(data.train[name].tolist() for name in names), strict=True))


def test_logs_are_read_beside_interactions_by_the_key(tmp_path):
    write_shown(tmp_path)
    with ImpressionLog(ImpressionLogConfig(str(tmp_path / "log"))) as log:
        log.shown("r1", [["i0", "i1", "nowhere"]], users=["u3"])
        log.shown("r2", [["i5"]], users=["stranger"])
        log.feedback([Feedback.of({"request_id": "r1", "item": "i1", "kind": "purchase", "value": 3.0})])
    collect(str(tmp_path / "log"), str(tmp_path / "table"))
    clicks = Interactions(str(tmp_path / "shown.csv"), "who", "what", "at", outcomes={"clicked": 1.0})
    shown = Interactions(
        str(tmp_path / "table/impressions/*/*.parquet"), "user", "item", "time", position="position",
        outcomes={"click": 1.0, "purchase": 2.0}, key_file=str(tmp_path / "log.key"))  # fmt: skip
    split = SplitConfig(method="leave_last_out")
    data = prepare(Tables(clicks, Items(str(tmp_path / "items.csv"), "what"), impressions=shown), split)
    assert data.rejects == {("impressions", "unknown item"): 1}
    users = set(data.known.profiles.ids)
    assert len(users) == 22 and "u3" in users and "stranger" not in users
    row = list(data.known.profiles.ids).index("u3")
    latest = data.known.profiles.history_items[: data.known.profiles.history_splits[row + 1]][-1]
    assert data.catalogue.ids[latest] == "i1"
    (tmp_path / "log.key").unlink()
    with pytest.raises(ConfigError, match="nobody can be told from anybody"):
        prepare(Tables(clicks, Items(str(tmp_path / "items.csv"), "what"), impressions=shown), SPLIT)


def test_retrieval_trains_on_choices_alone_and_ranking_by_exposure(tmp_path):
    write_shown(tmp_path)
    data = prepare(tables_of(tmp_path), SPLIT)
    found = list(only_chosen(batches(data.train, 64, shuffle=1), 64))
    assert sum(len(batch["item_index"]) for batch in found) == 320
    assert {len(batch["item_index"]) for batch in found} == {64}
    assert not {"chosen", "exposure"} & set(found[0])
    batch = next(iter(batches(data.train, 64, shuffle=1).map(WithNegatives(data.catalogue))))
    assert set(batch["exposure"].numpy()[64:]) == {1.0}
    logits = tf.zeros([3]) + tf.constant([0.0, 1.0, -2.0])
    labels, weights = tf.constant([1.0, 0.0, 0.0]), tf.constant([4.0, 1.0, 1.0])
    by_hand = np.array([np.log(2), np.log1p(np.e), np.log1p(np.exp(-2))])
    assert float(Ranking("binary")(labels, logits, weights)) == pytest.approx(
        (4 * by_hand[0] + by_hand[1:].sum()) / 3, rel=1e-5
    )


def test_only_what_was_shown_before_validation_is_learned():
    events = [Event(1, "a", weight=0.0), Event(2, "b"), Event(3, "c", weight=0.0), Event(4, "d"),
              Event(5, "e", weight=-1.0), Event(6, "f"), Event(7, "g", weight=0.0)]  # fmt: skip
    found = [(one.split, one.event.item, one.history) for one in split_user(events, "temporal", (4, 6), 9)]
    assert found == [
        ("train", "b", ()), ("validation", "d", ("b",)), ("test", "f", ("b", "d")),
        ("train", "a", ()), ("train", "c", ("b",))]  # fmt: skip
    alone = list(split_user(events[:1], "leave_last_out", None, 9))
    assert [(one.split, one.event.item) for one in alone] == [("train", "a")]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"outcomes": {"clicked": 0}}, "at least one column above 0"),
        ({"outcomes": {"clicked": 1}, "quantity": "n"}, "Leave one of them out"),
        ({"position": "place"}, "needs `interactions.outcomes`"),
        ({"outcomes": {"clicked": 1}, "position_bias": -1}, "position_bias"),
    ],
)
def test_what_is_described_must_make_sense(keys, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(Interactions, {"path": "x.csv", **keys})


def test_odd_cells_are_rejected_or_nothing(tmp_path):
    write_shown(tmp_path)
    frame = pd.read_csv(tmp_path / "shown.csv", dtype=str)
    frame.loc[:4, "clicked"] = ["yes", "", "inf", "nan", "1e400"]
    frame.loc[5:8, "place"] = ["", "top", "-3", "1e300"]
    frame.to_csv(tmp_path / "shown.csv", index=False)
    data = prepare(tables_of(tmp_path), SPLIT)
    assert set(data.rejects) == {("interactions", "unparsable outcome 'clicked'")}
    assert np.isfinite(data.train["exposure"]).all() and (data.train["exposure"] >= 1).all()
