"""Launches a compiled pipeline's nodes one by one, as TFX's LocalDagRunner does, and says what came out.

Everything that needs TFX to run a pipeline here is in this module.
"""

from __future__ import annotations

import datetime
import pathlib
import traceback
from typing import Any

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.types import artifact_utils

from pipeline.runner.console import Table
from pipeline.runner.failures import way_out
from pipeline.runner.interruption import Interrupts
from pipeline.runner.summary import Step, StepFailed, describe
from tfrec_fusion.config import ConfigError

HIDDEN = ("RetrievalBaseline", "RankingBaseline", "Import")


class Nodes:
    """The compiled pipeline and what launching one of its nodes takes."""

    def __init__(self, pipeline: Pipeline):
        ir = compiler.Compiler().compile(pipeline)
        runtime_parameter_utils.substitute_runtime_parameter(
            ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
        )
        self.ir = ir
        self.all = [node.pipeline_node for node in ir.nodes]
        self.deployment = runner_utils.extract_local_deployment_config(ir)
        connection = self.deployment.metadata_connection_config
        self.connection = getattr(connection, connection.WhichOneof("connection_config"))
        self.shown = [node.node_info.id for node in self.all if not node.node_info.id.startswith(HIDDEN)]


def launch(node: Any, nodes: Nodes, table: Table, log: pathlib.Path, interrupts: Interrupts) -> Step:
    """Runs a node, or reuses what an earlier run made, and shows it.

    Raises:
        ConfigError, StepFailed: where it fails; TFX has then recorded the failure and removed what was half
            written.
        KeyboardInterrupt: after Ctrl-C, also where native code made another error of it, or none.
    """
    name = node.node_info.id
    if not name.startswith(HIDDEN):
        table.begin(name)
    try:
        done = launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=metadata.Metadata(nodes.connection),
            pipeline_info=nodes.ir.pipeline_info,
            pipeline_runtime_spec=nodes.ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(nodes.deployment, name),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(nodes.deployment, name),
        ).launch()
    except BaseException as error:
        traceback.print_exc()
        stopped = interrupts.asked or isinstance(error, KeyboardInterrupt)
        table.end("stopped" if stopped else "FAILED", "")
        if stopped:
            raise KeyboardInterrupt from error
        cause = _config_error(error)
        if cause is not None:
            raise cause from error
        if advice := way_out(error):
            raise StepFailed(f"{name} failed. {advice}\nThe stack is in {log}.") from error
        raise StepFailed(f"{name} failed: {type(error).__name__}: {error}\nThe stack is in {log}.") from error
    interrupts.check()
    if name.startswith(HIDDEN) or done is None or done.execution_id is None:
        return Step(name, "done", 0.0, 0.0, {}, "")
    state, artifacts = _outcome(nodes, done.execution_id)
    result = describe(name, artifacts)
    seconds, megabytes = table.end(state, result)
    return Step(name, state, seconds, megabytes, artifacts, result)


def open_store(nodes: Nodes) -> metadata_store.MetadataStore:
    """ML Metadata of the pipeline."""
    with metadata.Metadata(nodes.connection) as handle:
        return handle.store


def _config_error(error: BaseException | None) -> ConfigError | None:
    """The ConfigError behind an error: Beam wraps what a worker raises, and keeps only its text."""
    seen = error
    while seen is not None:
        if isinstance(seen, ConfigError):
            return seen
        seen = seen.__cause__ or seen.__context__
    text = str(error)
    marker = "ConfigError: "
    if marker in text:
        return ConfigError(text.split(marker, 1)[1].split("\n\n")[0].split(" [while running")[0])
    return None


def _outcome(nodes: Nodes, execution_id: int) -> tuple[str, dict]:
    """Whether an execution ran or was reused, and its output artifacts by name."""
    with metadata.Metadata(nodes.connection) as handle:
        store = handle.store
        (execution,) = store.get_executions_by_id([execution_id])
        cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
        artifacts = {}
        for event in store.get_events_by_execution_ids([execution_id]):
            if event.type == metadata_store_pb2.Event.OUTPUT:
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                (kind,) = store.get_artifact_types_by_id([artifact.type_id])
                artifacts[event.path.steps[0].key] = artifact_utils.deserialize_artifact(kind, artifact)
    return ("cached" if cached else "done"), artifacts
