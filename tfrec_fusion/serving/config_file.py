"""Which models to serve: model configurations, from flags or from TF Serving's text-proto file."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfrec_fusion.serving.status import StatusError, invalid_argument

PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of a model's versions are served.

    `latest`: the `num_versions` highest; `all`: every one; `specific`: those listed in `versions`.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: list[int]) -> set[int]:
        """The versions to serve, out of those found on disk."""
        if self.kind == "all":
            return set(found)
        if self.kind == "specific":
            return set(found) & set(self.versions)
        return set(sorted(found)[-self.num_versions :])


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model: its name in requests, the folder that holds its version folders, policy and labels."""

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: tuple[tuple[str, int], ...] = ()


def read_config_file(path: str) -> list[ModelConfig]:
    """Reads a ModelServerConfig text proto.

    Raises:
        StatusError: the file cannot be read or holds something else.
    """
    proto = model_server_config_pb2.ModelServerConfig()
    parse_text_proto(path, proto)
    return from_proto(proto)


def parse_text_proto(path: str, message: object) -> None:
    """Reads a text proto into `message`; a StatusError says which file and where."""
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Parse(file.read(), message)
    except OSError as error:
        raise StatusError("NOT_FOUND", f"{path}; {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid_argument(f"Invalid protobuf file: '{path}' ({error})") from None


def from_proto(proto: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """The models of a ModelServerConfig.

    Raises:
        StatusError: a name is missing or taken twice, the platform is not TensorFlow, or the config is custom.
    """
    if proto.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("Missing custom_model_config_loader in ServerCore Options")
    configs = []
    seen: set[str] = set()
    for model in proto.model_config_list.config:
        if model.model_platform and model.model_platform != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {model.model_platform}")
        if not model.model_platform and model.model_type == model_server_config_pb2.OTHER:
            raise invalid_argument(f"Model {model.name} requests unsupported platform other")
        if not model.model_platform and model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        if not model.name:
            raise invalid_argument("Model name must be non-empty")
        if model.name in seen:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        configs.append(
            ModelConfig(
                model.name,
                model.base_path,
                _policy(model.model_version_policy),
                tuple(sorted(model.version_labels.items())),
            )
        )
    return configs


def _policy(proto: Any) -> VersionPolicy:
    choice = proto.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        if not proto.specific.versions:
            raise invalid_argument("'specific' policy must list at least one version")
        return VersionPolicy("specific", versions=tuple(proto.specific.versions))
    if choice == "latest":
        # 0 is what an empty `latest {}` holds, and means one.
        return VersionPolicy("latest", max(1, proto.latest.num_versions))
    return VersionPolicy()
