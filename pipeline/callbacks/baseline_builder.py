"""Trainer's callback that makes a baseline servable, for a run whose model was refused while none was ever
pushed.

So a first run ends in something that answers. What answers is the best baseline of the evaluation,
fitted on the same interactions in the same way, under the retrieval model's signatures.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from pipeline.callbacks.run_data import RunData
from pipeline.callbacks.training import save_retrieval
from pipeline.config.trainer_settings import BaselineSettings, Inputs, read_settings
from pipeline.data.pushed_versions import MARK, serves_a_trained_model
from pipeline.evaluation.baseline_ranks import Baselines, TrainingPairs, training_pairs
from pipeline.evaluation.fallback import is_usable, ranked_baselines
from tfrec_fusion import files
from tfrec_fusion.models.hybrid.repeats import Repeats, baseline_weights
from tfrec_fusion.models.served_baseline import ServedBaseline

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs


def run_baseline(fn_args: FnArgs) -> None:
    """Exports the best baseline, unless the model was blessed or a blessed one is being served.

    `report.json` says which, and what it and the model reached.
    """
    settings, inputs = read_settings(BaselineSettings, fn_args.custom_config)
    reason = _not_needed(settings, inputs)
    if reason:
        # TFX takes a missing folder for a failure; an empty one is never servable, and so never pushed.
        tf.io.gfile.makedirs(fn_args.serving_model_dir)
        files.write_json(
            os.path.join(fn_args.model_run_dir, "report.json"), {"built": False, "reason": reason}
        )
        return
    # Imported here: TFMA is slow to import, and a blessed model needs none of this.
    from pipeline.evaluation.verdict import read_metrics

    metrics = read_metrics(inputs.retrieval_evaluation).get("overall", {})
    data, k = RunData(settings, inputs), settings.k
    name, model = _fitted(data, ranked_baselines(metrics, settings.baselines, k))
    save_retrieval(data, model, settings.index, fn_args.serving_model_dir)
    report = {"built": True, "baseline": name, "k": k}
    report |= {
        key: metrics[figure]
        for key, figure in (("ndcg", f"{name}_ndcg@{k}"), ("model_ndcg", f"ndcg@{k}"))
        if figure in metrics
    }
    files.write_json(os.path.join(fn_args.serving_model_dir, MARK), report)
    files.write_json(os.path.join(fn_args.model_run_dir, "report.json"), report)


def _not_needed(settings: BaselineSettings, inputs: Inputs) -> str | None:
    blessed = os.path.join(inputs.retrieval_blessing, "BLESSED")
    answers = os.path.join(inputs.retrieval_serving, "INFRA_BLESSED")
    if tf.io.gfile.exists(blessed) and tf.io.gfile.exists(answers):
        return "the retrieval model was blessed"
    if serves_a_trained_model(pathlib.Path(settings.serving)):
        return "an earlier model, which was blessed, is served"
    return None


def _fitted(data: RunData, names: Iterable[str]) -> tuple[str, ServedBaseline]:
    """The first of the baselines that comes out as numbers."""
    rows = {str(item).encode(): row for row, item in enumerate(data.catalogue.ids) if row}
    pairs = TrainingPairs(training_pairs(data.inputs.raw_interactions), rows)
    for name in names:
        vectors = data.catalogue.text_vectors
        baselines = Baselines([name], pairs, len(data.catalogue.ids), vectors, data.space.repeats)
        if is_usable(baselines.fitted[name]):
            served = ServedBaseline(baselines.fitted[name], np.asarray(baselines.popularity))
            if data.space.repeats:
                served.repeats = Repeats(baseline_weights() if name == "repeat" else None)
            return name, served
    raise AssertionError("popularity is always usable")
