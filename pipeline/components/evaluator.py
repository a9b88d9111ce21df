"""TFX's Evaluator in a process that knows TF Text's operations, and with a baseline that may be empty."""

from typing import Any

from tfx import types
from tfx.components import Evaluator
from tfx.components.evaluator import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as keys
from tfx.utils import path_utils


class Executor(tfx_executor.Executor):
    """Evaluates as TFX does; a baseline artifact without a model in it counts as none."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        # Imported here: whoever only wires a pipeline loads no model.
        import tensorflow_text  # noqa: F401  (registers the operations of the models that are loaded)

        baseline = input_dict.get(keys.BASELINE_MODEL_KEY)
        if baseline:
            model = artifact_utils.get_single_instance(baseline)
            folder = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
            if not fileio.exists(f"{folder}/saved_model.pb"):
                input_dict = {
                    name: given for name, given in input_dict.items() if name != keys.BASELINE_MODEL_KEY
                }
        return super().Do(input_dict, output_dict, exec_properties)


class RecommenderEvaluator(Evaluator):
    """`Evaluator` for models that hold a tokenizer."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
