"""Runs beside each other, rolled back, and people taken out of what they left."""

import dataclasses
import gzip
import json
import os
import pathlib
import sys
import types

import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.config.pipeline_config import load_config
from pipeline.data.pushed_versions import latest_version
from pipeline.data.run_summary import LOCK
from pipeline.runner import forgetting, history, tracking
from pipeline.runner.rollback import roll_back
from tests.pipeline.small_shop import write_shop
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError, EndpointConfig, EnrichmentConfig
from tfrec_fusion.impressions import Feedback, ImpressionLog, ImpressionLogConfig, collect

WHO = "zebra-7f3a@example.org"


@pytest.fixture
def config(tmp_path):
    return write_shop(tmp_path)


def write_run(config, number, ndcg, pushed=True):
    version = config.push_folder / "retrieval" / str(number)
    if pushed:
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_text(f"model {number}")
    summary = {
        "name": "shop",
        "started": f"2026-01-0{number}T10:00:00",
        "seconds": 60.0 * number,
        "data": {"splits": {"interactions/train": 100 * number, "items/all": 7}},
        "artifacts": {},
        "retrieval": {
            "pushed": str(version) if pushed else None,
            "metrics": {"overall": {"ndcg@10": ndcg, "ndcg@10_low": 0.0, "users": 3}},
        },
    }
    files.write_json(config.home / "summaries" / f"2026010{number}-100000.json", summary)
    files.write_json(config.home / "summary.json", summary)
    return version


def test_runs_are_listed_and_compared(config):
    with pytest.raises(ConfigError, match="There is no run"):
        history.rows(config)
    for number, ndcg in ((1, 0.1), (2, 0.3), (3, 0.25)):
        write_run(config, number, ndcg, pushed=number < 3)
    (config.home / "summaries/half.json").write_text("{")
    found = history.rows(config)
    assert [(row.interactions, row.pushed) for row in found] == [
        (100, {"retrieval": "1"}), (200, {"retrieval": "2"}), (300, {})]  # fmt: skip
    assert history.chosen(found, "2026-01-02") is found[1] is history.chosen(found, "-2")
    for odd in ("2026", "-9", "0", "yesterday"):
        with pytest.raises(ConfigError, match="beginning of its start"):
            history.chosen(found, odd)
    assert history.differences(found[0], found[1]) == [
        ("seconds", 60.0, 120.0), ("interactions", 100, 200), ("retrieval ndcg@10", 0.1, 0.3),
        ("retrieval users", 3.0, 3.0)]  # fmt: skip


def test_old_runs_are_cleaned_and_never_beside_another_run(config):
    for number in range(1, 5):
        write_run(config, number, 0.1)
    count, freed = history.clean(config, keep=2)
    assert count == 2 and freed > 0
    assert [row.started[:10] for row in history.rows(config)] == ["2026-01-03", "2026-01-04"]
    assert sorted(entry.name for entry in (config.push_folder / "retrieval").iterdir()) == ["3", "4"]
    with files.lock(config.home / LOCK, "tfrec run"), pytest.raises(files.AtWork, match="tfrec run"):
        history.clean(config, keep=1)


def test_an_earlier_version_is_served_again(config):
    versions = [write_run(config, number, 0.1) for number in range(1, 4)]
    (done,) = roll_back(config)
    served = latest_version(config.push_folder / "retrieval")
    assert (done.withdrawn, done.restored, done.folder) == (3, 2, str(served))
    assert (served / "saved_model.pb").read_text() == "model 2"
    assert not (versions[1] / "assets.extra").exists()  # the version itself is as it was
    assert roll_back(config)[0].restored == 1  # further back
    assert (latest_version(config.push_folder / "retrieval") / "saved_model.pb").read_text() == "model 1"
    with pytest.raises(ConfigError, match="needs an earlier version"):
        roll_back(config)
    with pytest.raises(ConfigError, match="Received: 99; there are: none"):
        roll_back(config, "retrieval", 99)
    with pytest.raises(ConfigError, match="`--to` needs"):
        roll_back(config, version=1)
    with files.lock(config.home / LOCK, "tfrec run"), pytest.raises(files.AtWork):
        roll_back(config)


