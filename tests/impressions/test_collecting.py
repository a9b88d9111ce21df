"""From lines of a log to a table by day: once each, whatever became of the log."""

import datetime
import json
import os
import stat

import pytest

from tfrec_fusion.config import ConfigError
from tfrec_fusion.impressions import (
    IMPRESSIONS,
    Feedback,
    ImpressionLog,
    ImpressionLogConfig,
    collect,
    read_impressions,
)
from tfrec_fusion.impressions.contract import FeedbackError, new_request_id, row_ids

DAY = 86_400_000_000
MONDAY = int(datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc).timestamp()) * 1_000_000
NOW = MONDAY / 1e6 + 30 * 86_400


def shown(request_id, items, time=MONDAY, **more):
    values = {"v": 1, "request_id": request_id, "time": time, "model": "m", "version": 3, "arm": "",
              "user": "u", "items": list(items), "scores": [], "propensities": []}  # fmt: skip
    return json.dumps({**values, **more})


def event(event_id, request_id, item, kind="click", value=1.0, time=MONDAY + 1, **more):
    return json.dumps({"v": 1, "event_id": event_id, "request_id": request_id, "item": item, "kind": kind,
                       "value": value, "time": time, **more})  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def lines(name, *texts, end="\n"):
        folder = tmp_path / "log"
        folder.mkdir(exist_ok=True)
        with (folder / name).open("a") as file:
            file.write("\n".join(texts) + end)
        return str(folder)

    return lines


def rewards(table, kind="click"):
    return {(row["request_id"], row["item"]): row[kind] for row in table.to_pylist() if row[kind]}


def test_feedback_stands_beside_what_it_is_about(write, tmp_path):
    log = write("shown-2026-11-23.jsonl", shown("r1", "abc", scores=[3.0, 2.0, 1.0]), shown("r2", "ab"))
    write("feedback-2026-11-23.jsonl", event("e1", "r1", "b"), event("e2", "r1", "b"),
          event("e3", "r1", "b", "dwell", 12.5), event("e4", "r2", "z"))  # fmt: skip
    result = collect(log, str(tmp_path / "table"), now=NOW)
    table = read_impressions(str(tmp_path / "table"))
    assert table.schema == IMPRESSIONS
    assert [(row["request_id"], row["item"], row["position"]) for row in table.to_pylist()] == [
        ("r1", "a", 1), ("r1", "b", 2), ("r1", "c", 3), ("r2", "a", 1), ("r2", "b", 2)]  # fmt: skip
    assert rewards(table) == {("r1", "b"): 2.0}
    assert rewards(table, "dwell") == {("r1", "b"): 12.5}
    assert table.column("propensity").to_pylist() == [1.0] * 5
    assert table.column("score").to_pylist() == [3.0, 2.0, 1.0, None, None]
    assert (result.shown, result.events, result.unmatched, result.faults) == (5, 4, 1, {})
    part = tmp_path / "table/impressions/day=2026-11-23/part-0.parquet"
    assert stat.S_IMODE(part.stat().st_mode) == 0o600


def test_what_comes_twice_late_or_out_of_order_counts_once(write, tmp_path):
    table = str(tmp_path / "table")
    log = write(
        "feedback-2026-11-22.jsonl", event("e1", "r1", "a", time=MONDAY - DAY)
    )  # a clock that is slow
    assert collect(log, table, now=NOW).unmatched == 1  # before what it is about
    write("shown-2026-11-25.jsonl", shown("r2", "a", MONDAY + 2 * DAY), shown("r1", "ab"), shown("r1", "ab"))
    first = collect(log, table, now=NOW)
    assert (first.new_shown, first.unmatched, first.missing) == (3, 0, ("2026-11-24",))
    assert rewards(read_impressions(table)) == {("r1", "a"): 1.0}
    write("feedback-2026-11-28.jsonl", event("e1", "r1", "a"), event("e9", "r1", "b", time=MONDAY + 5 * DAY))
    second = collect(log, table, now=NOW)
    assert (second.new_shown, second.days) == (0, ("2026-11-23",))
    assert rewards(read_impressions(table)) == {("r1", "a"): 1.0, ("r1", "b"): 1.0}
    before = (tmp_path / "table/impressions/day=2026-11-23/part-0.parquet").stat().st_mtime_ns
    again = collect(log, table, now=NOW)
    assert (again.new_shown, again.new_events, again.days) == (0, 0, ())
    assert (tmp_path / "table/impressions/day=2026-11-23/part-0.parquet").stat().st_mtime_ns == before
    # A collection that was killed before it wrote down what it had read adds nothing twice.
    (tmp_path / "table/collected.json").unlink()
    assert collect(log, table, now=NOW).new_shown == 0
    assert rewards(read_impressions(table)) == {("r1", "a"): 1.0, ("r1", "b"): 1.0}


