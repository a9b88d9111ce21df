"""Training on several machines: the strategies whose processes `TF_CONFIG` describes.

`python -m tfrec_fusion.training.cluster` makes of this process the worker or the parameter server that
`TF_CONFIG` says it is.
"""

from __future__ import annotations

import functools
import json
import os

import tensorflow as tf

__all__ = ["mirrored_workers", "parameter_servers", "serve"]

# Variables are split between servers from twice this size on; below, asking several would take longer than it
# spares.
MIN_SHARD_BYTES = 256 * 1024
EXAMPLE = (
    '{"cluster": {"chief": ["a:2222"], "worker": ["b:2222", "c:2222"], "ps": ["d:2222"]}, '
    '"task": {"type": "chief", "index": 0}}'
)


# Cached: a second one would number its collective operations anew, taken for the first one's.
@functools.cache
def mirrored_workers() -> tf.distribute.MultiWorkerMirroredStrategy:
    """All workers of `TF_CONFIG` training one model side by side; without `TF_CONFIG`, this process alone.

    Raises:
        RuntimeError: if TensorFlow was used in this process before.
    """
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            "`strategy: multi_worker` must be set up before TensorFlow does anything else in a process."
            f" Received: {error}. Call `strategy(config)` before a tensor is made; a pipeline's Trainer needs"
            " a process of its own."
        ) from error


@functools.cache  # a process connects to its cluster once
def parameter_servers() -> tf.distribute.ParameterServerStrategy:
    """Variables on the `ps` tasks of `TF_CONFIG`, large ones split between all of them; steps on its `worker`
    tasks.

    Called in the `chief`, which trains. Called in another task it does not return: the process serves until
    it is ended, so that all machines may run the same program.

    Raises:
        ValueError: if `TF_CONFIG` describes no such cluster.
    """
    resolver = _cluster()
    if resolver.task_type != "chief":
        serve()
    servers = resolver.cluster_spec().num_tasks("ps")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(MIN_SHARD_BYTES, servers)
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)


def serve() -> None:
    """Makes this process the `worker` or `ps` task that `TF_CONFIG` says it is, until it is ended.

    Raises:
        ValueError: if `TF_CONFIG` says something else.
    """
    resolver = _cluster()
    if resolver.task_type not in ("worker", "ps"):
        raise ValueError(
            "A process that serves must be a `worker` or a `ps` task of `TF_CONFIG`. Received:"
            f" {resolver.task_type!r}. Start training there instead."
        )
    server = tf.distribute.Server(
        resolver.cluster_spec(), resolver.task_type, resolver.task_id, protocol=resolver.rpc_layer or "grpc"
    )
    server.join()


def _cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    """The cluster of `TF_CONFIG`, which must have a chief, workers and parameter servers."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        described = json.loads(text)
        tasks = {name: len(described["cluster"].get(name, ())) for name in ("chief", "worker", "ps")}
        here = described["task"]["type"], int(described["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError):
        tasks, here = {}, ("", 0)
    if tasks.get("chief") != 1 or min(tasks.values()) < 1 or not 0 <= here[1] < tasks.get(here[0], 0):
        raise ValueError(
            "`strategy: parameter_server` needs a `TF_CONFIG` that names one `chief`, `worker` and `ps`"
            f" tasks, and which of them this process is. Received: {text or 'none'}. Set the environment"
            f" variable in every process, for example {EXAMPLE}."
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


if __name__ == "__main__":
    serve()
