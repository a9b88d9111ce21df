"""Artifacts in a bucket as plain files: Vertex AI mounts Cloud Storage at `/gcs` in every container that it
starts."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from tfx import types

from tfrec_fusion.config import ConfigError

SCHEME, MOUNT = "gs://", "/gcs/"


def on_mount(uri: str) -> str:
    """`gs://bucket/folder` as the folder under which a container of Vertex AI sees it; anything else as it
    is."""
    return MOUNT + uri.removeprefix(SCHEME) if uri.startswith(SCHEME) else uri


@contextlib.contextmanager
def mounted(*artifacts_by_name: dict) -> Iterator[None]:
    """Lets artifacts point at the mount, and at the bucket again afterwards, where metadata and other steps
    need them.

    Raises:
        ConfigError: if an artifact is in a bucket and no bucket is mounted.
    """
    artifacts = [one for named in artifacts_by_name for several in named.values() for one in several]
    uris = [artifact.uri for artifact in artifacts]
    remote = [uri for uri in uris if uri.startswith(SCHEME)]
    if remote and not os.path.isdir(MOUNT):
        raise ConfigError(
            f"Buckets must be mounted at {MOUNT}, as Vertex AI mounts them in custom jobs and pipeline steps."
            f" Received: {remote[0]}, and no such folder. Elsewhere, mount with gcsfuse."
        )
    try:
        for artifact, uri in zip(artifacts, uris, strict=True):
            artifact.uri = on_mount(uri)
        yield
    finally:
        for artifact, uri in zip(artifacts, uris, strict=True):
            artifact.uri = uri


def with_mounted_files(do: Callable) -> Callable:
    """For an executor's `Do` that opens artifacts with ordinary file functions."""

    @functools.wraps(do)
    def mounted_do(
        self: Any,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        with mounted(input_dict, output_dict):
            return do(self, input_dict, output_dict, exec_properties)

    return mounted_do
