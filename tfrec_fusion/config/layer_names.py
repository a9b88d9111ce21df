"""Layers named by a configuration: built-in ones by a word, Keras layers of your own by import path."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import pathlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class LayerName:
    """Rule of a setting that names a layer: a built-in one, or `package.module.Class`.

    Attributes:
        built_in: names of the built-in layers.
        arguments: keyword arguments that a class of your own is made with.
    """

    built_in: tuple[str, ...]
    arguments: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        """The rule that a value breaks, the value and the way out; None where it names a layer.

        A class of your own is imported for this, and TensorFlow with it.
        """
        if value in self.built_in:
            return None
        if not isinstance(value, str) or "." not in value:
            near = difflib.get_close_matches(str(value), self.built_in, n=1)
            advice = f" Did you mean {near[0]!r}?" if near else ""
            return (
                f"must be one of {', '.join(map(repr, self.built_in))}, or the import path of a Keras layer"
                f" of your own, such as 'mypackage.layers.MyLayer'. Received: {value!r}.{advice}"
            )
        return self._own_problem(value)

    def _own_problem(self, path: str) -> str | None:
        import tf_keras

        name = path.rpartition(".")[2]
        try:
            layer = own_class(path)
        except AttributeError:
            return (
                f"names no class: there is no {name!r} in its module. Received: {path!r}. Correct the path."
            )
        except Exception as error:  # importing runs anybody's code
            return (
                f"cannot be imported: {type(error).__name__}: {error}. Received: {path!r}. Install the"
                " package, or put its folder into PYTHONPATH."
            )
        if not (inspect.isclass(layer) and issubclass(layer, tf_keras.layers.Layer)):
            return (
                f"must name a class derived from `tf_keras.layers.Layer` (Keras 2). Received: {path!r},"
                f" which is {layer!r}. Derive it from that class, with `import tfrec_fusion` before"
                " TensorFlow."
            )
        if tf_keras.saving.get_registered_name(layer) == layer.__name__:
            return (
                f"must name a class that Keras knows. Received: {path!r}. Decorate it with"
                f" `@tf_keras.saving.register_keras_serializable(package={path.partition('.')[0]!r})`."
            )
        try:
            inspect.signature(layer).bind(**dict.fromkeys(self.arguments))
        except TypeError as error:
            return (
                f"must name a class made with {', '.join(f'`{one}=`' for one in self.arguments)}. Received:"
                f" {path!r} ({error}). Take these arguments in its `__init__`."
            )
        return None


def own_class(path: str) -> Any:
    """The class at an import path.

    Raises:
        ImportError, AttributeError: if there is none.
    """
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def own_sources(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the modules that hold a configuration's own layers, so that a change trains again.

    Args:
        settings: a model's settings as plain values (`dataclasses.asdict`).

    Returns:
        Import path → digest of its module's source; empty where all layers are built in.
    """
    tower = settings.get("tower", {})
    names = (tower.get("fusion"), tower.get("history_encoder"), settings.get("head"))
    sources = {}
    for path in names:
        if path and "." in path:
            file = inspect.getsourcefile(own_class(path))
            sources[path] = hashlib.sha256(pathlib.Path(str(file)).read_bytes()).hexdigest()[:16]
    return sources
