"""tf.train.Examples, made and read one at a time."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def make_example(values: dict[str, Any]) -> bytes:
    """A serialised tf.train.Example of strings, ints, floats and lists of them; None and empty lists are left
    out."""
    example = tf.train.Example()
    for name, value in values.items():
        if value is None:
            continue
        entries = value if isinstance(value, (list, tuple)) else [value]
        if not entries:
            continue
        feature = example.features.feature[name]
        if isinstance(entries[0], str):
            feature.bytes_list.value.extend([entry.encode("utf-8", "replace") for entry in entries])
        elif isinstance(entries[0], float):
            feature.float_list.value.extend(entries)
        else:
            feature.int64_list.value.extend(entries)
    return example.SerializeToString(deterministic=True)


def read(example: tf.train.Example, name: str) -> list:
    """Values of a feature: strings, ints or floats; empty where it is missing."""
    if name not in example.features.feature:
        return []
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return [value.decode("utf-8", "replace") for value in values] if kind == "bytes_list" else values


def read_bytes(example: tf.train.Example, name: str) -> list[bytes]:
    """Values of a feature of strings, as they are; empty where it is missing."""
    feature = example.features.feature
    return list(feature[name].bytes_list.value) if name in feature else []
