"""Tuning: what it tries, who judges, what it recommends, and that finished trials are not trained again."""

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.studies import tuning
from pipeline.studies.tuning import SPACE, advice, gain, halves, tune, with_settings
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError, RetrievalConfig
from tfrec_fusion.features.preparing import Prepared
from tfrec_fusion.metrics.ranks import tie_order
from tfrec_fusion.models.hybrid.repeats import Repeats


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_shop(tmp_path_factory.mktemp("shop"))


def test_every_setting_exists_and_the_defaults_are_among_what_is_tried(config):
    default = dataclasses.replace(config, retrieval=RetrievalConfig())
    for key, values in SPACE.items():
        assert tuning._value(default, key) in values, key
        for value in values:
            assert tuning._value(with_settings(default, {key: value}), key) == value


def test_trials_keep_what_was_best_and_leave_out_what_is_as_configured(config):
    best = {"retrieval.tower.dim": 128}
    rng = np.random.default_rng(0)
    drawn = [tuning._drawn(config, best, rng, has_text=False) for _ in range(200)]
    assert all(not key.endswith("fusion") for settings in drawn for key in settings)
    assert all(tuning._value(config, key) != value for settings in drawn for key, value in settings.items())
    assert sum(settings.get("retrieval.tower.dim") == 128 for settings in drawn) > 100
    assert max(len(settings) for settings in drawn) == 1 + tuning.CHANGED


def prepared(histories) -> Prepared:
    rows = {"history": np.array(histories, np.int32), "item_index": np.arange(len(histories), dtype=np.int32)}
    return Prepared(None, None, {}, rows, {}, np.zeros(0, np.int64), [])


def test_nobody_both_decides_and_judges():
    histories = [[0, person // 3 + 1] for person in range(300)] + [[0, 0]] * 10
    data, judges = halves(prepared(histories))
    own, others = set(data.validation["history"][:, 1]), set(judges["history"][:, 1])
    assert own & others == {0}
    assert abs(len(own) - len(others)) <= 1
    assert (judges["history"][:, 1] == 0).sum() == 5
    assert len(data.validation["item_index"]) + len(judges["item_index"]) == 310


def test_too_few_people_are_refused():
    with pytest.raises(ConfigError, match=r"needs 40 users in validation.*Received: 39.*split\.validation"):
        halves(prepared([[0, person + 1] for person in range(39)]))
    with pytest.raises(ConfigError, match="Received: 0"):
        halves(prepared(np.zeros((0, 2))))


def test_gain_is_the_mean_ndcg_of_what_was_chosen():
    # Scores of items 0 to 4 are 9, 4, 3, 2, 2; item 0 stands for none, and what was met is not asked for.
    items = tf.constant([[9.0], [4.0], [3.0], [2.0], [2.0]])
    model = types.SimpleNamespace(
        candidate_embeddings=lambda: items,
        query_embeddings=lambda batch, items: tf.ones([len(batch["item_index"]), 1]),
        repeats=None,
    )
    rows = {
        "history": np.array([[0, 1], [0, 0], [1, 2]], np.int32),
        "item_index": np.array([2, 2, 3], np.int32),
    }
    # First, second, and of the two that are equal the one that the shuffle puts first.
    ties = tie_order(5)
    third = 1 if ties[3] < ties[4] else 2
    expected = np.mean([1, 1 / np.log2(3), 1 / np.log2(1 + third)])
    assert gain(model, rows, 10) == pytest.approx(expected, rel=1e-6)
    assert gain(model, rows, 1) == pytest.approx((1 + (third == 1)) / 3)
    # What repeats the history cannot be recommended, and does not count.
    repeated = {"history": np.array([[0, 1], [0, 2]], np.int32), "item_index": np.array([2, 2], np.int32)}
    assert gain(model, repeated, 10) == 1
    # Unless it may: item 2 stands behind item 1, which is not left out, and where it is met gains a bonus.
    model.repeats = Repeats([1.5, 0, 0, 0])
    assert gain(model, repeated, 10) == pytest.approx(np.mean([1 / np.log2(3), 1]))


def test_advice_is_yaml_and_a_command():
    found = {
        "k": 10,
        "trials": [{}, {}, {}],
        "settings": {"retrieval.tower.dim": 128, "retrieval.training.learning_rate": 0.001},
        "configured": [0.1, 0.2],
        "tuned": [0.2, 0.3],
    }
    text = advice(found, "shop.yaml")
    assert "3 trials; as configured ndcg@10 0.1500" in text and "with these settings 0.2500" in text
    assert "retrieval:\n  tower:\n    dim: 128\n  training:\n    learning_rate: 0.001\n" in text
    assert (
        "tfrec run shop.yaml --set retrieval.tower.dim=128 --set retrieval.training.learning_rate=0.001"
        in text
    )
    assert "keep the configuration as it is" in advice(found | {"settings": {}}, "shop.yaml")


@pytest.mark.slow
def test_trials_are_trained_once_and_the_best_is_compared_again(config, monkeypatch):
    monkeypatch.setattr(tuning, "FEWEST", 5)
    monkeypatch.setattr(
        tuning, "SPACE", {"retrieval.tower.dim": (8, 16), "retrieval.temperature": (0.06, 0.2)}
    )
    said = []
    found = tune(config, minutes=5, epochs=1, say=lambda line, passing: passing or said.append(line))
    # All that there is, and the best of it with another seed.
    assert [trial["settings"] for trial in found["trials"][:1]] == [{}]
    assert len(found["trials"]) == len({json.dumps(trial["settings"]) for trial in found["trials"]}) <= 4
    best = max(found["trials"], key=lambda trial: trial["ndcg"])
    assert found["tuned"][0] == best["ndcg"] and found["configured"][0] == found["trials"][0]["ndcg"]
    assert len(said) == len(found["trials"]) + 2 * bool(best["settings"])
    if found["settings"]:
        assert found["tuned"][1] > found["configured"][1]

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(tuning, "train", never)
    assert tune(config, minutes=5, epochs=1) == found
    assert json.loads((config.home / "tuning" / "results.json").read_text()) == found


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--minutes", "1", "--epochs", "0"]])
def test_the_command_says_what_is_wrong(arguments, capsys):
    assert cli.main(["tune", "movielens_100k", *arguments]) == 1
    assert "Received: 0" in capsys.readouterr().err


def test_a_configuration_is_left_as_it_was(config):
    assert isinstance(with_settings(config, {"retrieval.tower.dim": 32}), PipelineConfig)
    assert with_settings(config, {}) == config
