"""Trainer's callbacks: transformed data into a trained and exported model. The library does the work."""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from pipeline.callbacks.fusion_weights import weights_by_count
from pipeline.callbacks.run_data import RunData
from pipeline.config.trainer_settings import (
    Inputs,
    RankingSettings,
    RetrievalSettings,
    read_settings,
    to_config,
)
from pipeline.data.item_groups import FUSION_WEIGHTS
from pipeline.data.private_runs import PRIVACY
from pipeline.data.run_summary import START
from tfrec_fusion import files
from tfrec_fusion.config import IndexConfig, TrainingConfig
from tfrec_fusion.export import base as export
from tfrec_fusion.export.parts import searchable_index
from tfrec_fusion.export.ranking import RankingSignatures
from tfrec_fusion.export.retrieval import RetrievalSignatures
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.training import progress
from tfrec_fusion.training.fitting import strategy
from tfrec_fusion.training.recipes import (
    AnyModel,
    Trained,
    ranking_baseline,
    train_ranking,
    train_retrieval,
)

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

SETTINGS, WEIGHTS, HISTORY = "settings.json", "weights", "history.json"
TENSORBOARD = "tensorboard"


def run_retrieval(fn_args: FnArgs) -> None:
    """Trains the two-tower model and exports it with its index."""
    settings, inputs = read_settings(RetrievalSettings, fn_args.custom_config)
    data, trained = _train(fn_args, settings, inputs, train_retrieval)
    save_retrieval(data, trained.model, settings.index, fn_args.serving_model_dir)


def run_ranking(fn_args: FnArgs) -> None:
    """Trains the ranking model and exports it beside a baseline: user and item biases, or how often
    items are chosen."""
    settings, inputs = read_settings(RankingSettings, fn_args.custom_config)
    data, trained = _train(fn_args, settings, inputs, train_ranking)
    save_ranking(data, trained.model, fn_args.serving_model_dir, settings.model.training)


def distribution(training: TrainingConfig, fn_args: FnArgs) -> tf.distribute.Strategy:
    """The strategy, for which TensorFlow must not have been used. Of several workers one writes what counts:
    saving needs the others too, and gets a folder of their own from them."""
    chosen = strategy(training)
    if not chosen.extended.should_checkpoint:
        scratch = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        fn_args.serving_model_dir = os.path.join(scratch, "model")
        fn_args.model_run_dir = os.path.join(scratch, "model_run")
    return chosen


def save_retrieval(data: RunData, model: Any, index: IndexConfig, folder: str) -> None:
    """Exports a retrieval model with an index over the data's catalogue.

    Args:
        data: what it was trained on, offering the catalogue to be served.
        model: a `TwoTower`, or what answers in its place.
        index: how the catalogue is searched.
        folder: of the SavedModel.
    """
    searched = searchable_index(model, data.catalogue, index)
    serving = RetrievalSignatures(model, *data.serving_arguments(model), index=searched, max_k=index.max_k)
    export.save(serving, folder)


def save_ranking(data: RunData, model: Ranking, folder: str, training: TrainingConfig | None = None) -> None:
    """Exports a ranking model beside its baseline.

    Args:
        data: what it was trained on.
        model: trained.
        folder: of the SavedModel.
        training: how it was trained, where that may have been private.
    """
    baseline = ranking_baseline(data.training_data(), training)
    export.save(RankingSignatures(model, *data.serving_arguments(model), **baseline), folder)


def checkpoints_of(settings: RetrievalSettings | RankingSettings, inputs: Inputs) -> str:
    """The folder of what lets a killed training go on: one for equal settings and inputs."""
    plain = json.dumps(to_config(settings, inputs), sort_keys=True)
    return os.path.join(settings.checkpoints, hashlib.sha256(plain.encode()).hexdigest()[:16])


def weights_of(model_run: str) -> str:
    """The weights in a trainer's `model_run`."""
    return os.path.join(model_run, WEIGHTS)


def _train(
    fn_args: FnArgs,
    settings: RetrievalSettings | RankingSettings,
    inputs: Inputs,
    train: Callable[..., Trained[AnyModel]],
) -> tuple[RunData, Trained[AnyModel]]:
    """Trains one of the models; a run that was killed goes on at the step it was at."""
    chosen = distribution(settings.model.training, fn_args)
    data, plain = RunData(settings, inputs), to_config(settings, inputs)
    checkpoints = checkpoints_of(settings, inputs)
    trained = train(
        data.training_data(),
        settings.model,
        distribution=chosen,
        checkpoints=checkpoints,
        weights=weights_of(fn_args.model_run_dir),
        tensorboard=os.path.join(fn_args.model_run_dir, TENSORBOARD),
        progress=say,
    )
    # The recommender is built from these and the weights, and so is an index of a catalogue that changed.
    weights = weights_by_count(trained.model.item_tower, trained.catalogue.counts)
    outcome: dict[str, Any] = {HISTORY: trained.history.history, SETTINGS: plain, FUSION_WEIGHTS: weights}
    if trained.privacy is not None:
        outcome[PRIVACY] = trained.privacy.to_json()
        progress.report(f"spent {trained.privacy.sentence()}")
    if trained.start is not None:
        folder = plain["model"]["warm_start"]
        outcome[START] = {"folder": folder, **dataclasses.asdict(trained.start)}
    for name, content in outcome.items():
        files.write_json(os.path.join(fn_args.model_run_dir, name), content, default=float)
    if chosen.extended.should_checkpoint:
        shutil.rmtree(checkpoints, ignore_errors=True)
    data.offer(trained.catalogue)
    return data, trained


def say(logs: dict) -> None:
    """Tells whoever watches how training goes."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "epoch")
    progress.report(f"epoch {logs['epoch']}: {shown}")
