"""Trainer's callbacks that fit a blessed model to all rows before it is pushed.

Where the model was refused, or where the refit went wrong, what comes out is the judged model as it is, so
that the steps behind have what they had: a refused model is asked over HTTP too.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tfx.utils import path_utils

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import (
    SETTINGS,
    checkpoints_of,
    distribution,
    save_ranking,
    save_retrieval,
    say,
    weights_of,
)
from pipeline.config.trainer_settings import RankingSettings, RetrievalSettings, read_settings
from pipeline.data.refits import COUNTS, REPORT
from tfrec_fusion import files
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.tower import TEXT
from tfrec_fusion.training import refitting
from tfrec_fusion.training.history import History
from tfrec_fusion.training.recipes import AnyModel, Trained, restore

REFUSED = "the judged model was refused"

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs


def refit_retrieval(fn_args: FnArgs) -> None:
    """Refits the two-tower model and exports it with its index."""
    settings, inputs = read_settings(RetrievalSettings, fn_args.custom_config)
    if not _blessed(inputs.retrieval_blessing):
        _as_judged(fn_args, inputs.candidate, inputs.retrieval_run, {"reason": REFUSED})
        return
    chosen = distribution(settings.model.training, fn_args)
    data = RunData(settings, inputs)
    model = build_two_tower(settings.model, data.space, data.catalogue, data.settings.text)
    refit = refitting.refit_retrieval(
        _trained(model, inputs.retrieval_run, data),
        data.training_data(with_users=True),
        settings.model,
        distribution=chosen,
        checkpoints=checkpoints_of(settings, inputs),
        progress=say,
    )
    if refit.report["used"]:
        _keep(fn_args, refit, inputs.retrieval_run)
        data.offer(refit.catalogue)
        save_retrieval(data, refit.model, settings.index, fn_args.serving_model_dir)
    else:
        _as_judged(fn_args, inputs.candidate, inputs.retrieval_run, refit.report)
    shutil.rmtree(checkpoints_of(settings, inputs), ignore_errors=True)


def refit_ranking(fn_args: FnArgs) -> None:
    """Refits the ranking model and exports it."""
    settings, inputs = read_settings(RankingSettings, fn_args.custom_config)
    if not _blessed(inputs.ranking_blessing):
        _as_judged(fn_args, inputs.candidate, inputs.ranking_run, {"reason": REFUSED})
        return
    chosen = distribution(settings.model.training, fn_args)
    data = RunData(settings, inputs)
    model = build_ranking(settings.model, data.space, data.catalogue, data.labels, text=data.settings.text)
    refit = refitting.refit_ranking(
        _trained(model, inputs.ranking_run, data),
        data.training_data(),
        settings.model,
        distribution=chosen,
        checkpoints=checkpoints_of(settings, inputs),
        progress=say,
    )
    if refit.report["used"]:
        _keep(fn_args, refit, inputs.ranking_run)
        data.offer(refit.catalogue)
        save_ranking(data, refit.model, fn_args.serving_model_dir)
    else:
        _as_judged(fn_args, inputs.candidate, inputs.ranking_run, refit.report)
    shutil.rmtree(checkpoints_of(settings, inputs), ignore_errors=True)


def _blessed(folder: str) -> bool:
    return tf.io.gfile.exists(os.path.join(folder, "BLESSED"))


def _trained(model: AnyModel, run: str, data: RunData) -> Trained[AnyModel]:
    """The judged model, from its weights."""
    restore(model, weights_of(run))
    catalogue = data.catalogue
    if model.item_text is not None:
        catalogue = dataclasses.replace(catalogue, text_vectors=model.item_tower.tables[TEXT].numpy())
    return Trained(model, History(), catalogue)


def _keep(fn_args: FnArgs, refit: refitting.Refit, judged: str) -> None:
    """Leaves in `model_run` what the recommender and a new index are built from."""
    run = fn_args.model_run_dir
    os.makedirs(run, exist_ok=True)
    tf.train.Checkpoint(model=refit.model).write(weights_of(run))
    shutil.copyfile(os.path.join(judged, SETTINGS), os.path.join(run, SETTINGS))
    np.save(os.path.join(run, COUNTS), refit.catalogue.counts)
    files.write_json(os.path.join(run, REPORT), refit.report)


def _as_judged(fn_args: FnArgs, candidate: str, judged: str, report: dict) -> None:
    """The judged model and its run, as they are."""
    for source, target in (
        (path_utils.serving_model_dir(candidate), fn_args.serving_model_dir),
        (judged, fn_args.model_run_dir),
    ):
        shutil.copytree(source, target, dirs_exist_ok=True, copy_function=files.share)
    files.write_json(os.path.join(fn_args.model_run_dir, REPORT), {**report, "used": False})
