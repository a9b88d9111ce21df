"""Recommendations for everybody in files, against what the served model answers."""

import json

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline.runner import batch
from tests.serving.saved_models import write_recommender
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

USERS = [f"user {number}" for number in range(600)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a run leaves behind: people in two files, two versions of a model."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "artifacts/TablesExampleGen/users/12/Split-all"
    (home / "artifacts/TablesExampleGen/users/9/Split-all").mkdir(parents=True)
    folder.mkdir(parents=True)
    for number in range(2):
        with tf.io.TFRecordWriter(str(folder / f"data-{number}.gz"), "GZIP") as writer:
            for user in USERS[number::2]:
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user.encode()]))
                example = tf.train.Example(features=tf.train.Features(feature={"user_id": feature}))
                writer.write(example.SerializeToString())
    (home / "serving/recommender/9").mkdir(parents=True)
    write_recommender(home / "serving/recommender/10")
    return home


def test_everybody_gets_an_answer(run, tmp_path):
    users, model = batch.users_of_last_run(run), batch.latest_version(run / "serving/recommender")
    assert len(users) == 2
    assert model.endswith("/10")
    assert batch.write_recommendations(users, model, str(tmp_path / "table"), k=2) == len(USERS)
    table = pq.read_table(tmp_path / "table")
    assert table.schema.equals(batch.SCHEMA)
    answers = {(row["user_id"], row["rank"]): row for row in table.to_pylist()}
    assert len(answers) == 2 * len(USERS)
    assert answers["user 7", 1] == {
        "user_id": "user 7",
        "rank": 1,
        "item_id": "a",
        "score": 3.0,
        "title": "Alien",
    }
    assert answers["user 599", 2]["title"] == "Brazil"


def test_a_line_a_person_without_padding(run, tmp_path):
    users, model = batch.users_of_last_run(run), batch.latest_version(run / "serving/recommender")
    batch.write_recommendations(users, model, str(tmp_path), k=3, kind="jsonl")
    lines = [json.loads(line) for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert sorted(line["user_id"] for line in lines) == sorted(USERS)
    assert [item["item_id"] for item in lines[0]["items"]] == ["a", "b", "c"]


def test_whole_files_replace_those_of_an_earlier_call(run, tmp_path):
    out, model = tmp_path / "out", batch.latest_version(run / "serving/recommender")
    users = batch.users_of_last_run(run)
    out.mkdir()
    (out / "recommendations-00000-of-00003.parquet").write_bytes(b"of a call with more files")
    (out / "notes.txt").touch()
    assert batch.write_whole(users, model, str(out), 2, "parquet", tmp_path / "locks") == len(USERS)
    found = sorted(entry.name for entry in out.iterdir())
    assert found == ["notes.txt", *(name for name in found if name.startswith("recommendations-"))]
    assert "recommendations-00000-of-00003.parquet" not in found
    assert pq.read_table(out / found[1]).num_rows == 2 * len(USERS)
    (lock,) = (tmp_path / "locks").iterdir()
    with (
        files.lock(lock, "tfrec batch", where=out),
        pytest.raises(files.AtWork, match=f"may write in {out}"),
    ):
        batch.write_whole(users, model, str(out), 2, "parquet", tmp_path / "locks")


def test_folders_of_a_run_that_failed_are_passed_over(run):
    (run / "artifacts/TablesExampleGen/users/13").mkdir(exist_ok=True)
    (run / "artifacts/TablesExampleGen/users/²").mkdir(exist_ok=True)
    assert len(batch.users_of_last_run(run)) == 2


def test_mistakes_are_said(run, tmp_path):
    with pytest.raises(ConfigError, match="No version has been pushed"):
        batch.latest_version(run / "serving/nothing")
    with pytest.raises(ConfigError, match="There are no users"):
        batch.users_of_last_run(tmp_path)
    with pytest.raises(ConfigError, match="must be one of parquet, jsonl"):
        batch.write_recommendations([], "", str(tmp_path), kind="csv")
