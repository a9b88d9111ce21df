"""Family of Transformers: what the keys of a `config.json` mean, and what tensors are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tfrec_fusion.layers.backbones.architecture import Architecture, Rope


@dataclasses.dataclass(frozen=True)
class Slice:
    """A part of a tensor that holds several matrices one behind the other along its outputs.

    Attributes:
        name: the tensor's name without `.weight` or `.bias`.
        place: which part.
        parts: how many there are.
    """

    name: str
    place: int
    parts: int


Names = Mapping[str, str | Slice]


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
        defaults: the keys of `config.json` that decide the network, with transformers' values where the file
            is silent.
        architecture: those keys' values as an `Architecture`.
        names: tensors by their part of a `Transformer`, without a prefix that heads bring (`bert.`); `{}` is
            the block's index.
        only: keys that have to have one of these values, since the network would be another.
        transposed: whether matrices are stored `[outputs, inputs]`, as PyTorch's `Linear` does.
        other_names: what some files call them instead.
    """

    defaults: Mapping[str, Any]
    architecture: Callable[[Mapping[str, Any]], Architecture]
    names: Names
    only: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    transposed: bool = True
    other_names: Names | None = None

    def names_in(self, tensors: Collection[str]) -> Names:
        """`names`, or `other_names` where a file's `tensors` are called so."""
        if self.other_names is None:
            return self.names
        query = self.other_names["block.query"]
        ending = (query.name if isinstance(query, Slice) else query).format(0) + ".weight"
        return self.other_names if any(name.endswith(ending) for name in tensors) else self.names


def rope(values: Mapping[str, Any], theta: float) -> Rope:
    """Rotary positions as `rope_scaling` says.

    Raises:
        ValueError: for a kind of scaling that there is not.
    """
    scaling = dict(values.get("rope_scaling") or {})
    kind = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    needs = {
        "default": (),
        "linear": ("factor",),
        "ntk": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    }
    if kind not in needs or not set(needs[kind]) <= set(scaling):
        raise ValueError(
            f"`rope_scaling` must be of the type {', '.join(needs)}, with its factors. Received:"
            f" {values.get('rope_scaling')!r}. Take an encoder with another scaling, or remove it for texts"
            " that are no longer than those it was first trained on."
        )
    return Rope(theta, kind, {key: float(scaling[key]) for key in needs[kind]})
