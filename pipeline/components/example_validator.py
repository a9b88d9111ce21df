"""ExampleValidator that stops the run: TFX's own only writes its anomalies down."""

from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components import ExampleValidator
from tfx.components.example_validator import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs as keys

from pipeline.data.schemas import shown_in
from tfrec_fusion.config import ConfigError


def describe(anomalies: anomalies_pb2.Anomalies, split: str) -> list[str]:
    """One line an anomaly: split, feature and reason."""
    shown = shown_in(anomalies.baseline)
    lines = [f"{split}: {reason.description}" for reason in anomalies.dataset_anomaly_info.reason]
    for feature, info in sorted(anomalies.anomaly_info.items()):
        reasons = "; ".join(f"{reason.short_description}: {reason.description}" for reason in info.reason)
        lines.append(f"{split}, feature `{shown.get(feature, feature)}`: {reasons or info.description}")
    return lines


class Executor(tfx_executor.Executor):
    """Validates as TFX does, and raises on any anomaly."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        self._found: list[str] = []
        result = super().Do(input_dict, output_dict, exec_properties)
        if self._found:
            what = input_dict[keys.STATISTICS_KEY][0].uri
            raise ConfigError(
                "The data does not fit its schema:\n  "
                + "\n  ".join(self._found)
                + "\nMend the tables, or the roles of their columns in the configuration. The statistics are"
                f" in {what}."
            )
        return result

    def _Validate(self, inputs: Any, outputs: Any) -> Any:
        anomalies = super()._Validate(inputs, outputs)
        split = next(iter(outputs.values())).rstrip("/").rsplit("Split-", 1)[-1]
        self._found += describe(anomalies, split)
        return anomalies


class StrictExampleValidator(ExampleValidator):
    """`ExampleValidator` whose anomalies stop the run, with the feature and the reason."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
