"""The pipeline and the library in memory make the same of the same tables: features, models, answers."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import SETTINGS
from pipeline.config.pipeline_config import load_config, tables_of
from pipeline.config.trainer_settings import RetrievalSettings, read_settings
from pipeline.studies.ablation import prepared
from tfrec_fusion import Recommender
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.in_process import InProcessTransport

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.shared_run("films")]


@pytest.fixture(scope="module")
def config(config_file):
    return load_config(str(config_file))


@pytest.fixture(scope="module")
def memory(config):
    """The films in memory."""
    return prepared(config)


@pytest.fixture(scope="module")
def run(first):
    """What the pipeline's trainers start from."""
    folder = pathlib.Path(first["artifacts"]["RetrievalTrainer/model_run"])
    return RunData(*read_settings(RetrievalSettings, json.loads((folder / SETTINGS).read_text())))


def assert_same_columns(result, expected):
    assert set(result) == set(expected)
    for name, values in expected.items():
        assert result[name].dtype == values.dtype, name
        np.testing.assert_allclose(result[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_items_and_features_are_those_of_transform(run, memory):
    assert memory.space == run.space
    assert memory.labels == run.labels
    results, expected = memory.catalogue, run.catalogue
    np.testing.assert_array_equal(results.ids, expected.ids)
    np.testing.assert_array_equal(results.titles, expected.titles)
    np.testing.assert_array_equal(results.counts, expected.counts)
    assert_same_columns(results.features, expected.features)
    assert_same_columns(results.text_tokens, expected.text_tokens)
    np.testing.assert_array_equal(results.text_vectors, expected.text_vectors)
    for name, values in expected.names.items():
        np.testing.assert_array_equal(results.names[name], values)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_interactions_are_those_of_the_trainers(run, memory, split):
    (expected,) = run.batches(split, 10_000, shuffle=None).as_numpy_iterator()
    result = getattr(memory, split)

    def ordered(columns):
        keys = [*columns["history"].T, columns["rating"], columns["item_index"], columns["user_index"]]
        order = np.lexsort(keys)
        return {name: values[order] for name, values in columns.items()}

    assert_same_columns(ordered(result), ordered(expected))


def test_profiles_are_those_that_are_served(run, memory):
    results, expected = memory.known.profiles, run.profiles(run.transform.transform_features_layer())
    rows = [list(results.ids).index(user) for user in expected.ids]
    assert sorted(rows) == list(range(len(results.ids)))
    assert_same_columns({name: values[rows] for name, values in results.features.items()}, expected.features)
    assert results.history_length == expected.history_length
    for kind in ("history", "seen"):
        for position, row in enumerate(rows):
            items = [
                getattr(some, f"{kind}_items")[slice(*getattr(some, f"{kind}_splits")[index : index + 2])]
                for some, index in ((results, row), (expected, position))
            ]
            np.testing.assert_array_equal(*items)


def test_an_example_is_parsed_as_the_pipeline_parses_it(run, memory):
    from tfrec_fusion.features.graph import request_spec

    spec, raw = request_spec(memory.known.tables), run.transform.raw_feature_spec()
    assert spec.pop("seen") == tf.io.VarLenFeature(tf.string)  # known of held-out interactions alone
    assert spec == {name: raw[name] for name in spec}
    over = {"click", "label", "time", "item_train_count", "item_activity", "user_activity"}
    assert set(raw) - set(spec) == {*over, "seen"}


COLUMNS = {
    "interactions": ("user", "item", "time", "label"),
    "items": ("id", "title", "text", "categories", "numbers"),
    "users": ("id", "categories"),
}


@pytest.fixture(scope="module")
def model(config):
    """The films, fitted by the front door with the run's settings."""
    tables = tables_of(config)
    data = {
        name: {key: getattr(getattr(tables, name), key) for key in keys} for name, keys in COLUMNS.items()
    }
    parts = ("split", "transform", "text", "retrieval", "ranking", "index")
    settings = {name: dataclasses.asdict(getattr(config, name)) for name in parts}
    made = Recommender(data=data, verbose=0, vectors=config.home / "text_vectors", **settings)
    return made.fit(tables.interactions.path, tables.items.path, tables.users.path)


def test_training_in_memory_gives_the_runs_figures(first, model):
    """Same data, split and seed: the same batches, and so the same models."""
    found = model.evaluate(k=(5, 10))
    retrieval, ranking = (first[kind]["metrics"]["overall"] for kind in ("retrieval", "ranking"))
    for name in ("ndcg@5", "ndcg@10", "recall@5", "recall@10", "map@10", "hit_rate@10", "mrr"):
        assert found[name] == pytest.approx(retrieval[name], abs=1e-3), name
    for name in ("rmse", "mae", "auc"):
        assert found[name] == pytest.approx(ranking[name], abs=1e-3), name
    assert found["users"] == retrieval["users"]
    assert found["held_out_items"] == retrieval["held_out_items"]


def test_what_it_exports_answers_as_what_the_run_pushed(first, model, tmp_path):
    folder = tmp_path / "1"
    model.export(folder)
    clients = [Client(InProcessTransport(path)) for path in (first["recommender"]["pushed"], folder)]
    signatures = [set(client.metadata()["metadata"]["signature_def"]["signature_def"]) for client in clients]
    assert signatures[0] == signatures[1]
    for request in (
        {"user_id": "u1"},
        {"text": "a film about astronauts"},
        {"user_id": "u2", "categories": ["War"], "diversity": 0.3},
        {"history": ["f1", "f2"], "rank_weight": 0.5},
    ):
        pushed, exported = (client.recommend(k=5, **request) for client in clients)
        assert [item.item_id for item in exported] == [item.item_id for item in pushed], request
        assert [item.title for item in exported] == [item.title for item in pushed]
        scores = [[item.score for item in answer] for answer in (exported, pushed)]
        np.testing.assert_allclose(*scores, atol=5e-3)
    pushed, exported = (client.rank("u1", ["f0", "f20"], texts=["", "A bride"]) for client in clients)
    for label in ("rating", "click"):
        np.testing.assert_allclose(exported[label], pushed[label], atol=5e-3)
