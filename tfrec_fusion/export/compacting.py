"""Makes a SavedModel's functions smaller, with the same answers: what is computed twice is computed once,
what nothing reads goes, and names are short.

TensorFlow copies all functions of a graph for each signature that it prepares, so that loading and warming
up a model cost as much as its graph is large, in TF Serving as in the embedded server. Its own optimiser
does the same work (common subexpressions, pruning), but anew for each signature, in each process, at each
load.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["compact"]

SHAPES = "_output_shapes"
COLOCATED = "_class", b"loc:@"
KEPT_NAME = 9
"""Letters of a node's name that stay before its number: what an error names, in strings so short that C++
holds them without an allocation of their own."""


def compact(folder: pathlib.Path) -> tuple[int, int]:
    """Rewrites `saved_model.pb` of a SavedModel, and its fingerprint.

    Returns:
        The number of nodes in functions, before and after.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    before = after = 0
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            before += len(function.node_def)
            _compact_function(function)
            after += len(function.node_def)
    staging = path.with_suffix(".new")
    staging.write_bytes(saved.SerializeToString(deterministic=True))
    os.replace(staging, path)
    _write_fingerprint(folder)
    return before, after


def _compact_function(function: Any) -> None:
    """Merges equal nodes of a FunctionDef, drops those that no result needs, and renames the rest."""
    nodes = {node.name: node for node in function.node_def}
    results = [
        _producer(value)
        for outputs in (function.ret, function.control_ret)
        for _, value in sorted(outputs.items())
    ]
    renamed: dict[str, str] = {}
    known: dict[tuple, str] = {}
    kept: list[Any] = []
    for name in _in_order(nodes, results):
        node = nodes[name]
        inputs = [_renamed(value, renamed) for value in node.input if not value.startswith("^")]
        controls = dict.fromkeys(_renamed(value, renamed) for value in node.input if value.startswith("^"))
        del node.input[:]
        node.input.extend([*inputs, *controls])
        if node.op == "Const":
            node.attr.pop(SHAPES, None)
        key = _identity(node) if _is_pure(node.op) else None
        if key is not None and key in known:
            renamed[name] = known[key]
            continue
        # No argument of a function has a point in its name.
        renamed[name] = f"{_told(name)}.{len(kept)}"
        if key is not None:
            known[key] = renamed[name]
        kept.append(type(node).FromString(node.SerializeToString()))
        kept[-1].name = renamed[name]
    for node in kept:
        _colocate(node, renamed)
    del function.node_def[:]
    function.node_def.extend(kept)
    for result, value in dict(function.ret).items():
        function.ret[result] = _renamed(value, renamed)
    for result, value in dict(function.control_ret).items():
        function.control_ret[result] = renamed[value]


def _in_order(nodes: dict[str, Any], results: Iterable[str]) -> Iterator[str]:
    """Names of the nodes that results need, each after its inputs."""
    seen: set[str] = set()
    for result in results:
        if result not in nodes or result in seen:
            continue
        seen.add(result)
        waiting = [(result, iter(nodes[result].input))]
        while waiting:
            name, inputs = waiting[-1]
            for value in inputs:
                producer = _producer(value)
                if producer in nodes and producer not in seen:
                    seen.add(producer)
                    waiting.append((producer, iter(nodes[producer].input)))
                    break
            else:
                yield name
                waiting.pop()


def _told(name: str) -> str:
    """What of a node's name tells a reader something."""
    return name.rpartition("/")[2].partition(".")[0].rstrip("_0123456789")[:KEPT_NAME] or "n"


def _producer(value: str) -> str:
    """The node or argument of an input such as `a:out:0`, `a` or `^a`."""
    return value.lstrip("^").partition(":")[0]


def _renamed(value: str, renamed: dict[str, str]) -> str:
    producer = _producer(value)
    return value.replace(producer, renamed.get(producer, producer), 1)


def _is_pure(op: str) -> bool:
    """Whether an operation gives the same for the same inputs, and does nothing else. Of functions that a
    graph calls nothing is known."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    return definition is not None and not definition.is_stateful and op not in ("NoOp", "Placeholder")


def _identity(node: Any) -> tuple:
    """What two nodes must share to be one."""
    attributes = sorted((name, value) for name, value in node.attr.items() if name != SHAPES)
    return (
        node.op,
        node.device,
        *node.input,
        *((name, value.SerializeToString(deterministic=True)) for name, value in attributes),
    )


def _colocate(node: Any, renamed: dict[str, str]) -> None:
    """Nodes that stand beside another one name it."""
    attribute, prefix = COLOCATED
    if attribute not in node.attr:
        return
    groups = node.attr[attribute].list
    names = [group.removeprefix(prefix).decode() for group in groups.s]
    del groups.s[:]
    groups.s.extend(prefix + renamed.get(name, name).encode() for name in names)


def _write_fingerprint(folder: pathlib.Path) -> None:
    """A fingerprint is of `saved_model.pb` as it is; without one a SavedModel loads all the same."""
    path = folder / "fingerprint.pb"
    path.unlink(missing_ok=True)
    try:
        from tensorflow.python.saved_model import fingerprinting_utils
    except ImportError:  # not part of TensorFlow's public interface
        return
    fingerprinting_utils.write_fingerprint(str(folder))
