"""Rows as events: what counts, how much, and why a row does not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tfrec_fusion.datasets.events import read_events
from tfrec_fusion.datasets.splits import Event, in_order
from tfrec_fusion.datasets.tables import Interactions

SECOND = 10**9


def read(columns, **keys):
    batch = columns if isinstance(columns, pd.DataFrame) else pa.RecordBatch.from_pydict(columns)
    rules = {name: keys.pop(name) for name in ("user_ids", "item_ids") if name in keys}
    return read_events(batch, Interactions("", "u", "i", **{"time": None, **keys}), **rules)


def test_ids_of_a_nullable_integer_column_stay_apart():
    """Through pandas' floats these three users became one."""
    users = [1285704473650888702, 1285704473650888703, 1285704473650888704, None]
    events = read({"u": users, "i": ["a"] * 4})
    assert events.users.to_pylist() == [*map(str, users[:3]), None]
    assert events.reason.tolist() == ["", "", "", "missing user id"]


@pytest.mark.parametrize("cells", [["x y x", "", "z"], [["x", "y", "x"], None, ["z"]]])
def test_several_items_in_a_cell_are_several_events_in_order(cells):
    events = read({"u": ["a", "b", "c"], "i": cells, "t": [5, 7, 9]}, time="t", explode=" ")
    assert events.rows.tolist() == [0, 0, 0, 1, 2]
    assert events.items.to_pylist() == ["x", "y", "x", None, "z"]
    assert events.reason.tolist() == ["", "", "", "missing item id", ""]
    assert (np.diff(events.times[:3]) > 0).all()
    assert (events.times // SECOND).tolist() == [5, 5, 5, 7, 9]


def test_clicks_within_a_second_keep_their_order():
    times = [f"2024-01-01T00:00:00.{n}00" for n in (5, 1, 9, 3)]
    events = read({"u": ["p"] * 4, "i": list("baca"), "t": times}, time="t")
    rows = zip(events.times.tolist(), events.items.to_pylist(), strict=True)
    kept, duplicates = in_order("p", [Event(time, item) for time, item in rows])
    assert [event.item for event in kept] == ["a", "a", "b", "c"]
    assert not duplicates


def test_nothing_said_is_no_fault():
    labels = [5, None, "", -1, 99, "good", "4 "]
    events = read(
        {"u": ["a"] * 7, "i": ["x"] * 7, "l": [None if value is None else str(value) for value in labels]},
        label="l",
        label_nulls=(-1, "99"),
    )
    assert np.nan_to_num(events.labels, nan=-9).tolist() == [5, -9, -9, -9, -9, -9, 4]
    assert events.reason.tolist() == ["", "", "", "", "", "unparsable label", ""]
    assert np.isnan(read({"u": ["a"], "i": ["x"], "l": [-1.0]}, label="l", label_nulls=(-1,)).labels).all()


def test_words_of_labels():
    words = ["like", "Dislike", "3 stars", "5", "hmm"]
    events = read(
        {"u": ["a"] * 5, "i": ["x"] * 5, "l": words},
        label="l",
        label_values={"like": 1, "dislike": 0, "3 stars": 3},
    )
    assert events.labels[:4].tolist() == [1, 0, 3, 5]
    assert events.reason.tolist() == ["", "", "", "", "unparsable label"]
    swapped = read({"u": ["a", "b"], "i": ["x", "x"], "l": [1, 0]}, label="l", label_values={"1": 0, "0": 1})
    assert swapped.labels.tolist() == [0, 1]


def test_weights_and_kinds_of_events():
    columns = {
        "u": ["a", "b", None, "d", "e", "f", "g"],
        "i": ["x"] * 7,
        "w": ["2.5", None, "1", "-2", "many", "0", "1"],
        "e": ["buy", "Buy", "view", "buy", "buy", "buy", "return"],
    }
    events = read(columns, weight="w", event="e", events={"buy": 2, "view": 0})
    assert events.weights[:2].tolist() == [5, 2]
    assert events.reason.tolist() == [
        "",
        "",
        "no choice: event 'view' counts 0",
        "weight below 0",
        "unparsable weight",
        "no choice: weight 0",
        "event 'return' is not among `events`",
    ]


def test_ids_are_matched_by_rule():
    events = read({"u": ["12.0", "0012"], "i": ["I3 ", "i3"]}, user_ids="number", item_ids="folded")
    assert events.users.to_pylist() == ["12", "12"]
    assert events.items.to_pylist() == ["i3", "i3"]


def test_frames_of_pandas_are_read_too():
    events = read(pd.DataFrame({"u": ["a", 5], "i": [1.0, np.nan], "t": [1.5, 2]}), time="t")
    assert events.users.to_pylist() == ["a", "5"]
    assert events.items.to_pylist() == ["1", None]
    assert events.times.tolist() == [SECOND * 3 // 2, 2 * SECOND]


def test_a_time_that_is_missing_or_wrong():
    events = read({"u": ["a"] * 4, "i": ["x"] * 4, "t": ["2024-01-01", "2024-01-02", "soon", None]}, time="t")
    assert events.reason.tolist() == ["", "", "unparsable time", "missing time"]
