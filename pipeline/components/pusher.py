"""Pusher whose new version appears whole or not at all: it is staged beside the others, then renamed
(`tfrec_fusion.files`)."""

import pathlib
from typing import Any

from tfx import types
from tfx.components import Pusher
from tfx.components.pusher import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as keys
from tfx.utils import proto_utils

from pipeline.data.pushed_versions import baseline_of, serves_a_trained_model
from pipeline.data.pushing import push


class Executor(tfx_executor.Executor):
    """Checks the blessings as TFX does, then pushes by renaming; a baseline only where no trained model is
    served. Remote file systems are left to TFX's own copy, which writes `saved_model.pb` last."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        destination = proto_utils.json_to_proto(
            exec_properties[keys.PUSH_DESTINATION_KEY], pusher_pb2.PushDestination()
        )
        base = destination.filesystem.base_directory
        if "://" in base:
            super().Do(input_dict, output_dict, exec_properties)
            return
        pushed = artifact_utils.get_single_instance(output_dict[keys.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        model = self.GetModelPath(input_dict)
        if baseline_of(pathlib.Path(model)) and serves_a_trained_model(pathlib.Path(base)):
            self._MarkNotPushed(pushed)
            return
        version, folder = push(model, base)
        self._MarkPushed(pushed, pushed_destination=folder, pushed_version=version)


class AtomicPusher(Pusher):
    """`Pusher` that never shows a server half a version."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
