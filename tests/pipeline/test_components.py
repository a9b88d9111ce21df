"""Components that can be shown without a whole run: pushing, the vector cache, anomalies, the resolver,
verdicts."""

import concurrent.futures
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
import types
import warnings

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from pipeline.components.example_validator import describe
from pipeline.components.pusher import push
from pipeline.components.resolver import LatestOtherBlessedModelStrategy
from pipeline.components.serving_validator import check_recommendations, check_scores
from pipeline.data import schemas
from pipeline.data.pushed_versions import versions
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.config import ConfigError, TextConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables, Users
from tfrec_fusion.features.text_vectors import VectorCache, digest_rows, encode_items
from tfrec_fusion.serving.client.answers import Recommended


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"numbers")
    return folder


def test_a_push_is_whole_and_newer_than_what_is_there(model, tmp_path):
    base = tmp_path / "serving" / "retrieval"
    (base / "99999999999").mkdir(parents=True)
    version, folder = push(str(model), str(base))
    assert version == "100000000000"
    assert (base / version / "variables" / "data").read_bytes() == b"numbers"
    assert folder == str(base / version)


@pytest.mark.parametrize("moment", ["copying", "renaming"])
def test_a_push_that_breaks_off_leaves_nothing(model, tmp_path, monkeypatch, moment):
    base = tmp_path / "serving"

    def broken(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(("shutil.copytree", broken) if moment == "copying" else ("os.rename", broken)))
    with pytest.raises(OSError, match="No space left"):
        push(str(model), str(base))
    assert list(base.iterdir()) == []


def test_what_a_killed_push_left_is_cleared_and_was_never_a_version(model, tmp_path):
    base = tmp_path / "serving"
    (base / ".staging-7").mkdir(parents=True)
    version, _ = push(str(model), str(base))
    assert [entry.name for entry in base.iterdir()] == [version]


def test_folders_that_are_no_versions_are_let_alone(model, tmp_path):
    base = tmp_path / "serving"
    for name in ("²", "٣", "+7", "7", "notes", "9" * 30):
        (base / name).mkdir(parents=True)
    push(str(model), str(base))
    assert len(versions(base)) == 2
    assert (base / "²").is_dir()


def whole(version):
    return sorted(str(path.relative_to(version)) for path in version.rglob("*") if path.is_file())


def watch(base, stop, expected):
    """Every version that ever comes into view, looked at as a server would."""
    broken = []
    while not stop.is_set():
        for version in list(versions(base).values()):
            result = whole(version)
            if result != expected:
                broken.append((version.name, len(result)))
    return broken


def test_pushes_at_once_and_killed_ones_never_show_a_part(model, tmp_path):
    """Eight threads push beside processes that are killed at random moments; somebody looks all the while."""
    for number in range(60):
        (model / "variables" / f"part-{number}").write_bytes(bytes(2000))
    base, expected, stop = tmp_path / "serving", whole(model), threading.Event()
    base.mkdir()
    fork, rng = multiprocessing.get_context("fork"), np.random.default_rng(0)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        watcher = pool.submit(watch, base, stop, expected)
        pushes = [pool.submit(push, str(model), str(base)) for _ in range(24)]
        for _ in range(10):
            child = fork.Process(target=lambda: [push(str(model), str(base)) for _ in range(100)])
            child.start()
            time.sleep(float(rng.uniform(0.005, 0.08)))
            child.kill()
            child.join()
        done = [future.result(60) for future in pushes]
        stop.set()
        assert watcher.result(60) == []
    assert len({version for version, _ in done}) == 24
    assert all(whole(version) == expected for version in versions(base).values())
    push(str(model), str(base))
    assert [entry.name for entry in base.iterdir() if entry.name.startswith(".")] == []


