"""Lineage of a model, read from ML Metadata: the executions above it, with their settings."""

from __future__ import annotations

import json
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.config.pipeline_config import PipelineConfig

Event = metadata_store_pb2.Event


def open_store(config: PipelineConfig) -> metadata_store.MetadataStore:
    """The metadata of a pipeline that ran here."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(config.home / "metadata.sqlite")
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    return metadata_store.MetadataStore(connection)


def upstream(store: metadata_store.MetadataStore, uri: str) -> dict[str, dict[str, Any]]:
    """Everything that an artifact was made by, directly or through other artifacts.

    Args:
        store: the metadata.
        uri: folder of the artifact.

    Returns:
        Component id → the parameters that its execution was given (and `execution`, its number).
    """
    artifacts = [artifact.id for artifact in store.get_artifacts_by_uri(uri)]
    values_by_component: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    while artifacts:
        made = [
            event.execution_id
            for event in store.get_events_by_artifact_ids(artifacts)
            if event.type == Event.OUTPUT and event.execution_id not in seen
        ]
        seen.update(made)
        for execution in store.get_executions_by_id(sorted(set(made))):
            if execution.last_known_state == metadata_store_pb2.Execution.COMPLETE:
                values = {name: _value(value) for name, value in execution.custom_properties.items()}
                name = values.get("component_id") or execution.name.split(":")[-1]
                values_by_component.setdefault(
                    _component(store, execution, name), {**values, "execution": execution.id}
                )
        inputs = store.get_events_by_execution_ids(made) if made else []
        artifacts = sorted({event.artifact_id for event in inputs if event.type == Event.INPUT})
    return values_by_component


def _component(store: metadata_store.MetadataStore, execution: Any, otherwise: str) -> str:
    for context in store.get_contexts_by_execution(execution.id):
        (kind,) = store.get_context_types_by_id([context.type_id])
        if kind.name == "node":
            return context.name.split(".", 1)[-1]
    return otherwise


def _value(value: Any) -> Any:
    raw = getattr(value, value.WhichOneof("value"))
    if isinstance(raw, str) and raw[:1] in "{[":
        try:
            return json.loads(raw)
        except json.JSONDecodeError:
            return raw
    return raw
