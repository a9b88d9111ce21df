"""Trainer's callback that makes a baseline servable, for a run whose model was refused while none was ever
pushed.

So a first run ends in something that answers. What answers is the baseline that the evaluation found best,
fitted on the same interactions in the same way, under the retrieval model's signatures.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.callbacks.training import Run, searchable_index
from pipeline.data.pushed_versions import MARK, serves_a_trained_model
from pipeline.evaluation.baseline_ranks import Baselines, TrainingPairs, training_pairs
from pipeline.evaluation.fallback import is_usable, ranked_baselines
from tfrec_fusion import files
from tfrec_fusion.config import IndexConfig, from_dict
from tfrec_fusion.export import base as export
from tfrec_fusion.export.retrieval import RetrievalServing
from tfrec_fusion.models.served_baseline import ServedBaseline


def run_baseline(fn_args) -> None:
    """Exports the best baseline, unless the model was blessed or a blessed one is being served.

    `report.json` says which, and what it and the model reached.
    """
    settings = fn_args.custom_config
    reason = _not_needed(settings)
    if reason:
        # TFX takes a missing folder for a failure; an empty one is never servable, and so never pushed.
        tf.io.gfile.makedirs(fn_args.serving_model_dir)
        files.write_json(
            os.path.join(fn_args.model_run_dir, "report.json"), {"built": False, "reason": reason}
        )
        return
    # Imported here: TFMA is slow to import, and a blessed model needs none of this.
    from pipeline.evaluation.verdict import read_metrics

    metrics = read_metrics(settings["inputs"]["retrieval_evaluation"]).get("overall", {})
    run, k = Run(fn_args), settings["k"]
    name, model = _fitted(run, ranked_baselines(metrics, settings["baselines"], k))
    _save(run, model)
    report = {"built": True, "baseline": name, "k": k}
    report |= {
        key: metrics[figure]
        for key, figure in (("ndcg", f"{name}_ndcg@{k}"), ("model_ndcg", f"ndcg@{k}"))
        if figure in metrics
    }
    files.write_json(os.path.join(run.model_folder, MARK), report)
    files.write_json(os.path.join(run.log_folder, "report.json"), report)


def _not_needed(settings: dict[str, Any]) -> str | None:
    inputs = settings["inputs"]
    blessed = os.path.join(inputs["retrieval_blessing"], "BLESSED")
    answers = os.path.join(inputs["retrieval_serving"], "INFRA_BLESSED")
    if tf.io.gfile.exists(blessed) and tf.io.gfile.exists(answers):
        return "the retrieval model was blessed"
    if serves_a_trained_model(pathlib.Path(settings["serving"])):
        return "an earlier model, which was blessed, is served"
    return None


def _fitted(run: Run, names: Iterable[str]) -> tuple[str, ServedBaseline]:
    """The first of the baselines that comes out as numbers."""
    rows = {str(item).encode(): row for row, item in enumerate(run.catalogue.ids) if row}
    pairs = TrainingPairs(training_pairs(run.settings["inputs"]["raw_interactions"]), rows)
    for name in names:
        found = Baselines([name], pairs, len(run.catalogue.ids), run.catalogue.text_vectors)
        if is_usable(found.fitted[name]):
            return name, ServedBaseline(found.fitted[name], np.asarray(found.popularity))
    raise AssertionError("popularity is always usable")


def _save(run: Run, model: ServedBaseline) -> None:
    settings = from_dict(IndexConfig, run.settings["index"])
    index = searchable_index(model, run.catalogue, settings)
    serving = RetrievalServing(model, *run.serving_arguments(model), index=index, max_k=settings.max_k)
    export.save(serving, run.model_folder)
