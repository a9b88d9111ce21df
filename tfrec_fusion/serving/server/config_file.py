"""Models to serve: configurations from flags or from TF Serving's text-proto file."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection
from typing import Any, Literal

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfrec_fusion.serving.protocol.status import StatusError, code_of, invalid_argument
from tfrec_fusion.serving.server.version_folders import is_uri

logger = logging.getLogger(__name__)

PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of a model's versions are served.

    `latest`: the `num_versions` highest; `all`: every one; `specific`: those listed in `versions`.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, versions: list[int]) -> set[int]:
        """The versions to serve, out of those found on disk."""
        if self.kind == "all":
            return set(versions)
        if self.kind == "specific":
            return set(versions) & set(self.versions)
        return set(sorted(versions)[-self.num_versions :])


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model: its name in requests, the folder that holds its version folders, policy and labels.

    `within`, where given, is a folder that no file of a version may leave by a symbolic link.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: tuple[tuple[str, int], ...] = ()
    within: str = ""


def read_config_file(path: str) -> list[ModelConfig]:
    """Reads a ModelServerConfig text proto.

    Raises:
        StatusError: the file cannot be read or holds something else.
    """
    proto = model_server_config_pb2.ModelServerConfig()
    parse_text_proto(path, proto)
    return from_proto(proto)


def parse_text_proto(path: str, message: object) -> None:
    """Reads a text proto into `message`; a StatusError says which file, the log where in it."""
    try:
        with tf.io.gfile.GFile(path) as file:
            text_format.Parse(file.read(), message)
    except tf.errors.OpError as error:
        raise StatusError(code_of(error), str(error.message)) from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        logger.error("%s: %s", path, error)
        raise invalid_argument(f"Invalid protobuf file: '{path}'") from None


def from_proto(
    proto: model_server_config_pb2.ModelServerConfig, configured: Collection[str] = ()
) -> list[ModelConfig]:
    """The models of a ModelServerConfig.

    Args:
        proto: the message.
        configured: names of models that are served already, and must stay of their platform.

    Raises:
        StatusError: a name is missing or taken twice, a base path is relative, the platform is not
            TensorFlow, or the config is custom.
    """
    if proto.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("Missing custom_model_config_loader in ServerCore Options")
    models = proto.model_config_list.config
    seen: set[str] = set()
    for model in models:
        if not model.name:
            raise invalid_argument("Model name must be non-empty")
        if model.name in seen:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    for model in models:
        require_absolute(model.name, model.base_path)
    for model in models:
        platform = _platform(model)
        if platform != PLATFORM and model.name in configured:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was {PLATFORM} and"
                f" new platform requested is {platform}"
            )
        if platform != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
    return [
        ModelConfig(
            model.name,
            model.base_path,
            _policy(model.model_version_policy),
            tuple(sorted(model.version_labels.items())),
        )
        for model in models
    ]


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    kind = model.model_type
    if kind and model.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and"
            " ModelServerConfig::model_platform."
        )
    if kind == model_server_config_pb2.TENSORFLOW:
        return PLATFORM
    if kind:
        raise invalid_argument(f"ModelServerConfig::model_type choice {kind} not supported.")
    if not model.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform."
        )
    return model.model_platform


def require_absolute(name: str, base_path: str) -> None:
    """Raises INVALID_ARGUMENT for a relative base path, which would mean another folder wherever a server is
    started."""
    if not os.path.isabs(base_path) and not is_uri(base_path):
        raise invalid_argument(
            f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}"
        )


def _policy(proto: Any) -> VersionPolicy:
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        return VersionPolicy("specific", versions=tuple(proto.specific.versions))
    if choice == "latest":
        # 0 is what an empty `latest {}` holds, and means one.
        return VersionPolicy("latest", max(1, proto.latest.num_versions))
    return VersionPolicy()
