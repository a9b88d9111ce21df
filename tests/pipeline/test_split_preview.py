"""The split that `init` and `validate` announce is the one that a run makes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.components.example_gen import Order, SplitUsers
from pipeline.config.pipeline_config import SplitConfig
from pipeline.onboarding import first_settings
from pipeline.onboarding.measuring import Choices, Split, measure_choices, measure_split
from tests.pipeline.test_example_gen import execute
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.splits import Event, cutoffs_of, in_order, split_users
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users

CHOICES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(0, 12).map(lambda time: time * 40_000)),
    min_size=1,
    max_size=60,
)
SPLITS = st.one_of(
    st.just(SplitConfig(method="leave_last_out")),
    st.builds(
        SplitConfig,
        st.sampled_from(["temporal", "sessions"]),
        st.sampled_from([0.1, 0.3]),
        st.sampled_from([0.1, 0.4]),
    ),
)


def announced(parts, split, again):
    """Sizes, known users, cold items and repeats of what a run wrote: split → (user, item) pairs, and of each
    held-out choice of a user with a past whether they had made it before."""
    known, users = {item for _, item in parts["train"]}, {user for user, _ in parts["train"]}
    tested = {user for user, _ in parts["test"]}
    if split.method == "sessions":  # each is known by what came before
        assert not tested & users
        users = tested
    cold = sum(item not in known for _, item in parts["test"])
    return Split(
        {name: len(rows) for name, rows in parts.items()},
        len(tested & users) / max(1, len(tested)),
        cold / max(1, len(parts["test"])),
        sum(again) / max(1, len(again)),
    )


def run(choices, split):
    """ExampleGen's steps, without Beam."""
    users = {}
    for user, item, time in choices:
        users.setdefault(user, []).append(Event(time, item))
    ordered = {}
    for entry in users.items():
        ordered.update(result for result in Order().process(entry) if isinstance(result, tuple))
    cutoffs = None
    if split.method == "temporal":
        times = (event.time for events in ordered.values() for event in events)
        cutoffs = cutoffs_of(times, split.validation, split.test)
    elif split.method == "sessions":
        times = (events[-1].time for events in ordered.values() if len(events) > 1)
        cutoffs = cutoffs_of(times, split.validation, split.test)
    parts, again = {"train": [], "validation": [], "test": []}, []
    step = SplitUsers(vars(split), (), 4.0, Tables(Interactions(""), Items("")))
    for user, events in ordered.items():
        for result in step.process((user, {"events": [events], "users": []}), cutoffs):
            if getattr(result, "tag", "") == "pairs":
                parts["train"].append((user, result.value))
            elif isinstance(result, tuple):
                item, (part, values) = result
                parts[part].append((user, item))
                again += [item in values["seen"]] if values["seen"] else []
    return parts, ordered, again


@given(CHOICES, SPLITS, st.randoms(use_true_random=False))
def test_the_preview_is_the_run_on_random_tables(choices, split, random):
    """Times shared by many, no times (all equal), duplicates, users with one choice, rows in any order."""
    choices = [(f"u{user}", f"i{item}", time) for user, item, time in choices]
    parts, ordered, again = run(choices, split)
    random.shuffle(choices)
    frame = pd.DataFrame(choices, columns=["user", "item", "time"])
    assert measure_split(frame, split) == announced(parts, split, again)
    if all(parts.values()):
        studied = split_users(ordered, split)
        for name, rows in studied.items():
            assert [(user, example.event.item) for user, example in rows] == parts[name]
    else:
        with pytest.raises(ConfigError, match="has no interactions"):
            split_users(ordered, split)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=20))
def test_order_is_by_time_and_the_shuffle_alone(pairs):
    events = [Event(time, f"i{item}") for item, time in pairs]
    kept, dropped = in_order("u", events)
    again, _ = in_order("u", events[::-1])
    assert kept == again
    assert len(kept) + len(dropped) == len(events)
    assert [event.time for event in kept] == sorted(event.time for event in kept)


def test_without_times_the_last_row_is_not_the_last_choice():
    """Each user's last row is an artist that nobody else has; only some of these come to be tested."""
    rows = [(f"u{user}", item) for user in range(40) for item in [*(f"a{n}" for n in range(4)), f"own{user}"]]
    frame = pd.DataFrame(rows, columns=["user", "item"]).assign(time=0)
    split = SplitConfig(method="leave_last_out")
    result = measure_split(frame, split)
    parts, _, again = run(list(frame.itertuples(index=False)), split)
    assert result == announced(parts, split, again)
    assert 0 < result.cold_items < 0.5


