"""Tables of outcomes and their readout: each thing that a table may do wrong, and the planted result."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from tfrec_fusion.experiments import ExperimentError, read_outcomes, readout
from tfrec_fusion.experiments.outcomes import Reading
from tfrec_fusion.experiments.results import spread

DAY = "2026-11-"


def impressions(users=400, lift=0.1, seed=0, days=10):
    """A log as the impressions' schema has it: 5 rows a user, arms by the user's number, `new` clicked
    more."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        arm, rate = ("old", "new")[user % 2], rng.beta(4, 16)
        start = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC) + datetime.timedelta(
            days=days * rng.random()
        )
        for position in range(1, 6):
            rows.append(
                {
                    "request_id": f"r{user}",
                    "time": start,
                    "arm": f"ranker={arm};colour=blue",
                    "user": f"u{user}",
                    "item": f"i{position}",
                    "position": position,
                    "click": float(rng.random() < rate + lift * (arm == "new")),
                }
            )
    return pd.DataFrame(rows)


def plain(**columns):
    """A table of one row a user, without times and ids."""
    return pd.DataFrame(columns), Reading(unit="user", arm="arm", metrics=("bought",), time="", id=())


def test_a_planted_difference_is_found_in_any_order():
    table = impressions()
    read = read_outcomes(table, Reading(), "ranker", ("old", "new"))
    assert read.counts().tolist() == [200, 200] and read.rows == 2000 and read.notes == ()
    clicks = table.groupby(table.arm.str.contains("=new")).click.mean()
    result = readout(read, effect={"click/rows": 0.05})
    (one,) = result.results
    assert (one.comparison.control, one.comparison.value) == pytest.approx(tuple(clicks))
    assert one.verdict == "higher" and result.believable and 0 < one.minimum_effect < 0.1
    mixed = read_outcomes(table.sample(frac=1, random_state=3), Reading(), "ranker", ("old", "new"))
    again = readout(mixed, effect={"click/rows": 0.05}).results[0].comparison
    assert (again.difference, again.always_low) == pytest.approx(
        (one.comparison.difference, one.comparison.always_low)
    )
    assert json.loads(json.dumps(result.as_mapping()))["results"][0]["verdict"] == "higher"
    assert spread(read, "click/rows")[0] == pytest.approx(table.click.mean())
    # The other experiment of the same rows has one arm.
    with pytest.raises(ExperimentError, match="at least two arms. Received: blue"):
        readout(read_outcomes(table, Reading(), "colour"))
    with pytest.raises(ExperimentError, match="names several experiments"):
        read_outcomes(table, Reading())


def test_repeated_rows_count_once_and_the_last_one():
    table = impressions(40)
    late = table.iloc[:3].assign(click=1.0, time=table.time.max())
    read = read_outcomes(pd.concat([late, table, table.iloc[:7]]), Reading(), "ranker")
    assert (
        read.rows == 200
        and "10 rows repeat an id and are left out, 3 of them with other values" in read.notes[0]
    )
    assert read.sums["click/rows"][0].sum() == pytest.approx(table.click.iloc[3:].sum() + 3)
    kept = read_outcomes(pd.concat([table, table]), Reading(id=()), "ranker")
    assert kept.rows == 400 and "200 rows equal another one" in kept.notes[0]


def test_a_user_in_two_arms_is_in_none():
    table = impressions(100)
    table.loc[table.index[2], "arm"] = "ranker=new"
    read = read_outcomes(table, Reading(), "ranker")
    assert read.crossed == 1 and read.counts().sum() == 99 and "1 of 100 units" in read.notes[0]
    assert readout(read).believable
    table.loc[table.user.isin(["u10", "u12"]) & (table.position == 1), "arm"] = "ranker=new"
    assert (
        "3 of 100 units were in more than one arm"
        in readout(read_outcomes(table, Reading(), "ranker")).warnings[0]
    )


