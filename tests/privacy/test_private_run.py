"""Runs of the pipeline with private training: which steps they have, and which tables they refuse."""

import dataclasses

import pytest

from pipeline.definition.training import create_pipeline
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError, PrivacyConfig, TrainingConfig


def test_nothing_that_is_fitted_without_noise_is_pushed(tmp_path):
    plain = write_shop(tmp_path)
    training = TrainingConfig(privacy=PrivacyConfig(epsilon=4))
    with_it = {"retrieval": dataclasses.replace(plain.retrieval, training=training), "ranking": None}
    private = dataclasses.replace(plain, **with_it)
    evaluation = dataclasses.replace(plain.evaluation, push_baseline_when_none=True)
    steps = {
        name: {
            step.id for step in create_pipeline(dataclasses.replace(config, evaluation=evaluation)).components
        }
        for name, config in (("plain", plain), ("private", private))
    }
    assert "BaselineBuilder" in steps["plain"]
    assert steps["private"] == {
        step for step in steps["plain"] if "Baseline" not in step or step == "RetrievalBaseline"
    } - {step for step in steps["plain"] if step.startswith(("Ranking", "Recommender"))}
    both = dataclasses.replace(private.data, items=dataclasses.replace(private.data.items, distinct=True))
    with pytest.raises(ConfigError, match="needs a table of items of its own"):
        create_pipeline(dataclasses.replace(private, data=both))
    if plain.ranking is not None:
        with pytest.raises(ConfigError, match="every model or for none"):
            dataclasses.replace(private, ranking=plain.ranking)