def test_vectors_are_kept_by_content(tmp_path):
    ids = np.array([[2, 5, 3, 0], [2, 6, 7, 3], [2, 5, 3, 9]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    digests = digest_rows(ids, mask)
    assert digests[0] == digests[2]  # what stands in the padding does not matter
    assert digests[0] != digests[1]
    vectors = np.arange(6, dtype=np.float16).reshape(2, 3)
    VectorCache(str(tmp_path)).put(digests[:2], vectors)
    again = VectorCache(str(tmp_path))
    assert digests[1] in again
    np.testing.assert_array_equal(again.get(digests), vectors[[0, 1, 0]])


def test_a_shard_that_was_being_written_is_not_read(tmp_path):
    (tmp_path / ".half").write_bytes(b"not whole")
    assert b"x" * 16 not in VectorCache(str(tmp_path))


def damaged(data):
    """A file cut at many places, emptied, or with other bytes in it."""
    rng = np.random.default_rng(0)
    yield from (data[:length] for length in range(0, len(data), max(1, len(data) // 60)))
    yield bytes(len(data))
    for _ in range(60):
        position = int(rng.integers(len(data)))
        yield data[:position] + bytes([data[position] ^ int(rng.integers(1, 256))]) + data[position + 1 :]


def test_a_damaged_shard_is_named_and_made_again(tmp_path):
    digests = digest_rows(np.arange(1, 41).reshape(10, 4), np.ones((10, 4), int))
    vectors = np.arange(30, dtype=np.float16).reshape(10, 3)
    VectorCache(str(tmp_path)).put(digests, vectors)
    (file,) = tmp_path.glob("*.npz")
    data, told = file.read_bytes(), 0
    for content in damaged(data):
        file.write_bytes(content)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            cache = VectorCache(str(tmp_path))
        if digests[0] not in cache:
            told += 1
            assert any(str(file) in str(one.message) for one in warned)
            cache.put(digests, vectors)
        np.testing.assert_array_equal(VectorCache(str(tmp_path)).get(digests), vectors)
    assert told > 60


# Killed by the system in the middle of the third shard.
KILLED = """
import os, signal, sys
import tfrec_fusion
import numpy as np
from tfrec_fusion.features import text_vectors
from tfrec_fusion.config import TextConfig

text_vectors.SHARD = 8
written, savez = [], np.savez

def dying(stream, **arrays):
    if len(written) == 2:
        stream.write(b"PK half a shard")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(savez(stream, **arrays))

np.savez = dying
tokens = np.load(sys.argv[3])
config = TextConfig(sys.argv[1], max_length=8)
text_vectors.encode_items(tokens, (tokens > 0).astype(int), config, sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_encoding_goes_on_after_the_last_whole_shard(tmp_path):
    encoder = write_tiny_bert(tmp_path / "bert", [f"word{number}" for number in range(40)])
    tokens = np.array([[2, 4 + number, 4 + (number * 7) % 40, 3, 0, 0, 0, 0] for number in range(30)])
    np.save(tmp_path / "tokens.npy", tokens)
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, encoder, str(cache), str(tmp_path / "tokens.npy")]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(list(cache.glob("*/*.npz"))) == 2
    assert len(list(cache.glob("*/.*"))) == 1  # the half shard, under a name that nothing reads
    mask, text = (tokens > 0).astype(int), TextConfig(encoder, max_length=8)
    vectors, report = encode_items(tokens, mask, text, str(cache))
    assert (report["reused"], report["encoded"]) == (16, 14)
    expected, anew = encode_items(tokens, mask, text, str(tmp_path / "other"))
    assert anew["encoded"] == 30
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_workers_whose_vectors_are_not_seen_here_are_told_of(tmp_path):
    tokens = np.array([[101, 7, 102, 0], [101, 8, 102, 0], [0, 0, 0, 0]])
    with pytest.raises(ConfigError, match="all but 2 of 2. Put `root` on storage that is mounted"):
        encode_items(tokens, tokens > 0, TextConfig(), str(tmp_path), lambda parts, folder: None)


TABLES = Tables(
    Interactions("i.csv", label="rating"),
    Items("t.csv", text=("title",), lists=("genres",), numbers=("year",)),
    Users("u.csv", categories=("gender",)),
)


def anomalies(schema, csv):
    statistics = tfdv.generate_statistics_from_dataframe(csv)
    return describe(tfdv.validate_statistics(statistics, schema), "all")


def test_a_text_of_nulls_is_an_anomaly_with_feature_and_reason():
    frame = pd.DataFrame(
        {"item_id": ["a", "b"], "title": ["a", "b"], "train_count": [1, 0], "item_number__year": [1.0, 2.0]}
    )
    result = anomalies(schemas.items_schema(TABLES, min_text_share=0.01), frame)
    assert any("feature `text_title`" in line for line in result)
    assert any("feature `item_genres`" in line for line in result)
    assert not any("item_year" in line or "title`" in line.replace("text_title", "") for line in result)


def test_anomalies_of_a_whole_data_set_are_described():
    result = anomalies_pb2.Anomalies()
    result.dataset_anomaly_info.reason.add(description="too few examples")
    assert describe(result, "train") == ["train: too few examples"]


def artifact(number, **properties):
    return types.SimpleNamespace(
        id=number, uri=f"/models/{number}", get_int_custom_property=lambda name: properties.get(name)
    )


def test_the_baseline_is_the_latest_other_blessed_model():
    blessings = [
        artifact(10 + number, current_model_id=number, blessed=int(number != 2)) for number in (1, 2, 3)
    ]
    resolve = LatestOtherBlessedModelStrategy().resolve_artifacts
    models = [artifact(number) for number in (1, 2, 3)]
    inputs = {"candidate": [models[2]], "model": models, "model_blessing": blessings}
    assert [model.id for model in resolve(None, inputs)["model"]] == [
        1
    ]  # 3 is the candidate, 2 was not blessed
    assert resolve(None, inputs | {"model": models[2:]})["model"] == []


def test_an_answer_must_be_whole_ordered_and_finite():
    good = [Recommended("a", 2.0, "A"), Recommended("b", 1.0, "B")]
    check_recommendations(good, 2)
    for result, message in (
        (good[:1], "2 distinct items"),
        ([good[0], good[0]], "2 distinct items"),
        (good[::-1], "best first"),
        ([Recommended("a", float("nan"), "A"), good[1]], "best first"),
        ([Recommended("a", 2.0), good[1]], "must have a title"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_recommendations(result, 2)


def test_scores_must_be_finite_and_complete():
    check_scores({"rating": [1.0, 2.0], "titles": ["a", "b"]}, 2)
    with pytest.raises(ConfigError, match="Scores must be numbers"):
        check_scores({"rating": [1.0, float("inf")]}, 2)
    with pytest.raises(ConfigError, match="one value a candidate"):
        check_scores({"rating": [1.0]}, 2)
