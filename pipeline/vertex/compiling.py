"""The pipeline's spec for Vertex AI, through TFX's KubeflowV2DagRunner."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base import base_component
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.vertex_config import VertexConfig
from pipeline.definition.training import create_pipeline
from pipeline.vertex.inputs import Inputs, Upload
from tfrec_fusion.config import ConfigError

COMMAND = ("python", "-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor")
LEGAL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A run, ready to be sent.

    Attributes:
        spec: the pipeline job: `displayName`, `labels`, `runtimeConfig`, `pipelineSpec`.
        uploads: what must be in the bucket before.
        config: the configuration, its name made legal.
        vertex: where it goes.
    """

    spec: dict[str, Any]
    uploads: list[Upload]
    config: PipelineConfig
    vertex: VertexConfig

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.spec["pipelineSpec"]["root"]["dag"]["tasks"])

    def to_json(self) -> str:
        """The spec as a file holds it: sorted and indented, so that two of them can be compared."""
        return json.dumps(self.spec, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def compile_pipeline(config: PipelineConfig) -> Compiled:
    """Compiles a configuration.

    Args:
        config: with `vertex`. Its tables must be there: their digests name them in the bucket.

    Raises:
        ConfigError: where `vertex` or a table is missing, or a name cannot be used on Vertex AI.
    """
    config = dataclasses.replace(config, name=legal_name(config.name))
    inputs = Inputs(config)
    config = inputs.with_folders()
    pipeline = create_pipeline(config, inputs.places())
    vertex = inputs.vertex
    resources = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec(
        cpu_limit=vertex.steps.cpu, memory_limit=vertex.steps.memory_gb
    )
    for component in pipeline.components:
        if isinstance(component, base_component.BaseComponent):
            component.with_platform_config(resources)
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            display_name=config.name, default_image=vertex.image, default_commands=list(COMMAND)
        )
    )
    spec = runner.run(pipeline, write_out=False)
    spec["labels"] = {**spec.get("labels", {}), **vertex.labels}
    return Compiled(spec, list(inputs.uploads.values()), config, vertex)


def legal_name(name: str) -> str:
    """A pipeline's name as Vertex AI allows it: `_` becomes `-`.

    Raises:
        ConfigError: where more would have to change.
    """
    legal = name.replace("_", "-")
    if not LEGAL_NAME.fullmatch(legal):
        raise ConfigError(
            f"On Vertex AI `name` must be small letters, digits and `-`, at most 128. Received: {name!r}."
            " Rename it."
        )
    return legal
