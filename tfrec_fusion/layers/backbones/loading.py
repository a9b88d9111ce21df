"""Gives a Transformer the tensors of a file, or says which do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.family import Family, Names, Slice
from tfrec_fusion.layers.backbones.norms import Norm
from tfrec_fusion.layers.backbones.transformer import Transformer
from tfrec_fusion.layers.lora import LoraDense

# Buffers that some versions write beside the weights.
_NO_WEIGHTS = re.compile(r"(position_ids|inv_freq|\.attn\.bias|\.attn\.masked_bias|\.embed_scale)$")
_SHOWN = 3

Part = Any
"""A `tf.Variable`, or a layer of Keras; neither has types."""


def parts(transformer: Transformer) -> Iterator[tuple[str, int | None, Part]]:
    """What a built Transformer consists of: the part's name in `Family.names`, its block, and the table or
    layer."""
    tables = {
        "tokens": transformer.tokens,
        "positions": transformer.positions,
        "segments": transformer.segments,
        "bias_by_distance": transformer.bias_table,
        "distances": transformer.distances,
        "embedding_norm": transformer.embedding_norm,
        "projection": transformer.projection,
        "distance_norm": transformer.distance_norm,
        "final_norm": transformer.final_norm,
    }
    for name, part in tables.items():
        if part is not None:
            yield name, None, part
    for place, block in enumerate(transformer.blocks):
        attention, feed_forward = block.attention, block.feed_forward
        held = {
            "query": attention.query,
            "key": attention.key,
            "value": attention.value,
            "output": attention.output_matrix,
            "query_norm": attention.query_norm,
            "key_norm": attention.key_norm,
            "ffn_in": feed_forward.ffn_in,
            "ffn_gate": feed_forward.ffn_gate,
            "ffn_out": feed_forward.ffn_out,
            **block.norms,
        }
        for name, part in held.items():
            if part is not None:
                yield f"block.{name}", place, part


def load(transformer: Transformer, family: Family, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Assigns every variable from a file's tensors.

    Tensors of heads, which an encoder does not have, are left alone.

    Args:
        transformer: built.
        family: what the tensors are called.
        tensors: by PyTorch's names.
        source: where they come from, for messages.

    Raises:
        ValueError: if tensors are missing, have another shape, or belong to the encoder and have no use.
    """
    named = {_today(name): name for name in tensors}
    names = family.names_in(named)
    prefix = _prefix(family, named, source)
    used: set[str] = set()
    missing: list[str] = []
    for part, block, layer in parts(transformer):
        name = names[part]
        for variable, suffix, turned in _variables(layer, family.transposed):
            place = name if isinstance(name, Slice) else Slice(name, 0, 1)
            wanted = prefix + place.name.format(block) + suffix
            if wanted not in named:
                missing.append(wanted)
                continue
            used.add(wanted)
            value = tensors[named[wanted]]
            _check_shape(variable, value, place, turned, wanted, source)
            if not np.isfinite(value).all():
                raise ValueError(
                    f"Weights must be finite. Received: {source} with {wanted} of which"
                    f" {np.mean(~np.isfinite(value)):.1%} are not. Download the model again, or take a copy"
                    " in float32."
                )
            if turned:
                value = value.T
            variable.assign(np.split(value, place.parts, axis=-1)[place.place])
    if missing:
        raise ValueError(
            f"A model's files must hold every tensor of its encoder. Received: {source} without"
            f" {_shown(missing)}. Take weights that match the config.json."
        )
    roots = tuple(prefix + root for root in _roots(names))
    unknown = [
        name for name in named if name.startswith(roots) and name not in used and not _NO_WEIGHTS.search(name)
    ]
    if unknown:
        raise ValueError(
            f"Every tensor of an encoder must have its place in the network. Received: {source} with"
            f" {_shown(unknown)}, for which its config.json has no use. Take the config.json that belongs to"
            " the weights."
        )


def _today(name: str) -> str:
    """Layer norms of old files are called by TensorFlow's names."""
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


def _prefix(family: Family, named: Mapping[str, str], source: str) -> str:
    """What stands before the encoder's names, such as `bert.` in a model with a head."""
    tokens = family.names["tokens"]
    ending = f"{tokens}.weight"
    found = sorted((name for name in named if name == ending or name.endswith(f".{ending}")), key=len)
    if not found:
        raise ValueError(
            f"A model's files must hold its token table, {ending}. Received: {source} with"
            f" {_shown(sorted(named))}. Take the weights of this family, or the config.json of theirs."
        )
    return found[0].removesuffix(ending)


def _roots(names: Names) -> set[str]:
    """The first parts of the encoder's names: what else begins so belongs to it."""
    whole = (name.name if isinstance(name, Slice) else name for name in names.values())
    return {name.split(".")[0] + "." for name in whole}


def _variables(layer: Part, transposed: bool) -> Iterator[tuple[tf.Variable, str, bool]]:
    """Each variable with the ending of its tensor's name, and whether PyTorch has it turned."""
    layer = layer.base if isinstance(layer, LoraDense) else layer
    if isinstance(layer, tf_keras.layers.Dense):
        yield layer.kernel, ".weight", transposed
        if layer.use_bias:
            yield layer.bias, ".bias", False
    elif isinstance(layer, Norm):
        yield layer.gamma, ".weight", False
        if layer.beta is not None:
            yield layer.beta, ".bias", False
    else:
        yield layer, ".weight", False


def _check_shape(
    variable: tf.Variable, value: np.ndarray, place: Slice, turned: bool, name: str, source: str
) -> None:
    expected = [*variable.shape[:-1], variable.shape[-1] * place.parts]
    if turned:
        expected.reverse()
    if list(value.shape) != expected:
        raise ValueError(
            f"Each tensor must have the shape that config.json says. Received: {source} with {name} of shape"
            f" {list(value.shape)} where it says {expected}. Take the config.json that belongs to the"
            " weights."
        )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
