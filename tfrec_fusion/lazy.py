"""Public names of a package, each imported when it is first asked for (PEP 562).

A package's `__init__` lists its names once for users (`__all__`) and once for type checkers (imports under
`TYPE_CHECKING`); the same imports tell here where each name lives, so that importing a package costs nothing
and asking for one name imports that name's module only. Scientific Python's `lazy_loader` reads stub files in
the same way.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`, made from the imports that its `__init__` has under
    `TYPE_CHECKING`.

    Args:
        package: the package's `__name__`.
    """
    module = sys.modules[package]
    names: list[str] = module.__all__
    homes: dict[str, str] = {}

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; public are {', '.join(names)}"
            )
        if not homes:
            source = module.__spec__.loader.get_source(package)  # type: ignore[union-attr]
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    homes.update((alias.name, node.module) for alias in node.names)
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return __getattr__, lambda: sorted({*vars(module), *names})
