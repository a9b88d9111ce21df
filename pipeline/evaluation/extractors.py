"""Extractors that TFX's Evaluator runs before the metrics. TFX reloads this module: it holds no class."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import extractor, slice_key_extractor, unbatch_extractor
from tensorflow_model_analysis.proto import config_pb2

from pipeline.evaluation.batches import SliceBatches

TAIL = (
    unbatch_extractor.UNBATCH_EXTRACTOR_STAGE_NAME,
    slice_key_extractor.SLICE_KEY_EXTRACTOR_STAGE_NAME,
)


def custom_extractors(
    eval_shared_model: Any, eval_config: config_pb2.EvalConfig, tensor_adapter_config: Any
) -> list[extractor.Extractor]:
    """TFMA's extractors with `SliceBatches` instead of those that take batches apart and slice examples.

    Raises:
        ValueError: where slices are wanted by more than one feature at a time.
    """
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    if tuple(step.stage_name for step in extractors[-2:]) != TAIL:
        raise RuntimeError(
            f"TFMA's extractors must end in {' and '.join(TAIL)}, which are replaced. Received:"
            f" {', '.join(step.stage_name for step in extractors)}. Install the locked version of"
            " tensorflow-model-analysis."
        )
    features = []
    for spec in eval_config.slicing_specs:
        if spec.feature_values or len(spec.feature_keys) > 1:
            names = ", ".join([*spec.feature_keys, *spec.feature_values])
            raise ValueError(
                f"Slices must be of all examples or by one feature. Received: {names}. Make a column of both,"
                " and slice by it."
            )
        features += spec.feature_keys
    slicing = extractor.Extractor(stage_name=TAIL[1], ptransform=beam.ParDo(SliceBatches(features)))
    return [*extractors[:-2], slicing]