@pytest.mark.slow  # Beam runs once for each method
@pytest.mark.parametrize(
    "split", [SplitConfig(), SplitConfig(method="leave_last_out"), SplitConfig(method="sessions")]
)
@pytest.mark.parametrize("times", ["equal", "coarse", "fine"])
def test_the_preview_is_what_example_gen_writes(tmp_path, split, times):
    rng = np.random.default_rng(0)
    time = {"equal": np.zeros(300), "coarse": rng.integers(0, 20, 300), "fine": rng.integers(0, 10**9, 300)}
    if (split.by_time and times == "equal") or (split.method == "sessions" and times == "coarse"):
        pytest.skip("such times divide nothing, or too few sessions")
    frame = pd.DataFrame(
        {
            "user": rng.integers(0, 30, 300).astype(str),
            "item": rng.integers(0, 60, 300),
            "time": time[times].astype(int),
        }
    )
    frame = pd.concat([frame, frame[:20]])
    frame["item"] = "i" + frame["item"].astype(str)
    frame.to_csv(tmp_path / "interactions.csv", index=False)
    pd.DataFrame({"item": frame["item"].unique()}).to_csv(tmp_path / "items.csv", index=False)
    table = Interactions(str(tmp_path / "interactions.csv"), "user", "item", "time")
    _, read = execute(tmp_path, Tables(table, Items(str(tmp_path / "items.csv"), "item")), split)
    written = {
        part: [(row["user_id"][0], row["item_id"][0]) for row in read("interactions", part)]
        for part in ("train", "validation", "test")
    }
    again = [row["item_id"][0] in row["seen"] for part in ("validation", "test")
             for row in read("interactions", part) if row["seen"]]  # fmt: skip
    choices = measure_choices(table, frozenset(frame["item"]))
    assert measure_split(choices.frame, split) == announced(written, split, again)


def test_visitors_who_come_once_are_tested_as_sessions(tmp_path):
    """3,100 of them, a minute between clicks; a month between the clicks of customers."""
    rng = np.random.default_rng(0)
    visitors, clicks = np.repeat(np.arange(3100), 3), np.tile(np.arange(3), 3100)
    start = np.repeat(rng.integers(0, 90 * 86_400, 3100), 3) + 1_700_000_000
    items = [f"i{item}" for item in rng.integers(0, 40, len(visitors))]
    found = {}
    for name, gap in (("sessions", 60), ("customers", 30 * 86_400)):
        frame = pd.DataFrame({"user": visitors, "item": items, "time": start + gap * clicks})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        table = Interactions(str(tmp_path / f"{name}.csv"), "user", "item", "time")
        choices = measure_choices(table, None)
        found[name] = first_settings._split(choices, Tables(table, Items(table.path, "item")))
    split, why, measured = found["sessions"]
    assert split == SplitConfig(method="sessions") and "each is a session" in why
    assert measured.sizes["test"] == pytest.approx(310, abs=3) and measured.known_users == 1
    assert sum(measured.sizes.values()) < len(visitors)  # the rest of what is held out is nobody's target
    assert found["customers"][0].method != "sessions"
    users = Users(str(tmp_path / "sessions.csv"), "user")
    again, _, _ = first_settings._split(
        measure_choices(table, None), Tables(table, Items(table.path, "item"), users)
    )
    assert again.method != "sessions"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_repeats_are_allowed_where_held_out_choices_repeat(share):
    rng, rows = np.random.default_rng(0), []
    for user in range(30):
        known = [f"i{user}-0"]
        for time in range(40):
            item = rng.choice(known) if rng.random() < share else f"i{user}-{len(known)}"
            known += [] if item in known else [item]
            rows.append((f"u{user}", item, time * 10**9))
    table = pd.DataFrame(rows, columns=["user", "item", "time"])
    choices = Choices(table, len(table), {}, True, {}, (), (), "auto", frozenset())
    split, comments = {"method": "temporal"}, {("split", "method"): ""}
    first_settings._repeats(split, comments, choices, measure_split(table, SplitConfig()))
    assert split.get("repeats", False) is (share > 0)
    if share:
        assert (
            "of what is held out of users with a past they had chosen before" in comments["split", "repeats"]
        )
