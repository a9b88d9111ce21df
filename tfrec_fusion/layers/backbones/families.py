"""Families of Transformers: what the keys of a `config.json` mean, and what tensors are called."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
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
    """

    defaults: Mapping[str, Any]
    architecture: Callable[[Mapping[str, Any]], Architecture]
    names: Names
    only: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    transposed: bool = True


def families() -> dict[str, Family]:
    """Every family by `model_type`."""
    from tfrec_fusion.layers.backbones.bert_families import BERT_FAMILIES
    from tfrec_fusion.layers.backbones.decoder_families import DECODER_FAMILIES
    from tfrec_fusion.layers.backbones.rotary_families import ROTARY_FAMILIES

    return {**BERT_FAMILIES, **ROTARY_FAMILIES, **DECODER_FAMILIES}


def family(config: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        ValueError: for a `model_type` that there is not.
    """
    kind = config.get("model_type")
    known = families()
    if kind not in known:
        raise ValueError(
            f"`model_type` must be one of {', '.join(known)}. Received: {kind!r}. Choose an encoder of one of"
            " these families; encoder-decoders give no sentence vectors here."
        )
    return known[kind]


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a `config.json` that decide the network, each spelt out, as plain JSON values.

    Versions of transformers write the same network in different ways and with other defaults; here it is
    written in one.

    Raises:
        ValueError: for a `model_type` that there is not, or a value that the network here does not have.
    """
    kind = family(config)
    values = {"model_type": config["model_type"], **kind.defaults}
    values |= {key: config[key] for key in kind.defaults if key in config}
    values |= {key: value for key, value in _rope_keys(config).items() if key in values}
    for key, allowed in kind.only.items():
        if values[key] not in allowed:
            raise ValueError(
                f"`{key}` must be {' or '.join(map(repr, allowed))} in the config.json of a"
                f" {values['model_type']!r}. Received: {values[key]!r}. Take another encoder of this family."
            )
    return json.loads(json.dumps(values))


def _rope_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes under `rope_parameters`, by the keys of transformers 4."""
    whole: Mapping[str, Any] = config.get("rope_parameters") or {}
    keys: dict[str, Any] = {}
    if "sliding_attention" in whole or "full_attention" in whole:  # one for each kind of block
        local = (whole.get("sliding_attention") or {}).get("rope_theta")
        if local is not None:
            keys |= {"local_rope_theta": local, "rope_local_base_freq": local}
        whole = whole.get("full_attention") or {}
    if not whole:
        return keys
    scaling = {key: value for key, value in whole.items() if key != "rope_theta"}
    keys["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    if "rope_theta" in whole:
        keys |= {"rope_theta": whole["rope_theta"], "global_rope_theta": whole["rope_theta"]}
    return keys


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
