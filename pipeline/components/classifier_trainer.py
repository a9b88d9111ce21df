"""ClassifierTrainer: reads texts with classes, trains the classifier on their vectors, judges and blesses it.

One step, since everything is held in memory: the vectors of texts are kept between runs, and the rest takes
seconds.
"""

import json
import os
import pathlib
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from tfrec_fusion import files
from tfrec_fusion.config import SplitConfig, TextConfig, from_dict
from tfrec_fusion.config.classifier import ClassifierConfig
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.training import progress

REPORT = "classifier.json"


class Executor(base_executor.BaseExecutor):
    """Trains, judges and exports."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        # Imported here: whoever only wires a pipeline needs no models.
        from tfrec_fusion.in_memory.classifying import fit_classifier

        given = {
            name: json.loads(exec_properties[name]) for name in ("tables", "classifier", "split", "text")
        }
        fitted = fit_classifier(
            from_dict(Tables, given["tables"]),
            from_dict(ClassifierConfig, given["classifier"], "classifier"),
            from_dict(SplitConfig, given["split"]),
            from_dict(TextConfig, given["text"]),
            exec_properties["cache"],
            progress.report,
        )
        model, run, blessing = (
            artifact_utils.get_single_instance(output_dict[name])
            for name in ("model", "model_run", "blessing")
        )
        fitted.export(path_utils.serving_model_dir(model.uri))
        os.makedirs(run.uri, exist_ok=True)
        files.write_json(os.path.join(run.uri, REPORT), fitted.to_json())
        os.makedirs(blessing.uri, exist_ok=True)
        blessed = fitted.judgement.blessed
        pathlib.Path(blessing.uri, "BLESSED" if blessed else "NOT_BLESSED").touch()
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_string_custom_property("current_model", model.uri)
        blessing.set_int_custom_property("current_model_id", model.id)


class ClassifierTrainerSpec(component_spec.ComponentSpec):
    """Channels and parameters of ClassifierTrainer."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("tables", "classifier", "split", "text", "cache", "source_digest", "code")
    }
    INPUTS = {}
    OUTPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class ClassifierTrainer(base_component.BaseComponent):
    """Trains the classifier.

    Args:
        tables: JSON of a `Tables`.
        classifier: JSON of a `ClassifierConfig`.
        split: JSON of a `SplitConfig`.
        text: JSON of a `TextConfig`.
        cache: folder that keeps text vectors between runs.
        source_digest: digest of the tables' files, so that changed data is read again.
        code: digest of the code, likewise.
    """

    SPEC_CLASS = ClassifierTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, **parameters: str):
        channels = {
            "model": types.Channel(type=standard_artifacts.Model),
            "model_run": types.Channel(type=standard_artifacts.ModelRun),
            "blessing": types.Channel(type=standard_artifacts.ModelBlessing),
        }
        super().__init__(ClassifierTrainerSpec(**parameters, **channels))
