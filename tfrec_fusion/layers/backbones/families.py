"""Families of Transformers by `model_type`, and a `config.json` in one form, whatever version wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tfrec_fusion.layers.backbones.architecture import Architecture
from tfrec_fusion.layers.backbones.bert_families import BERT_FAMILIES
from tfrec_fusion.layers.backbones.decoder_families import DECODER_FAMILIES
from tfrec_fusion.layers.backbones.family import Family
from tfrec_fusion.layers.backbones.rotary_families import ROTARY_FAMILIES

FAMILIES: dict[str, Family] = {**BERT_FAMILIES, **ROTARY_FAMILIES, **DECODER_FAMILIES}
"""Every family by `model_type`."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        ValueError: for a `model_type` that there is not.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"`model_type` must be one of {', '.join(FAMILIES)}. Received: {kind!r}. Choose an encoder of one"
            " of these families; encoder-decoders give no sentence vectors here."
        )
    return FAMILIES[kind]


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a `config.json` that decide the network, each spelt out, as plain JSON values.

    Versions of transformers write the same network in different ways and with other defaults; here it is
    written in one.

    Raises:
        ValueError: for a `model_type` that there is not, or a value that the network here does not have.
    """
    kind = family_of(config)
    values = {"model_type": config["model_type"], **kind.defaults}
    values |= {key: config[key] for key in kind.defaults if key in config}
    values |= {key: value for key, value in _rope_keys(config).items() if key in values}
    for key, usual in kind.defaults.items():
        if not _is_like(values[key], usual):
            raise ValueError(
                f"`{key}` must be {_KINDS[type(usual)]} in the config.json of a {values['model_type']!r}."
                f" Received: {values[key]!r}. Take the config.json that belongs to the weights."
            )
    for key, allowed in kind.only.items():
        if values[key] not in allowed:
            raise ValueError(
                f"`{key}` must be {' or '.join(map(repr, allowed))} in the config.json of a"
                f" {values['model_type']!r}. Received: {values[key]!r}. Take another encoder of this family."
            )
    return json.loads(json.dumps(values))


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _is_like(value: Any, usual: Any) -> bool:
    """Whether a value is of the kind of the usual one; null is left to what reads it."""
    if value is None or type(usual) not in _KINDS:
        return True
    if isinstance(usual, (bool, str)):
        return isinstance(value, type(usual))
    number = type(value) is int or (type(value) is float and math.isfinite(value))
    return number and (isinstance(usual, float) or value == int(value))


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The network of a configuration in the form of `plain_config`.

    Raises:
        ValueError: for a size that is missing or out of range, or a scaling that there is not.
    """
    try:
        return family_of(config).architecture(config)
    except (TypeError, ZeroDivisionError) as error:
        sizes = {key: value for key, value in config.items() if value is None}
        raise ValueError(
            f"The config.json of a {config['model_type']!r} must say each size. Received: {sizes}, with which"
            f" the network cannot be made ({error}). Take the config.json that belongs to the weights."
        ) from error


def _rope_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes under `rope_parameters`, by the keys of transformers 4."""
    whole = config.get("rope_parameters") or {}
    if not isinstance(whole, Mapping):
        raise ValueError(
            f"`rope_parameters` must be an object in a config.json. Received: {whole!r}. Take the config.json"
            " that belongs to the weights."
        )
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
