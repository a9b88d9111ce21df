"""Answers of the page's server beside a model's: names, the contract of requests, and explanations in
words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from tfrec_fusion.export.request import DIAGNOSES, INPUTS, REFUSED
from tfrec_fusion.serving.client.explanations import read_explanations


def page_settings(url: str, models: Iterable[str], pictures: bool) -> dict[str, Any]:
    """The settings as JSON has them.

    Args:
        url: of the model server, as the copied requests name it.
        models: their names on that server.
        pictures: whether items may have pictures.
    """
    inputs = {name: dataclasses.asdict(one) for name, one in INPUTS.items()}
    return {
        "url": url,
        "models": list(models),
        "pictures": pictures,
        "inputs": inputs,
        "diagnoses": list(DIAGNOSES),
        "refused": REFUSED,
    }


def sentences(asked: Mapping[str, Any]) -> list[str]:
    """Explanations in words, an item each, from the templates that `Explanation.sentence` has too.

    Args:
        asked: `outputs` of a signature `explain` for one row, by name, and the `language`.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: they are no such outputs.
    """
    (answer,) = read_explanations(asked["outputs"], None)
    return [explanation.sentence(asked["language"]) for explanation in answer]
