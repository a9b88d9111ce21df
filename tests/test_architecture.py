"""Allowed imports between rooms, read from the sources."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = {
    "__init__": {"classifier", "recommender"},
    "classifier": {"config", "in_memory"},
    "config": {"errors"},
    "datasets": {"config", "files"},
    "enrichment": {"config", "datasets", "errors", "features", "files"},
    "export": {"config", "errors", "files", "index", "layers", "metrics", "models", "naming"},
    "errors": set(),
    "experiments": {"datasets", "errors", "impressions"},
    "features": {"config", "datasets", "files", "impressions", "layers", "models", "naming", "training"},
    "files": {"config"},
    "guessing": {"config", "datasets"},
    "in_memory": {
        "config",
        "datasets",
        "export",
        "features",
        "files",
        "guessing",
        "metrics",
        "models",
        "naming",
        "serving",
        "training",
    },
    "impressions": {"config", "errors", "files"},
    "index": set(),
    "layers": {"errors", "naming"},
    "lazy": set(),
    "losses": {"layers"},
    "metrics": set(),
    "models": {"config", "layers", "losses", "metrics", "naming", "tasks"},
    "naming": set(),
    "recommender": {"config", "datasets", "enrichment", "errors", "export", "in_memory", "serving"},
    "serving": {"errors", "experiments", "export", "impressions", "naming"},
    "tasks": {"layers", "losses"},
    "training": {"config", "files", "layers", "losses", "metrics", "models"},
}
PIPELINE = {
    "__init__": {"components"},
    "callbacks": {"config", "data", "evaluation"},
    "cli": {"config", "onboarding", "report", "runner", "studies", "updating", "vertex"},
    "components": {"config", "data", "evaluation"},
    "config": set(),
    "data": set(),
    "definition": {"components", "config", "data", "evaluation"},
    "evaluation": {"config", "data"},
    "onboarding": {"config", "data"},
    "report": {"config", "data", "evaluation"},
    "runner": {"config", "data", "definition", "evaluation"},
    "studies": {"config"},
    "updating": {"callbacks", "config", "data"},
    "vertex": {"components", "config", "definition", "runner"},
}


def imports(path: pathlib.Path, inside_functions: bool = True) -> set[str]:
    """Dotted names of all that a module imports."""
    tree = ast.parse(path.read_text())
    results: set[str] = set()
    nodes = ast.walk(tree) if inside_functions else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            results |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            results |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return results


def modules(package: str) -> list[pathlib.Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if path.name != "setup.py")


def room(path: pathlib.Path, package: str) -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def neighbours(path: pathlib.Path, package: str) -> set[str]:
    """The rooms of the same package that a module imports, its own left out."""
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
    known = {room(other, package) for other in modules(package)}
    return (rooms & known) - {room(path, package), "__init__", "lazy"}  # `lazy` is for every `__init__`


@pytest.mark.parametrize(("package", "allowed"), [("tfrec_fusion", LIBRARY), ("pipeline", PIPELINE)])
def test_every_room_is_listed_and_every_listed_import_is_made(package, allowed):
    made: dict[str, set[str]] = {}
    for path in modules(package):
        made.setdefault(room(path, package), set()).update(neighbours(path, package))
    made = {name: rooms for name, rooms in made.items() if name != "__init__" or rooms}
    assert made == allowed


@pytest.mark.parametrize(("package", "allowed"), [("tfrec_fusion", LIBRARY), ("pipeline", PIPELINE)])
def test_rooms_import_each_other_in_one_direction(package, allowed):
    graphlib.TopologicalSorter(allowed).prepare()  # raises CycleError


@pytest.mark.parametrize("path", modules("tfrec_fusion"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_librarys_import_directions(path):
    assert neighbours(path, "tfrec_fusion") <= LIBRARY.get(room(path, "tfrec_fusion"), set())
    outside = {name.split(".")[0] for name in imports(path)}
    assert not outside & {
        "pipeline",
        "tfx",
        "apache_beam",
        "tensorflow_model_analysis",
        "tests",
        "benchmarks",
    }


@pytest.mark.parametrize("path", modules("pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_pipelines_import_directions(path):
    assert neighbours(path, "pipeline") <= PIPELINE.get(room(path, "pipeline"), set())


def test_the_librarys_modules_import_each_other_in_one_direction():
    """Imports inside functions and for type checkers count too."""
    paths = [path for path in modules("tfrec_fusion") if path.name != "__init__.py"]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    graph = {name: imports(path) & set(names) - {name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_callbacks_are_dotted_strings_in_the_definition():
    paths = sorted((ROOT / "pipeline/definition").glob("*.py"))
    assert not {name for path in paths for name in imports(path) if name.startswith("pipeline.callbacks")}
    assert any("pipeline.callbacks.training.run_" in path.read_text() for path in paths)


def test_the_command_line_imports_nothing_heavy_at_the_top():
    for path in modules("pipeline/cli"):
        top = {name.split(".")[0] for name in imports(path, inside_functions=False)}
        assert not top & {"tensorflow", "tfx", "numpy", "pandas", "pyarrow", "yaml"}, path


def test_components_keep_their_annotations_readable():
    """TFX reads raw annotations of component functions, which the future import turns into strings."""
    for path in modules("pipeline/components"):
        if "@component" in path.read_text():
            assert "from __future__ import annotations" not in path.read_text(), path