def test_lines_that_cannot_be_used_are_counted(write, tmp_path):
    log = write(
        "shown-2026-11-23.jsonl",
        shown("r1", "ab"),
        shown("r2", "ab")[:40],  # cut in the middle
        shown("r3", "ab", v=2),
        shown("r4", "ab", MONDAY + 400 * DAY),
        shown("r5", "ab", propensities=[0.5, 0.0]),
        shown("r6", "ab", scores=[float("nan"), 1]),
        shown("bad id", "ab"),
        "[" * 100_000,
        "\x00\x01",
        '"text"',
        "",
    )
    result = collect(log, str(tmp_path / "table"), now=NOW)
    assert result.shown == 2
    assert sum(result.faults.values()) == 9
    assert result.faults["no whole line"] == 4
    assert result.faults["of version 2, not 1"] == 1
    assert result.faults["more than a day ahead of this machine's clock"] == 1
    with pytest.raises(ConfigError, match="tfrec serve --impressions"):
        collect(str(tmp_path / "table"), str(tmp_path / "other"))


def test_a_log_is_its_owners_and_knows_no_names(tmp_path):
    config = ImpressionLogConfig(str(tmp_path / "log"))
    with ImpressionLog(config) as log:
        log.shown(
            "r1", [["a", "b", ""]], users=[b"ann@example.org"], scores=[[2.0, 1.0, 0.0]], model="m", version=7
        )
        log.shown("r2", [[b"\xff"], ["c"]], arm="layout=b")
        log.feedback([Feedback.of({"request_id": "r1", "item": "b", "kind": "click"})])
        pseudonym = log.pseudonym(b"ann@example.org")
    for file in (tmp_path / "log").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "ann" not in file.read_text()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    with ImpressionLog(config) as log:  # the key outlives the log
        assert log.pseudonym(b"ann@example.org") == pseudonym
    collect(config.folder, str(tmp_path / "table"))
    table = read_impressions(str(tmp_path / "table")).to_pylist()
    assert [(row["request_id"], row["user"], row["item"], row["arm"], row["click"]) for row in table] == [
        ("r1", pseudonym, "a", "", 0.0), ("r1", pseudonym, "b", "", 1.0),
        ("r2.0", "", "\ufffd", "layout=b", 0.0),
        ("r2.1", "", "c", "layout=b", 0.0)]  # fmt: skip


def test_no_link_is_followed_and_a_line_that_was_cut_spoils_no_other(tmp_path):
    with ImpressionLog(ImpressionLogConfig(str(tmp_path / "log"))) as log:
        log.feedback([Feedback.of({"request_id": "r", "item": "b", "kind": "like"})])
        (file,) = (tmp_path / "log").iterdir()
        with file.open("a") as stream:
            stream.write('{"v":1,"event')  # killed here
        log.feedback([Feedback.of({"request_id": "r", "item": "c", "kind": "like"})])
        assert len(file.read_text().splitlines()) == 3
        assert json.loads(file.read_text().splitlines()[-1])["item"] == "c"
        os.rename(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"symbolic|levels"):
            log.feedback([Feedback.of({"request_id": "r", "item": "d", "kind": "like"})])
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(ValueError, match="no link"):
        ImpressionLog(ImpressionLogConfig(str(tmp_path / "link")))


def test_the_log_stays_below_its_bound(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir(mode=0o700)
    for day in ("2026-01-01", "2026-01-02"):
        (folder / f"shown-{day}.jsonl").write_text("x" * 800)
    with ImpressionLog(ImpressionLogConfig(str(folder), max_bytes=1024)) as log:
        log.feedback([Feedback.of({"request_id": "r", "item": "b", "kind": "like"})])
    assert "shown-2026-01-01.jsonl" not in os.listdir(folder)
    assert "shown-2026-01-02.jsonl" in os.listdir(folder)
    with pytest.raises(ValueError, match="at least 1024"):
        ImpressionLogConfig("x", max_bytes=1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "stare"}, "one of click, purchase"),
        ({"kind": "dwell"}, "in seconds"),
        ({"value": float("nan")}, "from 0 to 1e12"),
        ({"value": True}, "from 0 to 1e12"),
        ({"value": -1}, "from 0 to 1e12"),
        ({"item": ""}, "an item's id"),
        ({"item": "\ud800"}, "an item's id"),
        ({"request_id": "../x y"}, "what an answer carries"),
        ({"event_id": ""}, "`event_id` must"),
        ({"time": 1.5}, "microseconds since 1970"),
        ({"colour": 1}, "Received: 'colour'"),
    ],
)
def test_feedback_says_what_is_wrong_with_it(given, words):
    with pytest.raises(FeedbackError, match=words):
        Feedback.of({"request_id": "r", "item": "i", "kind": "click", **given})


def test_ids_sort_by_time_and_rows_have_their_own():
    ids = [new_request_id() for _ in range(3)]
    assert len(set(ids)) == 3
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
    assert row_ids("r", 1) == ["r"]
    assert row_ids("r", 2) == ["r.0", "r.1"]
