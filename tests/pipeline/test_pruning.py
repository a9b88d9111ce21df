"""What earlier runs left is removed by the keys that say so, and nothing that is served, compared with or
reused."""

import dataclasses
import json
import os
import time

import pytest

from pipeline.config.pipeline_config import ServingConfig
from pipeline.data.pushed_versions import MARK
from pipeline.runner.pruning import prune
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError


@pytest.fixture
def config(tmp_path):
    return write_shop(tmp_path)


def write_run(config, number, pushed=True):
    """A run whose trainer is execution `10 * number + 1`, and whose data were read by the first run."""
    artifacts = config.home / "artifacts"
    made = {
        "TablesExampleGen/users": artifacts / "TablesExampleGen/users/1",
        "RetrievalTrainer/model": artifacts / f"RetrievalTrainer/model/{10 * number + 1}",
    }
    for folder in (*made.values(), artifacts / f"RetrievalIndexBuilder/model/{10 * number + 5}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_bytes(bytes(1000))
    (artifacts / f"RetrievalTrainer/.system/executor_execution/{10 * number + 1}").mkdir(parents=True)
    version = config.push_folder / "retrieval" / str(number)
    if pushed:
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_bytes(bytes(1000))
    summary = {
        "started": f"2026-01-0{number}T00:00:00",
        "artifacts": {name: str(folder) for name, folder in made.items()},
        "retrieval": {"pushed": str(version) if pushed else None},
    }
    path = config.home / "summaries" / f"2026010{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary))


def left(config, output):
    return sorted(int(entry.name) for entry in (config.home / "artifacts" / output).iterdir())


def test_the_last_runs_and_versions_stay(config):
    for number in range(1, 8):
        write_run(config, number)
    os.makedirs(config.home / "serving/retrieval/²")
    (config.home / "artifacts/RetrievalTrainer/model/99").mkdir()  # of a run that was stopped
    for age, name in ((0, "begun"), (300 * 86400 * 10, "given up")):
        folder = config.home / "checkpoints" / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    assert prune(config) == 4000 + 4000 + 4000
    assert left(config, "RetrievalTrainer/model") == [51, 61, 71, 99]
    assert left(config, "RetrievalIndexBuilder/model") == [55, 65, 75]
    assert left(config, "TablesExampleGen/users") == [1]
    assert left(config, "RetrievalTrainer/.system/executor_execution") == [51, 61, 71]
    assert sorted(os.listdir(config.push_folder / "retrieval")) == ["5", "6", "7", "²"]
    assert os.listdir(config.home / "checkpoints") == ["begun"]
    assert prune(config) == 0


def test_what_is_served_or_compared_with_stays_however_old(config):
    write_run(config, 1)
    write_run(config, 2)
    for number in range(3, 8):
        write_run(config, number, pushed=False)
    for number in (8, 9):  # baselines that fill in
        version = config.push_folder / "retrieval" / str(number)
        (version / MARK).parent.mkdir(parents=True)
        (version / MARK).write_text("{}")
    small = dataclasses.replace(config, keep_runs=1, serving=ServingConfig(keep_versions=1))
    blessed = [str(config.home / "artifacts/RetrievalTrainer/model/41")]
    prune(small, blessed)
    assert left(config, "RetrievalTrainer/model") == [21, 41, 71]
    assert sorted(os.listdir(config.push_folder / "retrieval")) == ["2", "9"]


def test_null_keeps_all_and_nought_is_refused(config):
    for number in range(1, 6):
        write_run(config, number)
    assert prune(dataclasses.replace(config, keep_runs=None, serving=ServingConfig(keep_versions=None))) == 0
    with pytest.raises(ConfigError, match="keep_runs` must be at least 1"):
        dataclasses.replace(config, keep_runs=0)
    with pytest.raises(ConfigError, match="keep_versions` must be at least 1"):
        dataclasses.replace(config, serving=ServingConfig(keep_versions=0))
