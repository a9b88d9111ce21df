"""EfficientNet-Lite0 in Keras: what its 1,000 classes of ImageNet say of a picture.

Tan and Le, 2019, https://arxiv.org/abs/1905.11946; the Lite variants leave out squeeze and excitation and
take ReLU6. Batch normalisation is folded into the convolutions, since nothing is trained here:
`w' = w γ / √(v + ε)`, `b' = β - m γ / √(v + ε)`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.torch_files import read_torch_weights

__all__ = ["SIZE", "efficientnet_lite", "principal_logits", "read_efficientnet"]

SIZE = 224
FEATURES = 1280
# Repeats, kernel, stride, expansion and filters of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_EPSILON = 1e-3


def efficientnet_lite(weights: Mapping[str, np.ndarray]) -> tf_keras.Model:
    """The network.

    Args:
        weights: name → array as PyTorch has them (`read_torch_weights`).

    Returns:
        A model of float32 `[batch, 224, 224, 3]`, RGB from 0 to 255, to its pooled features, float32
        `[batch, 1280]`.
    """
    inputs = tf_keras.Input([SIZE, SIZE, 3])
    network = _Network(weights)
    values = (inputs - 127.0) / 128.0  # as the Lite variants were trained
    values = network.convolution(values, "_conv_stem", "_bn0", stride=2)
    block, filters = 0, 32
    for repeats, _, stride, expansion, width in _STAGES:
        for repeat in range(repeats):
            step = 1 if repeat else stride
            values = network.block(
                values, f"_blocks.{block}", step, expansion, step == 1 and filters == width
            )
            block, filters = block + 1, width
    values = network.convolution(values, "_conv_head", "_bn1")
    values = tf_keras.layers.GlobalAveragePooling2D()(values)
    model = tf_keras.Model(inputs, values, name="efficientnet_lite0")
    for name, both in network.of.items():
        model.get_layer(name).set_weights(both)
    model.trainable = False
    return model


class _Network:
    """Layers with their weights: `of` holds kernel and bias by layer name."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.of: dict[str, list[np.ndarray]] = {}

    def convolution(
        self, values: tf.Tensor, name: str, norm: str, stride: int = 1, depthwise: bool = False,
        activate: bool = True,
    ) -> tf.Tensor:  # fmt: skip
        """A convolution with its normalisation folded in, and ReLU6."""
        prefix = name.rsplit(".", 1)[0] + "." if "." in name else ""
        gamma, beta, mean, variance = (
            self.weights[f"{prefix}{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        kernel = self.weights[f"{name}.weight"] * scale[:, None, None, None]  # [out, in, k, k]
        size = kernel.shape[-1]
        called = name.replace(".", "_").lstrip("_")
        options: dict[str, Any] = {"strides": stride, "padding": "same", "name": called}
        if depthwise:
            layer = tf_keras.layers.DepthwiseConv2D(size, **options)
            kernel = np.transpose(kernel, [2, 3, 0, 1])
        else:
            layer = tf_keras.layers.Conv2D(len(kernel), size, **options)
            kernel = np.transpose(kernel, [2, 3, 1, 0])
        self.of[called] = [kernel, beta - mean * scale]
        values = layer(values)
        return tf_keras.layers.ReLU(6.0)(values) if activate else values

    def block(self, inputs: tf.Tensor, name: str, stride: int, expansion: int, residual: bool) -> tf.Tensor:
        """An inverted residual (Sandler et al., 2018, https://arxiv.org/abs/1801.04381)."""
        values = inputs
        if expansion > 1:
            values = self.convolution(values, f"{name}._expand_conv", "_bn0")
        values = self.convolution(values, f"{name}._depthwise_conv", "_bn1", stride, depthwise=True)
        values = self.convolution(values, f"{name}._project_conv", "_bn2", activate=False)
        return inputs + values if residual else values


def principal_logits(kernel: np.ndarray, dim: int) -> np.ndarray:
    """A map of features to the principal axes of a classifier's logits.

    With `W` less the mean over classes, which no softmax sees, and `W = U S V^T`, it is the first `dim` rows
    of `S V^T`: distances between mapped features are those between logits, but for what the axes left out
    hold.

    Args:
        kernel: float `[classes, features]`.
        dim: how many axes, at most the lower of both.

    Returns:
        float32 `[features, dim]`.
    """
    centred = kernel.astype(np.float64) - kernel.mean(0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is free, and differs between machines: its largest entry is made positive.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    return ((signs * spread)[:, None] * axes)[:dim].T.astype(np.float32)


def read_efficientnet(path: str | os.PathLike[str], dim: int) -> tuple[tf_keras.Model, np.ndarray]:
    """The network of a file, and its map to `dim` numbers."""
    weights = read_torch_weights(path)
    return efficientnet_lite(weights), principal_logits(weights["_fc.weight"], dim)