def test_an_arm_without_traffic():
    table, reading = plain(user=range(60), arm=["a"] * 60, bought=[0, 1] * 30)
    result = readout(read_outcomes(table, reading, arms=("a", "b")))
    assert "Sample-ratio mismatch: a: 60 (expected 30), b: 0 (expected 30)" in result.warnings[0]
    (one,) = result.results
    assert one.verdict == "none" and "Received: 0 in the arm" in one.reason
    with pytest.raises(ExperimentError, match="arms are a, c. Received: 'b' in 1 rows"):
        read_outcomes(
            pd.DataFrame({"user": [1, 2], "arm": ["a", "b"], "bought": [0, 1]}), reading, arms=("a", "c")
        )


def test_several_arms_share_the_level():
    rng = np.random.default_rng(0)
    table, reading = plain(user=range(900), arm=np.tile(["a", "b", "c"], 300), bought=rng.random(900) < 0.3)
    result = readout(read_outcomes(table, reading), confidence=0.9)
    wide = [one.comparison.high - one.comparison.low for one in result.results]
    narrow = readout(read_outcomes(table[table.arm != "c"], reading), confidence=0.9).results[0].comparison
    assert len(wide) == 2 and wide[0] == pytest.approx((narrow.high - narrow.low) * 1.9600 / 1.6449, rel=0.01)
    assert "Sample-ratio" in readout(read_outcomes(table, reading), shares=(0.5, 0.25, 0.25)).warnings[0]


def test_clocks_that_differ():
    table = impressions()
    later = table.arm.str.contains("=new")
    table.loc[later, "time"] += datetime.timedelta(days=3)
    assert "came at other times" in readout(read_outcomes(table, Reading(), "ranker")).warnings[0]


def test_times_of_all_kinds():
    table = impressions(60)
    expected = read_outcomes(table, Reading(), "ranker").first
    seconds = (table.time - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    for times in (table.time.dt.tz_localize(None), table.time.map(lambda time: time.isoformat()), seconds):
        first = read_outcomes(table.assign(time=times), Reading(), "ranker").first
        np.testing.assert_allclose(first, expected, atol=1e-3)
    zoned = table.time.dt.tz_convert("Asia/Tokyo").map(str)
    np.testing.assert_allclose(
        read_outcomes(table.assign(time=zoned), Reading(), "ranker").first, expected, atol=1e-3
    )
    for wrong in ("yesterday", None):
        times = table.time.astype(object)
        times.iloc[4] = wrong
        with pytest.raises(ExperimentError, match=r"Times must be .* in row 4 of 'time' \(1 such"):
            read_outcomes(table.assign(time=times), Reading(), "ranker")


def test_the_past_is_a_covariate_and_the_end_an_end():
    table = impressions(300, days=1)
    past = table.assign(
        time=table.time - datetime.timedelta(days=20), request_id="p" + table.request_id, arm=""
    )
    past = past[past.user != "u7"]
    after = table.assign(time=table.time + datetime.timedelta(days=20), request_id="a" + table.request_id)
    reading = Reading(start=DAY + "01", end=DAY + "10")
    read = read_outcomes(pd.concat([after, past, table]), reading, "ranker")
    assert read.rows == 1500 and "1,500 rows are of 2026-11-10 or later" in read.notes[0]
    assert read.covariates.shape == (300, 2) and np.isnan(read.covariates).any(1).sum() == 1
    clicks = read.covariates[:, 1]
    np.testing.assert_array_equal(clicks[~np.isnan(clicks)], read.sums["click/rows"][0][~np.isnan(clicks)])
    assert readout(read).results[0].comparison.variance_kept < 0.1  # the past is the same as what followed
    with pytest.raises(ExperimentError, match="`start` must be a date"):
        read_outcomes(table, Reading(start="soon"), "ranker")


def test_a_window_waits_for_its_end():
    table = impressions(200)
    read = read_outcomes(table, Reading(window_days=3), "ranker")
    begun = table.groupby("user").time.min()
    over = begun + pd.Timedelta(days=3) <= table.time.max()
    assert (
        read.counts().sum() == over.sum()
        and f"{(~over).sum():,} units began less than 3 days" in read.notes[0]
    )
    with pytest.raises(ExperimentError, match="need `time`"):
        Reading(time="", window_days=3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bought": [0, 1, "x", 1]}, "must be a number. Received: 0 in 'bought'"),
        ({"bought": [0, 1, None, 1]}, "must not be missing. Received: 1 missing"),
        ({"bought": [0, 1, float("inf"), 1]}, "1 missing or infinite"),
        ({"sold": [0, 1, 1, 1]}, "has no column 'bought'"),
        ({"bought": [0, 1, 1, 1], "user": ["", None, " ", ""]}, "No row of the table belongs"),
    ],
)
def test_tables_that_cannot_be_read(values, words):
    table, reading = plain(**{"user": [1, 2, 3, 4], "arm": list("abab"), **values})
    with pytest.raises(ExperimentError, match=words):
        read_outcomes(table, reading)


