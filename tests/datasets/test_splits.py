"""Splits by time: nothing of the future may be known, ties are shuffled, nothing is lost."""

import random

import pytest

from tfrec_fusion.datasets.splits import Event, in_order, split_user, temporal_cutoffs


def events(*times_and_items):
    return [Event(time, item) for time, item in times_and_items]


def test_leave_last_out_by_hand():
    examples = list(split_user(events((1, "a"), (2, "b"), (3, "c"), (4, "d")), "leave_last_out", None, 2))
    assert [(e.split, e.event.item, e.history, e.seen) for e in examples] == [
        ("train", "a", (), ()),
        ("train", "b", ("a",), ()),
        ("validation", "c", ("a", "b"), ("a", "b")),
        ("test", "d", ("b", "c"), ("a", "b", "c")),
    ]
    assert {e.user_train_count for e in examples} == {2}


def test_what_is_held_out_may_know_more():
    user = events((1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"))
    longer, shorter = (list(split_user(user, "leave_last_out", None, 1, long)) for long in (3, 0))
    assert [example.history for example in longer] == [(), ("a",), ("b",), ("a", "b", "c"), ("b", "c", "d")]
    assert [example.history for example in shorter] == [(), ("a",), ("b",), ("c",), ("d",)]


def test_leave_last_out_keeps_people_with_two_events_in_training():
    assert [e.split for e in split_user(events((1, "a"), (2, "b")), "leave_last_out", None, 5)] == [
        "train"
    ] * 2


def test_temporal_by_hand():
    user = events((1, "a"), (5, "b"), (6, "c"), (9, "d"), (10, "e"))
    examples = list(split_user(user, "temporal", (5, 9), 10))
    assert [(e.split, e.event.item, e.history) for e in examples] == [
        ("train", "a", ()),
        ("validation", "b", ("a",)),
        ("validation", "c", ("a",)),
        ("test", "d", ("a", "b", "c")),
        ("test", "e", ("a", "b", "c")),
    ]


@pytest.mark.parametrize("method", ["leave_last_out", "temporal"])
def test_nothing_of_the_future_is_known(method):
    """Whatever the data: all that an example knows lies before it, and before the start of its split."""
    rng = random.Random(1)
    users = {
        str(user): in_order(
            str(user), [Event(rng.randrange(40), str(rng.randrange(15))) for _ in range(rng.randrange(1, 30))]
        )[0]
        for user in range(60)
    }
    counts = [(event.time, 1) for row in users.values() for event in row]
    cutoffs = temporal_cutoffs(counts, 0.2, 0.2) if method == "temporal" else None
    seen = set()
    for row in users.values():
        examples = list(split_user(row, method, cutoffs, 7))
        assert [e.event for e in examples] == row
        for position, example in enumerate(examples):
            seen.add(example.split)
            start = next(i for i, other in enumerate(examples) if other.split == example.split)
            known = position if example.split == "train" else start
            assert example.history == tuple(event.item for event in row[max(0, known - 7) : known])
            if example.split != "train":
                assert set(example.seen) == {event.item for event in row[:start]}
            if cutoffs:
                low = {"train": 0, "validation": cutoffs[0], "test": cutoffs[1]}[example.split]
                high = {"train": cutoffs[0], "validation": cutoffs[1], "test": 10**9}[example.split]
                assert low <= example.event.time < high
    assert seen == {"train", "validation", "test"}


def test_sessions_by_hand():
    """Cut-offs at 5 and 9: by the last event a session belongs to one split, whole."""
    found = {
        name: [
            (e.split, e.event.item, e.history, e.seen)
            for e in split_user(events(*session), "sessions", (5, 9), 2, 3)
        ]
        for name, session in {
            "early": [(1, "a"), (4, "b")],
            "middle": [(3, "a"), (4, "b"), (4, "a"), (5, "c")],
            "late": [(2, "a"), (9, "b")],
            "short": [(12, "a")],
        }.items()
    }
    assert found == {
        "early": [("train", "a", (), ()), ("train", "b", ("a",), ())],
        "middle": [("validation", "c", ("a", "b", "a"), ("a", "b"))],
        "late": [("test", "b", ("a",), ("a",))],
        "short": [("train", "a", (), ())],
    }


def test_what_was_shown_in_a_session_follows_it():
    """Not chosen: learned with a session of training, left out with one that is held out."""
    shown = [Event(1, "a"), Event(2, "x", weight=0.0), Event(3, "b")]
    trained = [e.event.item for e in split_user(shown, "sessions", (5, 9), 5)]
    assert sorted(trained) == ["a", "b", "x"]
    assert [e.event.item for e in split_user(shown, "sessions", (1, 9), 5)] == ["b"]


def test_cutoffs_divide_the_interactions_as_asked():
    assert temporal_cutoffs([(time, 1) for time in range(100)], 0.1, 0.1) == (80, 90)


def test_cutoffs_never_divide_one_moment():
    assert temporal_cutoffs([(1, 50), (2, 40), (3, 10)], 0.1, 0.1) == (3, 3)


def test_equal_times_are_shuffled_and_not_ordered_by_id():
    items = [str(number) for number in range(100)]
    kept, _ = in_order("u", [Event(7, item) for item in items])
    order = [int(event.item) for event in kept]
    again = [int(event.item) for event in in_order("u", [Event(7, item) for item in reversed(items)])[0]]
    assert order == again  # the rows' order does not matter
    assert order != sorted(order)
    assert abs(sum(order[:50]) / 50 - 49.5) < 12  # neither early nor late ids come first


def test_the_same_item_in_the_same_second_is_a_duplicate_and_later_it_is_not():
    kept, duplicates = in_order("u", events((1, "a"), (1, "a"), (2, "a")))
    assert [event.time for event in kept] == [1, 2]
    assert len(duplicates) == 1
