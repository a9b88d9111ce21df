"""Figures of the checkout's shape: rooms, imports, sizes, public names that nothing uses, words of README.

    python tools/house.py [ROOT [ROOT]]

prints a table with a column for each checkout, this one where none is given. Reads sources alone and imports
nothing.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import graphlib
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("tfrec_fusion", "pipeline")
USERS = ("tfrec_fusion", "pipeline", "benchmarks", "notebooks", "tools", "docker")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.S | re.M)
WORD = re.compile(r"[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True)
class Function:
    """A function or method, and how many lines it has."""

    path: str
    name: str
    lines: int


def sources(root: pathlib.Path, package: str) -> list[pathlib.Path]:
    """The modules of a package."""
    return sorted(path for path in (root / package).rglob("*.py") if path.name != "setup.py")


def room(root: pathlib.Path, path: pathlib.Path) -> str:
    """The room that a module is in: `package/room`, or `package/module` for a loose file."""
    package, first, *_ = path.relative_to(root).parts
    return f"{package}/{first.removesuffix('.py')}"


def imported(path: pathlib.Path) -> set[str]:
    """Dotted names of all that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_graph(root: pathlib.Path) -> dict[str, set[str]]:
    """Each module's imports of modules of both packages, as dotted names."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for package in PACKAGES
        for path in sources(root, package)
    }
    return {name: imported(path) & set(paths) - {name} for name, path in paths.items()}


def room_arrows(root: pathlib.Path) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second; packages' `__init__` and `lazy` left out."""
    arrows = set()
    for package in PACKAGES:
        for path in sources(root, package):
            here = room(root, path)
            for name in imported(path):
                parts = name.split(".")
                if parts[0] in PACKAGES and len(parts) > 1:
                    there = "/".join(parts[:2])
                    known = (root / there).is_dir() or (root / f"{there}.py").is_file()
                    if known and there != here and not here.endswith("__init__") and parts[1] != "lazy":
                        arrows.add((here, there))
    return arrows


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of imports, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def functions(root: pathlib.Path) -> list[Function]:
    """All functions and methods of both packages, the longest first."""
    result = []
    for package in PACKAGES:
        for path in sources(root, package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    lines = int(node.end_lineno or node.lineno) - node.lineno + 1
                    result.append(Function(str(path.relative_to(root)), node.name, lines))
    return sorted(result, key=lambda function: -function.lines)


def modules(root: pathlib.Path) -> list[tuple[int, str]]:
    """Lines and path of each module of both packages, the longest first."""
    paths = [path for package in PACKAGES for path in sources(root, package)]
    return sorted(
        ((len(path.read_text(encoding="utf-8").splitlines()), str(path.relative_to(root))) for path in paths)
    )[::-1]


def public_names(root: pathlib.Path) -> dict[str, str]:
    """`path:name` or `path:Class.method` of what modules define without an underscore → the name itself."""
    result = {}
    for package in PACKAGES:
        for path in sources(root, package):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in _defined(node):
                    result[f"{path.relative_to(root)}:{name}"] = name
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    for inner in node.body:
                        if isinstance(inner, DEFINITIONS) and not inner.name.startswith("_"):
                            key = f"{path.relative_to(root)}:{node.name}.{inner.name}"
                            result[key] = inner.name
    return result


def unused_names(root: pathlib.Path) -> list[str]:
    """Public names that no code but tests, no notebook and no document's code mentions.

    Names are compared as words: one that is used under the same name elsewhere counts as used. Its
    definition, `__all__` and the imports of `__init__` are no uses.
    """
    uses: collections.Counter[str] = collections.Counter()
    for user in USERS:
        for path in sorted((root / user).rglob("*.py")):
            uses.update(_mentions(path))
    for path in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]:
        if path.is_file():
            for code in CODE.findall(path.read_text(encoding="utf-8")):
                uses.update(WORD.findall(code))
    for path in [root / "Makefile", root / "setup.py", root / "pyproject.toml"]:
        if path.is_file():
            uses.update(WORD.findall(path.read_text(encoding="utf-8")))
    names = public_names(root)
    defined = collections.Counter(names.values())
    return sorted(key for key, name in names.items() if uses[name] - defined[name] <= 0)


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, DEFINITIONS):
        names = [node.name]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        names = [node.target.id]
    else:
        return
    yield from (name for name in names if not name.startswith("_"))


def _mentions(path: pathlib.Path) -> Iterator[str]:
    """Words of a module's code and strings, the definitions among them; docstrings and `__all__` left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (*DEFINITIONS, ast.Module)) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            skipped |= set(range(text.lineno, int(text.end_lineno or 0) + 1))
        exports = isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        )
        if exports or (path.name == "__init__.py" and isinstance(node, ast.ImportFrom)):
            skipped |= set(range(node.lineno, int(node.end_lineno or 0) + 1))
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.start[0] in skipped:
                continue
            if token.type == tokenize.NAME:
                yield token.string
            elif token.type == tokenize.STRING:
                yield from WORD.findall(token.string)


def entries(folder: pathlib.Path) -> list[str]:
    """Modules and folders of code at a package's top, `__init__` left out."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not entry.name.startswith("_")
        and (entry.suffix == ".py" or (entry.is_dir() and any(entry.rglob("*.py"))))
    )


def table(root: pathlib.Path) -> dict[str, str]:
    """Row → figure of one checkout."""
    graph = module_graph(root)
    longest_module, longest_function = modules(root)[0], functions(root)[0]
    top = {package: len(entries(root / package)) for package in PACKAGES}
    rows = {f"entries at the top of {package}/": str(count) for package, count in top.items()}
    rows["rooms"] = str(len({room(root, path) for package in PACKAGES for path in sources(root, package)}))
    rows["import arrows between rooms"] = str(len(room_arrows(root)))
    rows["import arrows between modules"] = str(sum(len(names) for names in graph.values()))
    ring = cycle(graph)
    rows["import cycles of modules"] = " → ".join(ring) if ring else "none"
    rows["modules, lines of code"] = f"{len(graph)}, {sum(lines for lines, _ in modules(root)):,}"
    rows["longest module"] = f"{longest_module[0]} lines, {longest_module[1]}"
    rows["longest function"] = (
        f"{longest_function.lines} lines, {longest_function.path}:{longest_function.name}"
    )
    rows["functions over 60 lines"] = str(sum(function.lines > 60 for function in functions(root)))
    rows["public names that nothing uses"] = str(len(unused_names(root)))
    rows["README words"] = str(len((root / "README.md").read_text(encoding="utf-8").split()))
    return rows


def main() -> None:
    """Prints the table."""
    roots = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]] or [ROOT]
    columns = [table(root) for root in roots]
    print("| | " + " | ".join(root.name for root in roots) + " |")
    print("|---" * (len(roots) + 1) + "|")
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(column[row] for column in columns) + " |")
    print("\nThe ten longest functions of the last:")
    for function in functions(roots[-1])[:10]:
        print(f"  {function.lines:4}  {function.path}:{function.name}")


if __name__ == "__main__":
    main()
