"""The last pushed model as the one to measure a candidate against, for orchestrators that cannot run our
resolver.

Vertex AI resolves "the latest blessed model" of a pipeline by type alone, and this pipeline makes models of
three kinds. What was pushed was blessed, and lies in a folder of its kind. The candidate is an input although
nothing of it is read: an unchanged candidate is then compared with the same baseline as before, and the
Evaluator's result is reused.
"""

import os
import pathlib
import shutil
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.mount import on_mount, with_mounted_files
from pipeline.data.pushed_versions import latest_version


def latest_pushed(folder: str) -> pathlib.Path | None:
    """The newest whole version in a server's folder, or None."""
    return latest_version(pathlib.Path(folder))


class Executor(base_executor.BaseExecutor):
    """Copies the model, so that a later push does not change what was compared; leaves the artifact empty
    without one."""

    @with_mounted_files
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        model = artifact_utils.get_single_instance(output_dict["model"])
        version = latest_pushed(on_mount(exec_properties["folder"]))
        os.makedirs(model.uri, exist_ok=True)
        if version is None:
            return
        shutil.copytree(version, path_utils.serving_model_dir(model.uri), dirs_exist_ok=True)
        model.set_string_custom_property("pushed_version", version.name)


class PushedBaselineSpec(component_spec.ComponentSpec):
    """Channels and parameters of PushedBaseline."""

    PARAMETERS = {"folder": component_spec.ExecutionParameter(type=str)}
    INPUTS = {"candidate": component_spec.ChannelParameter(type=standard_artifacts.Model)}
    OUTPUTS = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}


class PushedBaseline(base_component.BaseComponent):
    """The newest version in `folder`.

    Args:
        candidate: the model that it will be compared with.
        folder: where versions of this kind are pushed.
    """

    SPEC_CLASS = PushedBaselineSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, candidate: types.BaseChannel, folder: str):
        super().__init__(
            PushedBaselineSpec(
                candidate=candidate, folder=folder, model=types.Channel(type=standard_artifacts.Model)
            )
        )
