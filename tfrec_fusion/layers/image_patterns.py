"""Colours and edges of pictures by fixed formulas: an image encoder without weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.input_checks import check_floats

__all__ = ["ImagePatterns", "sign_projection"]

LEVELS = 4  # of each colour in the histogram
ORIENTATIONS = 9
GRID = 3  # cells of mean colours, in each direction
SCALES = ((1, 4), (2, 2))  # what the picture's size is divided by, and cells in each direction
_EPSILON = 1e-3


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ImagePatterns(tf_keras.layers.Layer):
    """What colours a picture has, where, and which way its edges run. It knows no objects.

    Three parts of length 1 each: the square roots of a histogram of 4 levels of each colour, every pixel
    spread over the levels around it, so that dot products are Bhattacharyya's coefficient; the mean colours
    of 3 x 3 cells less the picture's own mean; and histograms of oriented gradients (Dalal and Triggs, 2005,
    https://doi.org/10.1109/CVPR.2005.177) of 9 directions, in 4 x 4 cells of the picture and 2 x 2 of the
    picture at half its size, each cell of length 1. Side by side, times a fixed matrix of random signs
    (`sign_projection`), which nearly keeps distances, and scaled to length 1.

    Args:
        dim: of the output.
    """

    def __init__(self, dim: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"`dim` must be at least 1. Received: dim={dim}.")
        self.dim = dim
        width = LEVELS**3 + 3 * GRID**2 + sum(ORIENTATIONS * cells**2 for _, cells in SCALES)
        self.projection = sign_projection(width, dim)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Encodes pictures.

        Args:
            inputs: float `[batch, height, width, 3]`, RGB from 0 to 255, at least 16 high and wide.

        Returns:
            float `[batch, dim]`, of length 1.
        """
        check_floats(type(self).__name__, inputs.dtype, "Cast the pixels: `tf.cast(pixels, tf.float32)`.")
        pixels = tf.clip_by_value(tf.cast(inputs, tf.float32) / 255.0, 0.0, 1.0)
        parts = [self._colours(pixels), self._places(pixels), self._edges(pixels)]
        vectors = tf.matmul(tf.concat([_unit(part) for part in parts], 1), self.projection)
        return tf.cast(_unit(vectors), self.compute_dtype)

    def _colours(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, LEVELS ** 3]`."""
        levels = tf.range(LEVELS, dtype=tf.float32)
        near = tf.nn.relu(1.0 - tf.abs(pixels[..., None] * (LEVELS - 1) - levels))  # [batch, h, w, 3, L]
        near = tf.reshape(near, [tf.shape(near)[0], -1, 3, LEVELS])
        counts = tf.einsum("npi,npj,npk->nijk", near[:, :, 0], near[:, :, 1], near[:, :, 2])
        return tf.sqrt(tf.reshape(counts, [-1, LEVELS**3]))

    def _places(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, 3 * GRID ** 2]`."""
        cells = tf.image.resize(pixels, [GRID, GRID], method="area")
        cells -= tf.reduce_mean(cells, [1, 2], keepdims=True)
        return tf.reshape(cells, [-1, 3 * GRID**2])

    def _edges(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, sum of ORIENTATIONS * cells ** 2]`."""
        grey = tf.reduce_mean(pixels, -1, keepdims=True)
        found = []
        for divisor, cells in SCALES:
            size = tf.shape(grey)[1:3] // divisor
            found.append(self._gradients(tf.image.resize(grey, size, method="area"), cells))
        return tf.concat(found, 1)

    def _gradients(self, grey: tf.Tensor, cells: int) -> tf.Tensor:
        """float32 `[batch, ORIENTATIONS * cells ** 2]` of float32 `[batch, h, w, 1]`."""
        padded = tf.pad(grey, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        strength = tf.sqrt(across**2 + down**2)
        # Without a sign: a dark line on bright runs as a bright one on dark.
        angle = tf.math.atan2(down, across) * (ORIENTATIONS / math.pi)
        angle = tf.math.floormod(angle, float(ORIENTATIONS))
        centres = tf.range(ORIENTATIONS, dtype=tf.float32)
        apart = tf.abs(angle - centres)
        apart = tf.minimum(apart, ORIENTATIONS - apart)
        votes = tf.nn.relu(1.0 - apart) * strength  # [batch, h, w, ORIENTATIONS]
        summed = tf.image.resize(votes, [cells, cells], method="area")
        length = tf.sqrt(tf.reduce_sum(summed**2, -1, keepdims=True) + _EPSILON**2)
        return tf.reshape(summed / length, [-1, ORIENTATIONS * cells**2])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([input_shape[0], self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


def sign_projection(width: int, dim: int) -> np.ndarray:
    """A fixed matrix of random signs, over `√dim`, so that lengths stay on the mean: float32 `[width, dim]`.

    Achlioptas, 2003, https://doi.org/10.1016/S0022-0000(03)00025-4
    """
    signs = np.random.Generator(np.random.PCG64(width * 1009 + dim)).integers(0, 2, [width, dim])
    return ((2 * signs - 1) / math.sqrt(dim)).astype(np.float32)


def _unit(values: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(values, -1, epsilon=1e-12)
