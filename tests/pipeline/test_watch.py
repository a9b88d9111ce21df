"""`tfrec watch`: what counts as new, and when it updates."""

import datetime
import json
import os

import pytest

from pipeline.cli.main import main
from pipeline.data.run_summary import DRIFT
from pipeline.report.drift_periods import drift_rows
from pipeline.updating import drifting, watching
from pipeline.updating.pending import REPORT
from pipeline.updating.watching import Limits
from tests.pipeline.small_shop import write_shop
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.in_memory.drift import Drift, Period
from tfrec_fusion.in_memory.updating import NothingNew


@pytest.fixture
def config(tmp_path):
    """A shop with the summary of a run that read all its 320 orders."""
    config = write_shop(tmp_path)
    splits = {
        "interactions/train": 256,
        "interactions/validation": 32,
        "interactions/test": 32,
        "items/all": 24,
    }
    summary = {"started": "2026-01-01T10:00:00", "data": {"splits": splits}}
    files.write_json(config.home / "summary.json", summary)
    return config


def append(config, lines):
    path = config.data.interactions.path
    with open(path, "a") as table:
        table.writelines(f"{line}\n" for line in lines)
    return path


def test_rows_are_counted_as_a_run_counts_them(config):
    assert watching.count_rows(config) == 320
    found = watching.look(config, Limits())
    assert (found.before, found.rows, found.new_rows, found.reasons) == (320, 320, 0, ())
    # Nothing has changed: no file is read again.
    assert watching.look(config, Limits()).rows is None
    assert watching.look(config, Limits(min_rows=1)).rows == 320  # other limits
    # A row again, one of an unknown item, one cut in the middle, and one older than all.
    append(config, ["p1,s1,0,web", "p1,s3,9000,web", "p1,s3,9000,web", "p1,unknown,9001,web", "p1,s5"])
    found = watching.look(config, Limits(min_share=0.5))
    assert found.new_rows == 2 and not found.reasons
    found = watching.look(config, Limits(min_share=None, min_rows=2))
    assert found.reasons == ("2 new interactions, at least 2",)
    found = watching.look(config, Limits(min_share=0.006))
    assert found.reasons == ("2 new interactions, at least 0.60% of 320",)


def test_the_last_update_counts_where_it_is_later_than_the_run(config):
    report = {"started": "2026-01-02T10:00:00", "rows": 318}
    files.write_json(config.home / REPORT, report)
    assert watching.look(config, Limits()).before == 318
    files.write_json(config.home / REPORT, {**report, "started": "2025-12-31T10:00:00"})
    assert watching.look(config, Limits()).before == 320
    (config.home / REPORT).write_text('{"started": "2026-01')
    assert watching.look(config, Limits()).before == 320
    (config.home / watching.STATE).write_text("[")
    assert watching.look(config, Limits()).rows == 320


def test_a_table_that_is_gone_or_empty_is_an_error_and_no_reason(config):
    path = config.data.interactions.path
    os.truncate(path, 0)
    with pytest.raises(ConfigError):
        watching.look(config, Limits())
    os.remove(path)
    with pytest.raises(ConfigError):
        watching.look(config, Limits())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min_rows": 0}, "`--min-rows` must be at least 1"),
        ({"min_share": 0.0}, "`--min-share` must be above 0"),
        ({"max_distance": 2.0}, "`--max-distance` must be from 0 to 1"),
        ({"max_drop": float("nan")}, "`--max-drop`"),
    ],
)
def test_limits_that_cannot_be_used(limits, words):
    with pytest.raises(ConfigError, match=words):
        Limits(**limits)


def test_an_update_follows_where_there_is_a_reason(config, monkeypatch, tmp_path, capsys):
    asked = []

    def update(config, **options):
        asked.append(options["epochs"])
        if len(asked) == 1:
            raise NothingNew("nothing")
        return {"pushed": None, "versions": {}, "reasons": ["worse"]}

    monkeypatch.setattr(watching, "run_update", update)
    path = tmp_path / "shop.yaml"
    path.write_text(
        f"name: shop\nroot: {config.root}\ndata:\n"
        "  interactions: {path: orders.csv, user: who, item: sku, time: at, context: [place]}\n"
        "  items: {path: items.csv, id: sku}\ntext: none\n"
    )
    assert main(["watch", str(path)]) == 0 and not asked
    append(config, [f"p1,s{number},{9000 + number},web" for number in (0, 2, 4, 6)])
    assert main(["watch", str(path), "--epochs", "2"]) == 0
    assert main(["watch", str(path)]) == 0 and asked == [2]  # no file has changed since
    append(config, ["p1,s8,9010,web"])
    assert main(["watch", str(path)]) == 2
    said = capsys.readouterr().out
    assert (
        "+4 since the last run" in said and "held-out windows alone" in said and "not pushed; worse" in said
    )
    assert asked == [2, 3]


def drift_of(distance):
    empty = Period(0.0, 50.0, 0, 0, None, None, None, None, None, {})
    full = Period(50.0, 100.0, 9, 4, 0.5, 0.0, 0.2, 0.1, 0.3, {"item_shelf": distance, "<b>": 0.0})
    return Drift(300, (empty, full))


def test_drift_is_a_reason_is_printed_and_stands_in_the_report(config, monkeypatch, capsys):
    monkeypatch.setattr(drifting, "origin", lambda config: type("Origin", (), {"base": None}))
    monkeypatch.setattr(drifting, "measure", lambda *_, **__: drift_of(0.3))
    append(config, ["p1,s0,9000,web"])
    limits = Limits(min_share=0.5, max_distance=0.2)
    (reason,) = watching.look(config, limits).reasons
    assert reason == "item_shelf: distance 0.300 in the newest period, above 0.2"
    assert watching.look(config, Limits(min_share=0.5, max_distance=0.4)).reasons == ()
    written = json.loads((config.home / DRIFT).read_text())
    assert datetime.datetime.fromisoformat(written["measured"]) and written["periods"][0]["ndcg"] is None
    shown = drift_rows(config.home)
    assert shown["names"] == ["item_shelf", "<b>"] and shown["rows"] == 300
    assert shown["rows_"][0]["distances"] == [None, None] and shown["rows_"][1]["new_users"] == "50.0 %"
    (config.home / DRIFT).write_text('{"measured": "2026", "periods": [{"st')
    assert drift_rows(config.home) is None
    from pipeline.cli.commands.drift import _print

    _print(drift_of(0.3))
    said = capsys.readouterr().out
    assert "1970-01-01 00:00           0        0          –" in said and "item_shelf 0.300" in said
