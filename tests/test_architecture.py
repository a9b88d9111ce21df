"""Who may import whom, read from the sources: the rooms of DESIGN stay apart."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = {
    "lazy": set(),
    "config": set(),
    "layers": set(),
    "replicas": set(),
    "losses": {"replicas"},
    "metrics": set(),
    "index": set(),
    "serving": set(),
    "datasets": {"config"},
    "tasks": {"losses", "metrics", "replicas"},
    "models": {"config", "layers", "losses", "metrics", "replicas", "tasks"},
    "cluster": set(),
    "steps": {"models"},
    "training": {"cluster", "config", "layers", "models", "index", "metrics", "steps"},
    "explain": {"models"},
    "saving": set(),
    "export_ranking": {"export", "models"},
    "export_retrieval": {"export", "index", "layers", "models"},
    "recommender": {"export", "export_ranking", "export_retrieval", "index", "models"},
    "export": {"config", "models", "saving"},
}
PIPELINE = {
    "progress": set(),
    "__init__": {"components"},
    "vertex_config": set(),
    "google_clients": set(),
    "config": {"vertex_config"},
    "places": {"config", "vertex_config"},
    "console": set(),
    "features": set(),
    "examples": set(),
    "catalogue": {"features"},
    "preprocessing": {"features"},
    "trainer": {"catalogue", "features", "progress"},
    "recommender": {"trainer"},
    "batch": {"catalogue"},
    "evaluation": {"config", "examples", "features", "progress"},
    "text_vectors": {"progress"},
    "preparation": {"config", "features", "components", "text_vectors"},
    "offline_figures": {"config", "preparation"},
    "ablation": {"config", "offline_figures", "preparation"},
    "tuning": {"ablation", "config", "preparation"},
    "components": {
        "catalogue",
        "evaluation",
        "examples",
        "google_clients",
        "progress",
        "text_vectors",
        "vertex_config",
    },
    "definition": {"config", "components", "evaluation", "features", "places"},
    "vertex": {"components", "config", "definition", "google_clients", "places", "vertex_config"},
    "vertex_runner": {"config", "vertex"},
    "summary": {"config", "evaluation"},
    "report": {"catalogue", "config", "evaluation", "examples"},
    "interruption": set(),
    "new_items": {"catalogue", "features", "recommender", "text_vectors", "trainer"},
    "index_definition": {"components", "config", "definition"},
    "launching": {"console", "interruption", "summary"},
    "local_runner": {
        "config",
        "console",
        "definition",
        "index_definition",
        "interruption",
        "launching",
        "progress",
        "summary",
    },
    "column_names": set(),
    "times": {"column_names"},
    "profiles": {"column_names", "times"},
    "id_columns": {"column_names", "profiles"},
    "entity_columns": {"column_names", "id_columns", "profiles"},
    "guessing": {"column_names", "entity_columns", "id_columns", "profiles"},
    "measuring": {"config"},
    "starter": {"config", "guessing", "id_columns", "measuring"},
    "checking": {"config", "measuring"},
    "getting_started": {"checking", "config", "guessing", "id_columns", "starter"},
    "doctor": set(),
    "command_line": set(),
    "demo": {"config"},
    "cli": {
        "ablation",
        "batch",
        "command_line",
        "config",
        "console",
        "demo",
        "doctor",
        "getting_started",
        "local_runner",
        "report",
        "tuning",
        "vertex_runner",
    },
}


def imports(path: pathlib.Path, inside_functions: bool = True) -> set[str]:
    """Dotted names of all that a module imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = ast.walk(tree) if inside_functions else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(package: str) -> list[pathlib.Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(path: pathlib.Path, package: str) -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def neighbours(path: pathlib.Path, package: str) -> set[str]:
    """The rooms of the same package that a module imports, its own left out."""
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
    known = {room(other, package) for other in modules(package)}
    return (rooms & known) - {room(path, package), "__init__", "lazy"}  # `lazy` is for every `__init__`


@pytest.mark.parametrize(("package", "allowed"), [("tfrec_fusion", LIBRARY), ("pipeline", PIPELINE)])
def test_every_room_is_listed(package, allowed):
    rooms = {room(path, package) for path in modules(package)} - {"__init__"}
    assert rooms <= set(allowed), f"say who may import what: {rooms - set(allowed)}"


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


def test_callbacks_are_dotted_strings_in_the_definition():
    text = (ROOT / "pipeline/definition.py").read_text()
    assert not imports(ROOT / "pipeline/definition.py") & {"pipeline.trainer", "pipeline.preprocessing"}
    assert "pipeline.trainer.run_" in text


def test_the_command_line_imports_nothing_heavy_at_the_top():
    top = {name.split(".")[0] for name in imports(ROOT / "pipeline/cli.py", inside_functions=False)}
    assert not top & {"tensorflow", "tfx", "numpy", "pandas", "pyarrow", "yaml"}


def test_components_keep_their_annotations_readable():
    """TFX reads raw annotations of component functions, which the future import turns into strings."""
    for path in modules("pipeline/components"):
        assert "from __future__ import annotations" not in path.read_text(), path
