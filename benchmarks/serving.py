"""Measures the embedded server: `python -m benchmarks.serving [--models FOLDER] [--seconds S] [--json FILE]`.

A small model (`y = x / 2 + 2`), three rows a request. Server and load run in processes of their own
(`benchmarks.http_load`), the servers one after the other on the same machine. Three questions:

1. What does the server add to the bare session call? Its work on a request (parse, look up, run, write) is
   measured in one process beside the call; the whole way over a loopback connection is measured with one
   client.
2. How does it compare with the same model behind FastAPI and `loaded.signatures`
   (`benchmarks.serving_by_hand`)? Measured where `fastapi` and `uvicorn` can be imported.
3. What does a swap of versions under load cost?

With `--models`, also: what do the models that a run pushed cost to ask (`benchmarks.serving_models`)?
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip

from benchmarks.serving_models import measure_models  # isort: skip
from tfrec_fusion.serving.server.config_file import ModelConfig  # isort: skip
from tfrec_fusion.serving.server.monitoring import Metrics  # isort: skip
from tfrec_fusion.serving.server.rest_handler import RestHandler  # isort: skip
from tfrec_fusion.serving.server.session import LoadedModel  # isort: skip
from tfrec_fusion.serving.server.versions import ModelManager  # isort: skip

BODY = b'{"instances": [1.0, 2.0, 5.0]}'
PATH = b"/v1/models/small:predict"


class Small(tf.Module):
    """`y = x / 2 + plus`."""

    def __init__(self, plus: float):
        super().__init__()
        self.plus = tf.Variable(plus)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 0.5 + self.plus}


def percentiles(function: Callable[[], Any], count: int = 3000) -> dict[str, float]:
    """Milliseconds that a call takes: p50, p95, p99."""
    times = []
    for turn in range(count + 200):
        start = time.perf_counter()
        function()
        if turn >= 200:
            times.append(time.perf_counter() - start)
    return {f"p{share}_ms": round(float(np.percentile(times, share)) * 1e3, 4) for share in (50, 95, 99)}


def measure_cost(base: pathlib.Path) -> dict[str, dict[str, float]]:
    """The bare session call, the server's work on a request, and a signature called directly."""
    manager = ModelManager([ModelConfig("small", str(base))], LoadedModel, poll_seconds=0)
    manager.start()
    manager.wait_available(timeout=60)
    handler = RestHandler(manager, Metrics())
    model = manager.get("small")
    signature = model.signature("")
    x = np.array([1.0, 2.0, 5.0], np.float32)
    loaded = tf.saved_model.load(str(base / "1"))
    function = loaded.signatures["serving_default"]
    results = {
        "bare session call": percentiles(lambda: model.run(signature.feeds, [x], signature.fetches, True)),
        "server's work on a request": percentiles(lambda: handler.handle(b"POST", PATH, BODY, True)),
        "loaded.signatures": percentiles(lambda: function(x=tf.constant(x))["y"].numpy(), 1000),
    }
    manager.stop()
    return results


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[tuple[str, psutil.Process]]:
    """A server process, until the block ends; gives its URL and the process."""
    url = f"http://127.0.0.1:{port}/v1/models/small:predict"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(url, BODY, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert json.load(answer)["predictions"] == [2.5, 3.0, 4.5]
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The server did not start: {' '.join(command)}") from None
                time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=20)


def load(server: tuple[str, psutil.Process], body: str, connections: int, seconds: float) -> dict[str, float]:
    """Load from another process; adds the server's processor time a request, which neighbours disturb
    least."""
    url, process = server
    before = sum(process.cpu_times()[:2])
    command = [sys.executable, "-m", "benchmarks.http_load", url, body]
    command += [f"--connections={connections}", f"--seconds={seconds}"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 60)
    result = json.loads(done.stdout)
    result["cpu_us"] = round((sum(process.cpu_times()[:2]) - before) / result["requests"] * 1e6, 1)
    return result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def embedded(base: pathlib.Path, port: int) -> list[str]:
    return [sys.executable, "-m", "tfrec_fusion.serving.server", "--model_name=small",
            f"--model_base_path={base}", f"--rest_api_port={port}", "--port=0",
            "--file_system_poll_wait_seconds=0.1"]  # fmt: skip