def test_outcomes_other_than_0_and_1_are_told():
    table, reading = plain(user=[1, 2, 3, 4], arm=list("abab"), bought=[0, 2, 1, -5])
    read = read_outcomes(table, reading)
    assert "2 values of 'bought' are neither 0 nor 1" in read.notes[0]
    assert read.sums["bought"][0].tolist() == [0, 2, 1, -5]
    binary = Reading(metrics=("bought",), time="", id=(), binary=True)
    assert read_outcomes(table, binary).sums["bought"][0].tolist() == [0, 1, 1, 0]


def test_arms_of_any_name():
    """What looks like no list of experiments is a name."""
    names = ["é ñ", "b;c", "x=1=2", "a = b"]
    table, reading = plain(user=range(40), arm=names * 10, bought=[0, 1, 1, 0] * 10)
    assert set(read_outcomes(table, reading).arms) == set(names)


def test_rows_are_a_metric_and_rows_without_an_id_count():
    table = impressions(40)
    table.loc[:9, "request_id"] = None
    read = read_outcomes(table, Reading(metrics=("rows", "rows/rows", "click/rows")), "ranker")
    assert "10 rows have no id, and count each." in read.notes and read.rows == 200
    assert read.sums["rows"][0].tolist() == [5] * 40 and read.sums["rows"][1].tolist() == [1] * 40


@pytest.mark.parametrize("metrics", [("y//",), ("/rows",), ("y/",), ("",), ("y", "y"), ("a/b/c",)])
def test_metrics_that_cannot_be_read(metrics):
    with pytest.raises(ExperimentError, match="A metric must be COLUMN"):
        Reading(metrics=metrics)


def test_readings_that_cannot_be_made():
    with pytest.raises(ExperimentError, match="Reading has the keys"):
        Reading.from_mapping({"units": "user"})
    for wrong in ({"metrics": "click"}, {"metrics": [1]}, {"unit": 1}, {"window_days": "7"}, {"binary": 1}):
        with pytest.raises(ExperimentError, match="of reading must be"):
            Reading.from_mapping(wrong)
    assert Reading.from_mapping({"window_days": 7}).window_days == 7.0
    assert Reading.from_mapping({"metrics": ["a/b"], "id": []}).columns() == ["user", "arm", "time", "a", "b"]
    with pytest.raises(ExperimentError, match="at least one metric"):
        Reading(metrics=())
    table, reading = plain(user=[1, 2, 3, 4], arm=list("abab"), bought=[0, 1, 1, 0])
    with pytest.raises(ExperimentError, match="`effect` must name metrics"):
        readout(read_outcomes(table, reading), effect={"sold": 1.0})
    for wrong in (0.1, {"bought": "much"}):
        with pytest.raises(ExperimentError, match="`effect` must be a number for each metric"):
            readout(read_outcomes(table, reading), effect=wrong)
