"""TextEnrichment: texts that a language model writes about items, before anything reads the items' table.

Answers are kept in a folder beside the run's other results, by what was asked and of which model: a run asks
only what changed, and one that is killed loses nothing. The texts are written there as a version, as `tfrec
enrich` does, where requests find what was written of users. The artifact holds them as a table that
TablesExampleGen joins with the items'.
"""

import json
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec

from pipeline.components.artifacts import GeneratedTexts
from tfrec_fusion.config import EnrichmentConfig, SplitConfig, from_dict
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.enrichment.asking import ITEMS, count_run, enrich, new_version, write
from tfrec_fusion.training import progress


class Executor(base_executor.BaseExecutor):
    """Asks what has no answer yet, and writes all texts."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        config = from_dict(EnrichmentConfig, json.loads(exec_properties["enrich"]))
        tables = from_dict(Tables, json.loads(exec_properties["tables"]))
        split = from_dict(SplitConfig, json.loads(exec_properties["split"]))
        result = enrich(tables, split, config, exec_properties["answers"], progress.report)
        count_run(result, exec_properties["answers"])
        new_version(result, config, exec_properties["answers"])
        write(result, config, artifact_utils.get_single_uri(output_dict["generated_texts"]))


def texts_file(input_dict: dict[str, list[types.Artifact]]) -> str | None:
    """The items' texts of a component's input `generated_texts`; None where it has none."""
    if not input_dict.get("generated_texts"):
        return None
    return os.path.join(artifact_utils.get_single_uri(input_dict["generated_texts"]), ITEMS)


class TextEnrichmentSpec(component_spec.ComponentSpec):
    """Channels and parameters of TextEnrichment."""

    INPUTS = {}
    OUTPUTS = {"generated_texts": component_spec.ChannelParameter(type=GeneratedTexts)}
    PARAMETERS = {
        "tables": component_spec.ExecutionParameter(type=str),
        "split": component_spec.ExecutionParameter(type=str),
        "enrich": component_spec.ExecutionParameter(type=str),
        "answers": component_spec.ExecutionParameter(type=str),
        "incomplete_runs": component_spec.ExecutionParameter(type=int),
        "source_digest": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }


class TextEnrichment(base_component.BaseComponent):
    """Has a language model write about items.

    Args:
        tables: JSON of a `Tables`.
        split: JSON of a `SplitConfig`: what users chose together is taken from training alone.
        enrich: JSON of an `EnrichmentConfig`; the key is in the environment, and in no parameter.
        answers: folder that keeps answers between runs.
        incomplete_runs: how many runs so far left questions open, so that they are asked again.
        source_digest: digest of the tables' files, so that changed data is read again.
        code: digest of the code, likewise.
    """

    SPEC_CLASS = TextEnrichmentSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, **parameters: str | int):
        texts = types.Channel(type=GeneratedTexts)
        super().__init__(TextEnrichmentSpec(**parameters, generated_texts=texts))