def measure_swaps(base: pathlib.Path, body: str, seconds: float) -> dict[str, dict[str, float]]:
    """Load without and with a new version every second."""
    port = free_port()
    with running(embedded(base, port), port) as server:
        load(server, body, 8, 1.0)
        calm = load(server, body, 8, seconds)
        stop = threading.Event()

        def push() -> None:
            version = 2
            while not stop.wait(1.0):
                hidden = base / f".{version}"
                shutil.copytree(base / "1", hidden)
                hidden.rename(base / str(version))
                version += 1

        pusher = threading.Thread(target=push)
        pusher.start()
        swapped = load(server, body, 8, seconds)
        stop.set()
        pusher.join()
    return {"8 clients, no swap": calm, "8 clients, a swap a second": swapped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--models", type=pathlib.Path, help="folder that a run pushed to: runs/NAME/serving")
    parser.add_argument("--user", default="42", help="a user whom these models know")
    parser.add_argument("--only-models", action="store_true", help="leave the small model out")
    arguments = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.models:
            results.update(ask_models(arguments, pathlib.Path(folder)))
        if not arguments.only_models:
            results.update(measure_small(arguments, folder))
    report(arguments, results)


def ask_models(arguments: argparse.Namespace, folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """The pushed models."""

    def send(url: str, body: bytes, seconds: float) -> dict[str, float]:
        (folder / "asked.json").write_bytes(body)
        command = [sys.executable, "-m", "benchmarks.http_load", url, str(folder / "asked.json")]
        command += ["--connections=1", f"--seconds={seconds}"]
        done = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 120)
        return json.loads(done.stdout)

    return measure_models(arguments.models, free_port(), arguments.user, arguments.seconds, send)


def measure_small(arguments: argparse.Namespace, folder: str) -> dict[str, dict[str, float]]:
    """The three questions about the small model."""
    results: dict[str, dict[str, float]] = {}
    base = pathlib.Path(folder) / "small"
    small = Small(2.0)
    tf.saved_model.save(small, os.fspath(base / "1"), signatures=small.__call__)
    body = os.path.join(folder, "body.json")
    pathlib.Path(body).write_bytes(BODY)
    results.update(measure_cost(base))
    commands = {"embedded": embedded}
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("uvicorn"):
        commands["FastAPI"] = lambda base, port: [
            sys.executable, "-m", "benchmarks.serving_by_hand", str(base / "1"), str(port)
        ]  # fmt: skip
    for name, command in commands.items():
        port = free_port()
        with running(command(base, port), port) as server:
            load(server, body, 8, 1.0)
            results[f"{name}, 1 client"] = load(server, body, 1, arguments.seconds)
            results[f"{name}, 8 clients"] = load(server, body, 8, arguments.seconds)
    results.update(measure_swaps(base, body, arguments.seconds))
    return results


def report(arguments: argparse.Namespace, results: dict[str, dict[str, float]]) -> None:
    """Prints the table, and writes it where it is asked for."""
    versions = ["tensorflow", "uvloop", "httptools", "orjson", "fastapi", "uvicorn"]
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
        "versions": {name: _version(name) for name in versions if _version(name)},
    }
    print(
        f"{about['machine']}, {about['date']}, " + ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    )
    columns = ("p50_ms", "p95_ms", "p99_ms", "requests_per_second", "cpu_us", "failures")
    print("| what | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in results.items():
        print(f"| {name} | " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    if "bare session call" in results:
        work, bare = (results[name]["p50_ms"] for name in ("server's work on a request", "bare session call"))
        print(f"Own cost over the bare session call: {work - bare:.3f} ms p50.")
    if arguments.models:
        known, each = [row["p50_ms"] for name, row in results.items() if name.startswith("rank ")]
        print(f"Known candidates are ranked {each / known:.0f} times faster than with BERT on each.")
    if "FastAPI, 8 clients" in results:
        ours, theirs = (
            results[f"{name}, 8 clients"]["requests_per_second"] for name in ("embedded", "FastAPI")
        )
        print(f"Throughput over FastAPI's: {ours / theirs:.1f} times.")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(
            json.dumps({**about, "results": results}, indent=1) + "\n", encoding="utf-8"
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
