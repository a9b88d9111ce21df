"""Rules for replacing the models by gRPC (`HandleReloadConfigRequest`): who may, and with which folders.

A SavedModel is a program: whoever chooses what is loaded runs code as the server's user. TF Serving lets
every client choose. Here a server that only this machine reaches does so too; any other needs folders named
by its operator (`--reload_base_paths`), and loads what really lies below these, symbolic links resolved.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from collections.abc import Sequence

from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.version_folders import is_inside, is_uri


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reached from this machine alone; all addresses of a name must be."""
    try:
        addresses = [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        try:
            addresses = [
                ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
                for entry in socket.getaddrinfo(host, None)
            ]
        except (OSError, ValueError):
            return False
    return bool(addresses) and all(address.is_loopback for address in addresses)


@dataclasses.dataclass(frozen=True)
class ReloadRules:
    """What a client may load.

    Attributes:
        local: whether only this machine reaches the server.
        base_paths: folders, or URIs, below which models may lie. Where there are none, a local server loads
            from anywhere and any other from nowhere.
        max_models: the most models of a configuration.
    """

    local: bool
    base_paths: tuple[str, ...] = ()
    max_models: int = 1000

    def check(self, configs: Sequence[ModelConfig]) -> list[ModelConfig]:
        """The configurations to serve, bound to the folders that they may load from.

        Raises:
            StatusError: PERMISSION_DENIED where there is no reload, or a base path lies elsewhere;
                RESOURCE_EXHAUSTED for too many models.
        """
        if not self.local and not self.base_paths:
            raise StatusError(
                "PERMISSION_DENIED",
                "This server takes no configuration by gRPC: it is reached from other machines, and a model"
                " is a program. Name the folders that models may be loaded from with --reload_base_paths, or"
                " use --model_config_file.",
            )
        if len(configs) > self.max_models:
            raise StatusError(
                "RESOURCE_EXHAUSTED",
                f"A configuration may have at most {self.max_models} models (--max_models). Received:"
                f" {len(configs)}.",
            )
        if not self.base_paths:
            return list(configs)
        return [dataclasses.replace(config, within=self._folder_of(config)) for config in configs]

    def _folder_of(self, config: ModelConfig) -> str:
        for folder in self.base_paths:
            if is_inside(config.base_path, folder):
                return folder
        raise StatusError(
            "PERMISSION_DENIED",
            f"Models may be loaded from below {', '.join(self.base_paths)} (--reload_base_paths). Received: "
            f"base_path={config.base_path} of model {config.name}.",
        )


def folders(text: str) -> tuple[str, ...]:
    """Folders out of a flag's comma-separated text, as absolute paths."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(name if is_uri(name) else os.path.abspath(name) for name in names)
