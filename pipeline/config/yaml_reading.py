"""YAML whose keys are names as they are written: `on`, `yes` and `no` are no truth values there."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads the key of `join: {on: order_id}` or `label_values: {yes: 1}` as true."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What a YAML text holds.

    >>> read_yaml("{on: order_id, yes: 1, sure: yes}")
    {'on': 'order_id', 'yes': 1, 'sure': True}

    Raises:
        yaml.YAMLError: where it is no YAML.
    """
    return yaml.load(text, _Loader)
