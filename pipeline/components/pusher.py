"""Pusher whose new version appears whole or not at all: it is staged beside the others, then renamed
(`tfrec_fusion.files`)."""

import pathlib
import shutil
import time
from typing import Any

from tfx import types
from tfx.components import Pusher
from tfx.components.pusher import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as keys
from tfx.utils import proto_utils

from pipeline.data.pushed_versions import baseline_of, serves_a_trained_model, versions
from tfrec_fusion import files


def push(model: str, base: str) -> tuple[str, str]:
    """Copies a SavedModel to `base/<version>` so that no reader ever sees a part of it, however many push at
    once.

    Args:
        model: folder of the SavedModel.
        base: the base path that a model server watches.

    Returns:
        The new version (seconds since 1970, or the one after the latest where that is taken) and its folder.

    Raises:
        OSError: where the disk is full or read-only; nothing is left in `base` but a folder that servers
            ignore.
    """
    folder = pathlib.Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    with files.folder_lock(folder) as held:
        if held:
            # Nobody else is pushing: what is unfinished was left by a push that was killed.
            files.clear_unfinished(folder)
            for stale in folder.glob(".staging-*"):
                shutil.rmtree(stale, ignore_errors=True)
        version = max([int(time.time())] + [number + 1 for number in versions(folder)])
        target = folder / str(version)
        with files.whole_folder(target) as staging:
            # The same files under another name, where the disk can: a model is never changed once it is
            # written.
            shutil.copytree(model, staging, dirs_exist_ok=True, copy_function=files.share)
    return str(version), str(target)


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
