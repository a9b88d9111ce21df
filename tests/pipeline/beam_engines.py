"""Engines of Beam with processes of their own, started for a test."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "it ended at once"
        time.sleep(0.2)
    raise AssertionError("it does not listen")


@contextlib.contextmanager
def portable_service(folder: pathlib.Path) -> Iterator[list[str]]:
    """Beam's own job service and a pool of worker processes; yields the flags that send a pipeline there.

    The service gets the pipeline over gRPC as Flink's or Spark's job server does, and workers are processes
    that know of it only what is sent to them.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        # The pool starts `python`.
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TF_USE_LEGACY_KERAS": "1",
    }
    service_port, pool_port = free_port(), free_port()
    commands = [
        ("apache_beam.runners.portability.local_job_service_main", f"--port={service_port}"),
        ("apache_beam.runners.worker.worker_pool_main", f"--service_port={pool_port}"),
    ]
    processes = []
    try:
        for module, flag in commands:
            log = (folder / f"{module.rsplit('.', 1)[-1]}.log").open("w")
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, flag], env=environment, cwd=folder, stdout=log, stderr=log
                )
            )
        for port, process in zip((service_port, pool_port), processes, strict=True):
            _wait_for(port, process)
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{service_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool_port}",
        ]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=120)


@contextlib.contextmanager
def dask_cluster(folder: pathlib.Path) -> Iterator[list[str]]:
    """A Dask scheduler and two workers, each a process; yields the flags that send a pipeline there."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
        "TF_USE_LEGACY_KERAS": "1",
    }
    scheduler = ["distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads=1", "--no-dashboard", "--nanny"]
    processes = []
    try:
        for number, (module, *arguments) in enumerate((scheduler, worker, worker)):
            log = (folder / f"dask-{number}.log").open("w")
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    env=environment,
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                )
            )
            if number == 0:
                _wait_for(port, processes[0])
        yield ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner", f"--dask_client_address={address}"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=120)
