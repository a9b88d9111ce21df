"""What the page knows before it asks a model: the models' names, the server's address, and the contract of
requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tfrec_fusion.export.request import DIAGNOSES, INPUTS, REFUSED


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
