"""Starts the best model server there is: TF Serving on the PATH, TF Serving in Docker, else the embedded one.

All three take the same models and speak the same protocol on the same ports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from tfrec_fusion.export.request import curl_line
from tfrec_fusion.serving.child_process import python_module
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.columns import columns
from tfrec_fusion.serving.client.errors import ServingError
from tfrec_fusion.serving.client.signatures import read_metadata
from tfrec_fusion.serving.protocol.version import IMAGE

Engine = Literal["auto", "tensorflow_model_server", "docker", "embedded"]

BINARY = "tensorflow_model_server"
NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} |E\d{4} .*(cuda|oneDNN)|To enable the"
    r" following instructions"
)


@dataclasses.dataclass
class Launched:
    """A server that runs.

    Attributes:
        engine: which one it is.
        url: address of its REST API.
        grpc_target: address of gRPC; `Client.connect` takes it after `grpc://`.
        names: the models' names.
    """

    engine: str
    url: str
    grpc_target: str
    names: tuple[str, ...]
    _wait: Callable[[], int]
    _stop: Callable[[], None]

    def wait(self) -> int:
        """Waits until the server ends; returns its exit code."""
        return self._wait()

    def stop(self) -> None:
        """Ends the server."""
        self._stop()

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def find_engine(engine: Engine = "auto") -> str:
    """The server that `launch` would start.

    Raises:
        ValueError: the engine is unknown, or not available here.
    """
    if engine == "embedded":
        return engine
    if engine in ("auto", "tensorflow_model_server") and shutil.which(BINARY):
        return "tensorflow_model_server"
    if engine in ("auto", "docker") and _docker_answers():
        return "docker"
    if engine == "auto":
        return "embedded"
    if engine == "tensorflow_model_server":
        raise ValueError(f"There is no {BINARY} on the PATH. Install TF Serving, or use engine='embedded'.")
    if engine == "docker":
        raise ValueError(
            "No Docker engine answers (`docker version` fails). Start one, or use engine='embedded'."
        )
    raise ValueError(
        "`engine` must be one of 'auto', 'tensorflow_model_server', 'docker', 'embedded'. "
        f"Received: {engine!r}."
    )


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def launch(
    models: Mapping[str, str],
    *,
    engine: Engine = "auto",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    host: str = "127.0.0.1",
    flags: Sequence[str] = (),
    versions: int = 1,
    image: str = IMAGE,
    timeout: float = 300.0,
    out: Callable[[str], Any] = print,
) -> Launched:
    """Serves models and says what is served, where, and how to try it.

    Args:
        models: base path (the folder that holds version folders) by model name.
        engine: `auto` takes the first that is there of `tensorflow_model_server`, `docker`, `embedded`.
        rest_port: port of the REST API.
        grpc_port: port of gRPC.
        host: address to bind to. `tensorflow_model_server` has no such flag and always binds to all
            addresses.
        flags: further flags of TF Serving, for example `--enable_batching`.
        versions: how many of each model's newest versions are served beside each other.
        image: the image that Docker runs.
        timeout: seconds until the models must be available.
        out: receives the lines to print.

    Returns:
        The running server.

    Raises:
        ValueError: a base path is not there, or the engine is not available.
        RuntimeError: the server ended or did not become ready.
    """
    if not models:
        raise ValueError("`models` must name at least one model. Received: none.")
    if versions < 1:
        raise ValueError(f"`versions` must be at least 1. Received: {versions}.")
    for name, path in models.items():
        if not os.path.isdir(path):
            raise ValueError(
                f"The base path of {name!r} must be a folder of version folders. Received: {path!r}."
            )
    paths = {name: os.path.abspath(path) for name, path in models.items()}
    chosen = find_engine(engine)
    with contextlib.ExitStack() as cleanup:
        _unwind_when_terminated(cleanup)
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tfrec-serving-"))
        container = f"tfrec-serving-{uuid.uuid4().hex[:12]}"
        common = [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        if chosen == "docker":
            inside = {name: f"/models/{name}" for name in paths}
            config = _write_config(folder, inside, versions)
            command = ["docker", "run", "--rm", f"--name={container}"]
            command += [f"--publish={host}:{rest_port}:8501", f"--publish={host}:{grpc_port}:8500"]
            command += [f"--volume={path}:{inside[name]}:ro" for name, path in paths.items()]
            command += [f"--volume={config}:/models/models.config:ro", image]
            command += ["--model_config_file=/models/models.config", *flags]
        elif chosen == "tensorflow_model_server":
            command = [
                BINARY,
                *common,
                f"--model_config_file={_write_config(folder, paths, versions)}",
                *flags,
            ]
        else:
            command = [*python_module("tfrec_fusion.serving.server"), *common, f"--host={host}"]
            command += [f"--model_config_file={_write_config(folder, paths, versions)}", *flags]
        process = subprocess.Popen(
            command,
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        threading.Thread(target=_copy_without_noise, args=(process.stderr,), daemon=True).start()
        cleanup.callback(_end, process, container if chosen == "docker" else None)
        url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{rest_port}"
        _wait_ready(process, url, paths, timeout)
        _announce(out, chosen, url, host, grpc_port, paths)
        keep = cleanup.pop_all()
    lock = threading.Lock()

    def stop() -> None:
        with lock:
            keep.close()

    return Launched(
        chosen,
        url,
        f"{url.removeprefix('http://').rsplit(':', 1)[0]}:{grpc_port}",
        tuple(paths),
        process.wait,
        stop,
    )


def _unwind_when_terminated(cleanup: contextlib.ExitStack) -> None:
    """Lets SIGTERM end this program by an exception, so that it takes its server with it."""

    def restore() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        cleanup.callback(restore)


def _copy_without_noise(lines: Iterable[str]) -> None:
    """Passes a server's log on, less TensorFlow's notes on the machine's processor, which no setting
    silences."""
    for line in lines:
        if not NOISE.match(line):
            sys.stderr.write(line)
            sys.stderr.flush()


def _write_config(folder: str, paths: Mapping[str, str], versions: int) -> str:
    policy = f" model_version_policy {{ latest {{ num_versions: {versions} }} }}" if versions > 1 else ""
    entries = "".join(
        f'  config {{ name: {json.dumps(name)} base_path: {json.dumps(path)} model_platform: "tensorflow"'
        f"{policy} }}\n"
        for name, path in paths.items()
    )
    path = os.path.join(folder, "models.config")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"model_config_list {{\n{entries}}}\n")
    os.chmod(folder, 0o755)  # the container's user reads it too; it holds no secret
    return path


def _end(process: subprocess.Popen[str], container: str | None) -> None:
    if container is not None and process.poll() is None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["docker", "stop", container], capture_output=True, timeout=30, check=False)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[str], url: str, names: Mapping[str, str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for name in names:
        with Client.connect(url, name, timeout=2.0) as client:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(
                        f"The server ended with code {process.returncode} before its models were available; "
                        "its output says why."
                    )
                with contextlib.suppress(ServingError):
                    if any(status["state"] == "AVAILABLE" for status in client.status()):
                        break
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"The model {name!r} did not become available within {timeout} seconds."
                    )
                time.sleep(0.1)


def _announce(
    out: Callable[[str], Any], engine: str, url: str, host: str, grpc_port: int, paths: Mapping[str, str]
) -> None:
    out(f"Serving with {engine}: REST at {url}, gRPC at {host}:{grpc_port}")
    if engine == "tensorflow_model_server" and host not in ("0.0.0.0", "::"):
        out(f"{BINARY} has no flag for an address: its ports are open on every network of this machine.")
    for name, path in paths.items():
        with Client.connect(url, name) as client:
            version = next(status["version"] for status in client.status() if status["state"] == "AVAILABLE")
            out(f"  {name} version {version} from {path}")
            out(f"  {question(client, url, name)}")


def question(client: Client, url: str, name: str) -> str:
    """A `curl` command that asks a model something it has an answer to: what goes with an item of its
    catalogue, or how it ranks some; of a model of another kind, its status."""
    signatures = read_metadata(client.metadata())
    items: list[str] = []
    if "describe" in signatures and "count" in signatures["describe"].inputs:
        items = client.predict({"count": 3}, signature_name="describe")["item_ids"]
    # Few items, so that the answer fits a terminal.
    asks: dict[str, dict[str, Any]] = {"recommend": {"k": 3}, "rank": {}}
    if items:
        asks = {"recommend": {"k": 3, "history": [items[:1]]}, "rank": {"item_ids": [items]}}
    for signature, given in asks.items():
        if signature in signatures:
            known = {key: value for key, value in given.items() if key in signatures[signature].inputs}
            return curl_line(url, name, signature, columns(signatures[signature], known))
    spec = signatures.get("serving_default")
    if spec is None or "examples" in spec.inputs:
        return f"curl {url}/v1/models/{name}"
    return curl_line(url, name, "serving_default", columns(spec, {}))