def texts(folder):
    """Every file below a folder, unpacked."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            data = pathlib.Path(file).read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            if data[:4] == b"PAR1":
                data = repr(pq.read_table(file).to_pylist()).encode()
            yield file, data


def test_nothing_but_what_is_named_holds_somebody_who_was_forgotten(config, tmp_path):
    with (tmp_path / "orders.csv").open("a") as orders:
        orders.write(f"{WHO},s1,99,web\n{WHO},s3,100,web\n")
    version = write_run(config, 1, 0.1)
    (version / "saved_model.pb").write_text(WHO)
    blessed = config.home / "artifacts/RetrievalTrainer/model/7"
    for path in (
        blessed / "saved_model.pb",
        config.home / "artifacts/RetrievalTrainer/model_run/7/weights",
        config.home / "artifacts/RetrievalTrainer/model/3/saved_model.pb",
        config.home / "artifacts/TablesExampleGen/interactions/1/Split-train/data.gz",
        config.home / "logs/20260101.log",
        config.home / "rejects/rejects.jsonl",
        config.home / "report/index.html",
        config.home / "checkpoints/abc/best",
        config.home / "enrichment/users/answers.jsonl",
        config.home / "enrichment/versions/1/users.parquet",
        config.push_folder / "retrieval/0/saved_model.pb",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(WHO.encode()) if path.suffix == ".gz" else WHO.encode())
    log = tmp_path / "log"
    with ImpressionLog(ImpressionLogConfig(str(log))) as writer:
        writer.shown("r1", [["a"]], users=[WHO])
        writer.shown("r2", [["b"]], users=["other"])
        writer.feedback(
            [Feedback.of({"request_id": f"r{n}", "item": "ab"[n - 1], "kind": "click"}) for n in (1, 2)]
        )
        name = writer.pseudonym(WHO.encode())
    collect(str(log), str(tmp_path / "table"))
    assert sum(name.encode() in data for _, data in texts(tmp_path)) == 2
    result = forgetting.forget(
        config, WHO, blessed=[str(blessed)], logs=[str(log)], tables=[str(tmp_path / "table")]
    )
    held = [
        file
        for file, data in texts(tmp_path)
        if WHO.encode() in data or name.encode() in data or b"r1" in data
    ]
    assert {os.path.dirname(file) for file in held} == {
        *result.holding,
        str(tmp_path),
    }  # models, and orders.csv
    assert set(result.holding) == {str(version), str(blessed)}
    assert result.sources == {str(tmp_path / "orders.csv"): 2}
    assert result.rows == 4
    assert collect(str(log), str(tmp_path / "table")).shown == 1
    assert (config.home / "summary.json").is_file()
    # The next model is pushed: what still held them goes.
    assert forgetting.finish(config) == []
    after = config.push_folder / "retrieval/5/saved_model.pb"
    after.parent.mkdir()
    after.write_text("without")
    assert set(forgetting.finish(config)) == set(result.holding)
    assert not any(WHO.encode() in data for _, data in texts(config.home))
    assert forgetting.pending(config.home) == []


def test_what_was_asked_about_users_before_any_run_is_forgotten(config):
    answers = config.home.parent / "answers"
    config = dataclasses.replace(
        config, enrich=EnrichmentConfig(EndpointConfig(model="writer"), folder=str(answers))
    )
    assert not config.home.exists()
    (answers / "users").mkdir(parents=True)
    with files.lock(answers / "enrichment.lock", "tfrec enrich"), pytest.raises(files.AtWork):
        forgetting.forget(config, WHO)
    assert forgetting.forget(config, WHO).removed == (str(answers / "users"),)


def test_whom_to_forget_must_be_known(config, tmp_path):
    with pytest.raises(ConfigError, match="Received: an empty one"):
        forgetting.forget(config, " ")
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="key of the pseudonyms must be there"):
        forgetting.forget(config, "p1", logs=[str(tmp_path / "log")])
    assert not (tmp_path / "log.key").exists()
    with pytest.raises(ConfigError, match="needs `--key-file`"):
        forgetting.forget(config, "p1", tables=[str(tmp_path)])


def test_a_run_is_logged_to_mlflow(config, monkeypatch):
    tracking.check(config)
    wanted = dataclasses.replace(config, mlflow="store")
    if "mlflow" not in sys.modules:
        monkeypatch.setitem(sys.modules, "mlflow", None)
        with pytest.raises(ConfigError, match="pip install mlflow-skinny"):
            tracking.check(wanted)
    seen: dict[str, dict] = {"param": {}, "metric": {}, "tag": {}, "end": {}}

    class Recorder:
        def __init__(self, tracking_uri):
            seen["end"]["store"] = tracking_uri

        get_experiment_by_name = staticmethod(lambda name: None)
        create_experiment = staticmethod(lambda name: "1")
        create_run = staticmethod(
            lambda number, run_name: types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))
        )
        log_param = staticmethod(lambda run, key, value: seen["param"].update({key: value}))
        log_metric = staticmethod(lambda run, key, value: seen["metric"].update({key: value}))
        set_tag = staticmethod(lambda run, key, value: seen["tag"].update({key: value}))
        log_artifact = staticmethod(lambda run, path: seen["end"].update(artifact=path))
        set_terminated = staticmethod(lambda run: seen["end"].update(run=run))

    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", types.SimpleNamespace(MlflowClient=Recorder))
    version = write_run(config, 1, 0.25)
    assert tracking.log_run(wanted, json.loads((config.home / "summary.json").read_text())) == "r"
    assert seen["metric"] == {
        "seconds": 60.0, "retrieval/overall/ndcg.10": 0.25, "retrieval/overall/ndcg.10_low": 0.0,
        "retrieval/overall/users": 3.0}  # fmt: skip
    assert seen["param"]["retrieval.tower.dim"] == "8"
    assert seen["tag"] == {"pushed.retrieval": str(version)}
    assert seen["end"]["store"].startswith("file:///") and seen["end"]["run"] == "r"


def test_the_commands_say_what_they_did(config, tmp_path, capsys):
    path = tmp_path / "shop.yaml"
    path.write_text(
        f"name: shop\nroot: {config.root}\ndata:\n"
        "  interactions: {path: orders.csv, user: who, item: sku, time: at}\n"
        "  items: {path: items.csv, id: sku}\ntext: none\n"
    )
    assert load_config(str(path)).home == config.home
    write_run(config, 1, 0.1)
    write_run(config, 2, 0.2)
    assert main(["runs", "list", str(path)]) == 0
    assert main(["runs", "compare", str(path)]) == 0
    assert main(["rollback", str(path)]) == 0
    assert main(["forget", str(path), "--user", "p3"]) == 0
    said = capsys.readouterr()
    assert "retrieval ndcg@10 0.2000; retrieval 2" in said.out
    assert "+0.1" in said.out
    assert "retrieval: 1 in place of 2" in said.out
    assert "still holds p3" in said.out
    assert "orders.csv: 8 rows name p3" in said.err
