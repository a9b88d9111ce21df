"""Configuration: defaults, strict reading, errors that name the way out."""

import dataclasses

import pytest

from pipeline.config.pipeline_config import DataConfig, PipelineConfig, code_digest, load_config
from tfrec_fusion.config import ConfigError, RankingConfig, RetrievalConfig, TowerConfig, from_dict


def test_what_is_left_out_keeps_its_default():
    config = from_dict(RetrievalConfig, {"tower": {"dim": 32}})
    assert config.tower.dim == 32
    assert config.tower.fusion == TowerConfig().fusion
    assert config.training == RetrievalConfig().training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"towr": {}}, "Unknown key `towr`. Did you mean `tower`?"),
        ({"tower": {"dims": 3}}, "Unknown key `tower.dims`. Did you mean `dim`?"),
        (
            {"tower": {"fusion": "gate"}},
            "`tower.fusion` must be one of .*Received: 'gate'. Did you mean 'gated'?",
        ),
        ({"tower": {"dim": "64"}}, r"`tower.dim` must be of type int. Received: '64' \(str\)"),
        ({"tower": {"dim": True}}, "`tower.dim` must be of type int"),
        ({"tower": 3}, "`tower` must be a mapping"),
        ({"tower": {"hidden": 3}}, "`tower.hidden` must be a list"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(RetrievalConfig, values)


def test_numbers_as_yaml_writes_them():
    assert from_dict(RetrievalConfig, {"temperature": 1}).temperature == 1.0
    assert from_dict(RetrievalConfig, {"training": {"learning_rate": "1e-3"}}).training.learning_rate == 1e-3


def test_the_shipped_configuration_reads():
    config = load_config("movielens_100k")
    assert config.data.reader == "movielens_100k"
    assert config.text is not None


def test_text_none_turns_text_off():
    assert load_config("movielens_100k", ["text=none"]).text is None


def test_overrides_reach_nested_keys():
    config = load_config("movielens_100k", ["retrieval.training.epochs=3", "root=/tmp/x"])
    assert config.retrieval.training.epochs == 3
    assert str(config.home) == "/tmp/x/movielens_100k"


def test_an_override_without_a_value():
    with pytest.raises(ConfigError, match="must read KEY=VALUE"):
        load_config("movielens_100k", ["root"])


def test_a_missing_file_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="There is no configuration file 'nothing'.*movielens_100k"):
        load_config("nothing")


def test_yaml_that_is_none(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(path))


def test_relative_paths_start_at_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("name: shop\ndata: {interactions: {path: i.csv}, items: {path: /abs/t.csv}}\n")
    config = load_config(str(path))
    assert config.data.interactions.path == str(tmp_path / "i.csv")
    assert config.data.items.path == "/abs/t.csv"


def test_tables_must_be_described():
    with pytest.raises(ConfigError, match="`data.interactions` and `data.items` must be described"):
        DataConfig()


def test_a_name_that_cannot_name_folders():
    with pytest.raises(ConfigError, match="`name` must be letters"):
        PipelineConfig(name="a/b", data=DataConfig(reader="movielens_100k"))


def test_split_shares_must_leave_training():
    with pytest.raises(ConfigError, match="together below 1"):
        load_config("movielens_100k", ["split.validation=0.6", "split.test=0.5"])


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TowerConfig().dim = 3


def test_the_code_digest_names_a_pattern_that_matches_nothing():
    assert code_digest("pipeline/config/pipeline_config.py") != code_digest("pipeline/cli/main.py")
    with pytest.raises(AssertionError, match="no_such"):
        code_digest("pipeline/no_such.py")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "text.stage=lora",
            "`text.stage` must be 'frozen' with `strategy: parameter_server`. Received: 'lora'",
        ),
        (
            "retrieval.training.precision=mixed_float16",
            "`training.precision` must be 'float32' or 'mixed_bfl",
        ),
        ("retrieval.training.jit_compile=true", "`training.jit_compile` must be False with"),
    ],
)
def test_parameter_servers_refuse_what_they_cannot_hold(change, words):
    strategy = "retrieval.training.strategy=parameter_server"
    assert load_config("movielens_100k", [strategy]).retrieval.training.strategy == "parameter_server"
    with pytest.raises(ConfigError, match=words):
        load_config("movielens_100k", [strategy, change])


def test_a_trained_text_stage_refuses_what_needs_fixed_shapes():
    assert load_config("movielens_100k", ["text.stage=lora"]).text.trained
    with pytest.raises(ConfigError, match="`text.stage` must be 'frozen' with `strategy: tpu`"):
        load_config("movielens_100k", ["text.stage=lora", "ranking.training.strategy=tpu"])


def test_one_setting_of_a_block_leaves_the_others_at_the_blocks_defaults():
    """A model's defaults for training are not those of `TrainingConfig` alone."""
    read = from_dict(RetrievalConfig, {"training": {"epochs": 3}})
    assert read.training == dataclasses.replace(RetrievalConfig().training, epochs=3)
    assert from_dict(RankingConfig, {"tower": {"dim": 5}}).tower == dataclasses.replace(
        RankingConfig().tower, dim=5
    )
