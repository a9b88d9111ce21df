"""Trainer's callback that trains nothing: both blessed models in one SavedModel, which answers alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import weights_of
from pipeline.config.trainer_settings import RecommenderSettings, read_settings
from pipeline.data.refits import with_counts
from tfrec_fusion import files
from tfrec_fusion.config import IndexConfig
from tfrec_fusion.export import base as export
from tfrec_fusion.export.parts import ranking_by_validation, searchable_index
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower
from tfrec_fusion.training.recipes import restore

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs


def run_recommender(fn_args: FnArgs) -> None:
    """Builds both models again from their weights, validates how much the ranking should count, and exports.

    Where one of the two was not blessed nothing is exported, and the report says so: what is served stays.
    """
    settings, inputs = read_settings(RecommenderSettings, fn_args.custom_config)
    blessings = {"retrieval": inputs.retrieval_blessing, "ranking": inputs.ranking_blessing}
    refused = [part for part, folder in blessings.items() if not _blessed(folder)]
    if refused:
        # TFX takes a missing folder for a failure; an empty one is never servable, and so never pushed.
        tf.io.gfile.makedirs(fn_args.serving_model_dir)
        _report(fn_args, {"built": False, "reason": f"{' and '.join(refused)} not blessed"})
        return
    data = RunData(settings, inputs)
    retrieval = build_two_tower(settings.retrieval, data.space, data.catalogue)
    ranking = build_ranking(settings.ranking, data.space, data.catalogue, data.labels)
    restore(retrieval, weights_of(inputs.retrieval_run))
    restore(ranking, weights_of(inputs.ranking_run))
    head, weight = next(iter(data.labels)), 0.0
    found: dict[str, dict[float, np.ndarray]] = {}
    if settings.retrieval.training.privacy is None:
        head, weight, found = ranking_by_validation(retrieval, ranking, data.catalogue, data.batches)
    # Refitted models know validation by heart: they are served, and decide nothing.
    if inputs.ranking_refit:
        restore(ranking, weights_of(inputs.ranking_refit))
    if inputs.retrieval_refit:
        restore(retrieval, weights_of(inputs.retrieval_refit))
        data.offer(with_counts(data.catalogue, inputs.retrieval_refit))
    save_recommender(data, retrieval, ranking, head, weight, settings.index, fn_args.serving_model_dir)
    gains = {
        name: {
            str(key): round(float(values.mean()), 5) if len(values) else 0.0 for key, values in row.items()
        }
        for name, row in found.items()
    }
    _report(fn_args, {"built": True, "head": head, "rank_weight": weight, "validation_ndcg@10": gains})


def save_recommender(
    data: RunData,
    retrieval: TwoTower,
    ranking: Ranking,
    head: str,
    weight: float,
    index: IndexConfig,
    folder: str,
) -> None:
    """Exports both models as one, over the data's catalogue."""
    serving = RecommenderSignatures(
        retrieval,
        *data.serving_arguments(retrieval),
        index=searchable_index(retrieval, data.catalogue, index),
        max_k=index.max_k,
        ranking=ranking,
        head=head,
        rank_weight=weight,
    )
    export.save(serving, folder)


def _blessed(folder: str) -> bool:
    return tf.io.gfile.exists(os.path.join(folder, "BLESSED"))


def _report(fn_args: FnArgs, report: dict) -> None:
    files.write_json(os.path.join(fn_args.model_run_dir, "report.json"), report)
