"""Trainer's callback that trains nothing: both blessed models in one SavedModel, which answers alone."""

from __future__ import annotations

import json
import os

import tensorflow as tf

from pipeline.callbacks.training import Run, restore, searchable_index
from tfrec_fusion.config import IndexConfig, RankingConfig, RetrievalConfig, from_dict
from tfrec_fusion.export import base as export
from tfrec_fusion.export.recommender import RecommenderServing, choose_weight, validate_weights
from tfrec_fusion.models.build import build_ranking, build_two_tower
from tfrec_fusion.models.ranking import Ranking
from tfrec_fusion.models.two_tower import TwoTower

PARTS = ("retrieval", "ranking")
VALIDATION_BATCHES, BATCH_SIZE = 6, 256


def run_recommender(fn_args) -> None:
    """Builds both models again from their weights, validates how much the ranking should count, and exports.

    Where one of the two was not blessed nothing is exported, and the report says so: what is served stays.
    """
    run = Run(fn_args)
    inputs = run.settings["inputs"]
    refused = [part for part in PARTS if not _blessed(inputs[f"{part}_blessing"])]
    if refused:
        # TFX takes a missing folder for a failure; an empty one is never servable, and so never pushed.
        tf.io.gfile.makedirs(run.model_folder)
        _report(run, {"built": False, "reason": f"{' and '.join(refused)} not blessed"})
        return
    settings = {part: run.settings["models"][part] for part in PARTS}
    retrieval = build_two_tower(from_dict(RetrievalConfig, settings["retrieval"]), run.space, run.catalogue)
    ranking = build_ranking(
        from_dict(RankingConfig, settings["ranking"]), run.space, run.catalogue, run.labels
    )
    for part, model in (("retrieval", retrieval), ("ranking", ranking)):
        restore(model, inputs[f"{part}_run"])
    # Some batches of all, wherever they stand: Examples come in the order of time or of people.
    batches = run.batches("validation", BATCH_SIZE, shuffle=False).shuffle(1024, seed=0)
    found = validate_weights(retrieval, ranking, run.catalogue, batches.take(VALIDATION_BATCHES))
    head, weight = choose_weight(found)
    save_recommender(run, retrieval, ranking, head, weight)
    gains = {
        name: {
            str(key): round(float(values.mean()), 5) if len(values) else 0.0 for key, values in row.items()
        }
        for name, row in found.items()
    }
    _report(run, {"built": True, "head": head, "rank_weight": weight, "validation_ndcg@10": gains})


def save_recommender(run: Run, retrieval: TwoTower, ranking: Ranking, head: str, weight: float) -> None:
    """Exports both models as one, over the run's catalogue."""
    index = from_dict(IndexConfig, run.settings["index"])
    serving = RecommenderServing(
        retrieval,
        *run.serving_arguments(retrieval),
        index=searchable_index(retrieval, run.catalogue, index),
        max_k=index.max_k,
        ranking=ranking,
        head=head,
        rank_weight=weight,
    )
    export.save(serving, run.model_folder)


def _blessed(folder: str) -> bool:
    return tf.io.gfile.exists(os.path.join(folder, "BLESSED"))


def _report(run: Run, report: dict) -> None:
    tf.io.gfile.makedirs(run.log_folder)
    with tf.io.gfile.GFile(os.path.join(run.log_folder, "report.json"), "w") as stream:
        stream.write(json.dumps(report, indent=2))
