"""The pipeline and the library in memory make the same of the same tables: features, models, answers."""

import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from pipeline.callbacks.training import SETTINGS, Run
from pipeline.config.pipeline_config import load_config
from pipeline.studies.ablation import prepared

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
    arguments = types.SimpleNamespace(
        custom_config=json.loads((folder / SETTINGS).read_text()),
        transform_output=first["artifacts"]["InteractionsTransform/transform_graph"],
        serving_model_dir="",
        model_run_dir="",
    )
    return Run(arguments)


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
    (expected,) = run.batches(split, 10_000, shuffle=False).as_numpy_iterator()
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
