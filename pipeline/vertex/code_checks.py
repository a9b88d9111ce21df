"""Checks of code: will the containers find and pickle what they are told to run, in the versions that were
tried here?"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Iterator

from pipeline.config.findings import Finding
from pipeline.vertex.compiling import Compiled

ROOT = pathlib.Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "dev.txt"
OURS = ("pipeline", "tfrec_fusion")
# Imported on the machine that starts runs, where a configuration names a store.
OPTIONAL = ("mlflow",)
CALLBACKS = ("run_fn", "preprocessing_fn")
MODULE_FILES = ("module_file", "module_path")
# The Evaluator's `module_path` may be either.
DOTTED = re.compile(r"(?!.*\.py$)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# What decides whether a container does what was tried here.
DECIDING = (
    "tensorflow",
    "tfx",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "apache-beam",
    "transformers",
)


def check_code(compiled: Compiled, lock: pathlib.Path = LOCK, code: pathlib.Path = ROOT) -> list[Finding]:
    """All of this module's checks.

    Args:
        compiled: the run.
        lock: the requirements that the image is built from.
        code: the folder of both packages.
    """
    findings = list(callbacks(compiled)) + list(module_files(compiled))
    if not lock.is_file():
        return [
            *findings,
            Finding(
                "unknown",
                "requirements",
                f"There is no lock file at {lock.name}: this is no checkout of the project.",
                "Run the check where the image is built, so that packages can be compared.",
            ),
        ]
    held = locked(lock)
    return [*findings, *packages(code, held), *versions(held)]


def parameters(compiled: Compiled) -> Iterator[tuple[str, str, str]]:
    """Task, name and text of every parameter in the spec that is a string."""
    for task, settings in compiled.spec["pipelineSpec"]["root"]["dag"]["tasks"].items():
        for name, value in settings["inputs"].get("parameters", {}).items():
            text = value["runtimeValue"]["constantValue"].get("stringValue")
            if text is not None:
                yield task, name, text


def callbacks(compiled: Compiled) -> Iterator[Finding]:
    """Dotted names that are not there, or whose function Beam cannot send to a worker."""
    names = {text for _, name, text in parameters(compiled) if name in CALLBACKS}
    for _, name, text in parameters(compiled):
        if name == "eval_config":
            names |= {
                f"{metric['module']}.{metric['className']}"
                for specs in json.loads(text).get("metricsSpecs", [])
                for metric in specs.get("metrics", [])
                if metric.get("module")
            }
    for dotted in sorted(names):
        yield from callback(dotted)


def callback(dotted: str) -> Iterator[Finding]:
    """What is wrong with one dotted name."""
    from apache_beam.internal import pickler

    module_name, _, attribute = dotted.rpartition(".")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        yield Finding(
            "wrong",
            dotted,
            f"It cannot be imported: {error}.",
            "Name a function as package.module.function, in a package that the image holds.",
        )
        return
    if "<" in getattr(function, "__qualname__", ""):
        yield Finding(
            "wrong",
            dotted,
            "It is made inside another function, or a lambda.",
            "Define it with `def` at the top of its module: workers import it by name.",
        )
        return
    try:
        pickler.loads(pickler.dumps(function))
    except Exception as error:  # pickling runs anybody's code
        yield Finding(
            "wrong",
            dotted,
            f"It cannot be pickled: {type(error).__name__}: {error}.",
            "Keep locks, files, sessions and TensorFlow objects out of what it closes over; make them inside"
            " the call.",
        )


def module_files(compiled: Compiled) -> Iterator[Finding]:
    """Files given instead of dotted names (tensorflow/tfx#5511, #6335)."""
    for task, name, text in parameters(compiled):
        if name in MODULE_FILES and text not in ("", "null") and not DOTTED.fullmatch(text):
            yield Finding(
                "wrong",
                f"{task}.{name}",
                f"A file: {text}. TFX packs its folder's modules flat, and imports within a package break.",
                f"Give a dotted name instead ({', '.join(CALLBACKS)}); the image holds the package.",
            )


def locked(lock: pathlib.Path) -> dict[str, str]:
    """Package → version of a hash-locked file, as this Python reads it; several versions: the one that is
    installed."""
    versions_locked: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.M
    ):
        versions_locked.setdefault(_plain(name), set()).add(version)
    chosen = {}
    for name, several in versions_locked.items():
        here = _installed(name)
        chosen[name] = here if here in several else max(several)
    return chosen


def packages(code: pathlib.Path, held: dict[str, str]) -> Iterator[Finding]:
    """Packages that the code imports and the image will not have (tensorflow/tfx#6525)."""
    owners = importlib.metadata.packages_distributions()
    for module, file in sorted(imported(code).items()):
        if module in (*OURS, *OPTIONAL) or module in sys.stdlib_module_names:
            continue
        names = {_plain(name) for name in owners.get(module, ())}
        if not names & set(held) and not (code / module).exists():
            whose = f" (package {', '.join(sorted(names))})" if names else ""
            yield Finding(
                "wrong",
                module,
                f"{file} imports it{whose}, and the image's lock file does not hold it.",
                "Add the package to setup.py, run `make lock`, and build the image anew.",
            )


def imported(code: pathlib.Path) -> dict[str, str]:
    """Top-level modules that both packages import outside of `try`, and a file that does."""
    imports: dict[str, str] = {}
    for package in OURS:
        for path in sorted((code / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            optional = {
                id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)
            }
            for node in ast.walk(tree):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                if id(node) not in optional:
                    for name in names:
                        imports.setdefault(name.split(".")[0], str(path.relative_to(code)))
    return imports


def versions(held: dict[str, str]) -> Iterator[Finding]:
    """Deciding packages that are not pinned, or installed here in another version."""
    for name in DECIDING:
        here = _installed(name)
        if name not in held:
            yield Finding(
                "wrong", name, "The lock file does not pin it.", "Run `make lock`, and build the image anew."
            )
        elif here != held[name]:
            yield Finding(
                "wrong",
                name,
                f"Compiled here with {here or 'none'}, locked for the image: {held[name]}. Pickles and specs"
                " of one version may not be read by another.",
                "Run `make setup`, so that both are the same.",
            )


def lock_digest(lock: pathlib.Path = LOCK) -> str:
    """Names the packages of an image: a digest of its lock file."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:16]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
