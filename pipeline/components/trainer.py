"""TFX's Trainer with the inputs that a recommender needs beside interactions: the items, their text vectors,
users."""

from typing import Any

from tfx import types
from tfx.components.trainer import executor as tfx_executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import json_utils, path_utils

from pipeline.components.artifacts import TextVectors
from pipeline.components.mount import with_mounted_files


class Executor(tfx_executor.GenericExecutor):
    """Calls `run_fn` with all inputs' folders in `fn_args.custom_config["inputs"]`."""

    @with_mounted_files
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        config = json_utils.loads(exec_properties["custom_config"])
        config["inputs"] = {
            name: artifact_utils.get_single_uri(artifacts)
            for name, artifacts in input_dict.items()
            if artifacts
        }
        return FnArgs(
            custom_config=config,
            transform_output=config["inputs"]["transform_graph"],
            serving_model_dir=path_utils.serving_model_dir(
                artifact_utils.get_single_uri(output_dict["model"])
            ),
            model_run_dir=artifact_utils.get_single_uri(output_dict["model_run"]),
        )


class RecommenderTrainerSpec(component_spec.ComponentSpec):
    """TrainerSpec of TFX, less what is not used here, and the extra inputs."""

    PARAMETERS = {
        "run_fn": component_spec.ExecutionParameter(type=str),
        "custom_config": component_spec.ExecutionParameter(type=str),
        "job": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "items_transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "users": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "text_vectors": component_spec.ChannelParameter(type=TextVectors, optional=True),
        "raw_interactions": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "retrieval_evaluation": component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
        "retrieval_serving": component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
        "retrieval_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        "ranking_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        "retrieval_refit": component_spec.ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        "ranking_refit": component_spec.ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        "candidate": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "retrieval_blessing": component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
        "ranking_blessing": component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
    }
    OUTPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
    }


class RecommenderTrainer(base_component.BaseComponent):
    """Trains a model with a `run_fn` given as a dotted path.

    Args:
        run_fn: for example `pipeline.callbacks.training.run_retrieval`.
        custom_config: JSON-able values for `run_fn`; TFX's cache sees them, so a digest of the code belongs
            here.
        examples, transform_graph: transformed interactions and the graph that made them.
        items, items_transform_graph: transformed items and theirs.
        users: one Example per user, for serving.
        text_vectors: the items' text vectors, where the text tower is on.
        retrieval_run, ranking_run, retrieval_blessing, ranking_blessing: trained models and verdicts on them,
            for a `run_fn` that puts them together.
        retrieval_refit, ranking_refit: the same models refitted to all rows, for what is served.
        candidate: the judged model, for a `run_fn` that refits it.
        raw_interactions, retrieval_evaluation, retrieval_serving: the interactions as they were read, the
            verdict's figures and whether the model answers, for a `run_fn` that fits a baseline.
        job: for a trainer that starts a job: what and where, as JSON.
    """

    SPEC_CLASS = RecommenderTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        run_fn: str,
        custom_config: dict[str, Any],
        job: str | None = None,
        **inputs: types.BaseChannel | None,
    ):
        super().__init__(
            RecommenderTrainerSpec(
                run_fn=run_fn,
                custom_config=json_utils.dumps(custom_config),
                job=job,
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
                **{name: channel for name, channel in inputs.items() if channel is not None},
            )
        )
