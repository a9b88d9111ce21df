"""What is pushed: a blessed model fitted to all rows, and a refused one as it was judged."""

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipeline.callbacks import refitting
from pipeline.callbacks.training import SETTINGS, weights_of
from pipeline.config.pipeline_config import SplitConfig
from pipeline.data.refits import COUNTS, REPORT
from pipeline.definition.training import create_pipeline
from pipeline.runner.summary import describe_refit
from tests.pipeline import steps
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import RankingConfig, RetrievalConfig, TowerConfig, TrainingConfig
from tfrec_fusion.datasets.tables import Interactions, Items, Tables

TOWER = TowerConfig(dim=4, history_encoder="mean", dropout=0.0)
TRAINING = TrainingConfig(epochs=1, batch_size=16)
MODELS = {
    "retrieval": RetrievalConfig(tower=TOWER, training=TRAINING),
    "ranking": RankingConfig(tower=TOWER, training=TRAINING, hidden=(4,), rating_dim=2),
}


def test_what_is_pushed_and_asked_is_the_refit_and_what_is_judged_is_not(tmp_path):
    off = write_shop(tmp_path)
    training = dataclasses.replace(off.retrieval.training, refit=True)
    config = dataclasses.replace(off, retrieval=dataclasses.replace(off.retrieval, training=training))
    steps_of = {step.id: step for step in create_pipeline(config).components}

    def source(step, name):
        return steps_of[step].inputs[name].producer_component_id

    assert source("RetrievalEvaluator", "model") == "RetrievalTrainer"
    assert source("RetrievalPusher", "model") == "RetrievalRefit"
    assert source("RetrievalServingValidator", "model") == "RetrievalRefit"
    assert source("RetrievalRefit", "candidate") == "RetrievalTrainer"
    steps_of = {step.id: step for step in create_pipeline(off).components}
    assert "RetrievalRefit" not in steps_of
    assert source("RetrievalPusher", "model") == "RetrievalTrainer"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Thirty users who walk ten items, with a context, a weight and a grade a row."""
    folder = tmp_path_factory.mktemp("refit")
    rows = [
        (f"u{user}", f"i{(user + step) % 10}", step, "ab"[user % 2], 1.0 + step, 1.0 + step % 5)
        for user in range(30)
        for step in range(6)
    ]
    columns = ["user", "item", "time", "shop", "weight", "rating"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "orders.csv", index=False)
    pd.DataFrame({"item": [f"i{item}" for item in range(10)]}).to_csv(folder / "items.csv", index=False)
    tables = Tables(
        Interactions(
            str(folder / "orders.csv"), "user", "item", "time", "rating", ("shop",), weight="weight"
        ),
        Items(str(folder / "items.csv"), "item"),
    )
    steps.prepared(folder, tables, SplitConfig(method="leave_last_out", history_length=6, long_history=6))
    return folder, tables


def refitted(shop, kind, blessed, tmp_path):
    """Trains, and calls the step as TFX does."""
    folder, tables = shop
    if not (folder / kind).exists():
        steps.trained(folder, tables, MODELS[kind])
    given = steps.arguments(folder, tables, MODELS[kind])
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "Format-Serving").symlink_to(folder / kind / "model")
    blessing = tmp_path / "blessing"
    blessing.mkdir()
    if blessed:
        (blessing / "BLESSED").touch()
    given.custom_config["inputs"] |= {
        "candidate": str(tmp_path / "candidate"),
        f"{kind}_run": given.model_run_dir,
        f"{kind}_blessing": str(blessing),
    }
    judged, given.model_run_dir = pathlib.Path(given.model_run_dir), str(tmp_path / "run")
    given.serving_model_dir = str(tmp_path / "model")
    getattr(refitting, f"refit_{kind}")(given)
    return judged, pathlib.Path(given.model_run_dir), pathlib.Path(given.serving_model_dir)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_blessed_model_is_fitted_to_all_rows_and_leaves_what_others_build_from(shop, kind, tmp_path):
    judged, run, model = refitted(shop, kind, True, tmp_path)
    report = json.loads((run / REPORT).read_text())
    assert report["used"] and report["rows"] == 30 * 6
    assert describe_refit(report).startswith("180 rows, val_")
    assert np.load(run / COUNTS).tolist() == [0, *[18] * 10]
    assert (run / SETTINGS).read_bytes() == (judged / SETTINGS).read_bytes()
    names = [
        {name for name, _ in tf.train.list_variables(weights_of(str(folder)))} for folder in (judged, run)
    ]
    assert names[0] == names[1]
    assert tf.saved_model.load(str(model)).signatures


@pytest.mark.slow
def test_a_refused_model_comes_out_as_it_was_judged(shop, tmp_path):
    judged, run, model = refitted(shop, "retrieval", False, tmp_path)
    report = json.loads((run / REPORT).read_text())
    assert report == {"used": False, "reason": refitting.REFUSED}
    assert not (run / COUNTS).exists()
    before = shop[0] / "retrieval" / "model"
    for path in before.rglob("*"):
        if path.is_file():
            assert (model / path.relative_to(before)).read_bytes() == path.read_bytes()
    assert (run / SETTINGS).exists()
    assert not (judged / REPORT).exists()
