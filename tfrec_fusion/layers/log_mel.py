"""Log-mel spectrograms of sounds, and fixed vectors of them: an audio encoder without weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.image_patterns import sign_projection
from tfrec_fusion.layers.input_checks import check_floats

__all__ = ["RATE", "LogMel", "SoundPatterns", "mel_weights"]

RATE = 16_000  # samples a second
FRAME, HOP, FFT = 400, 160, 512  # 25 ms, each 10 ms
LOWEST, HIGHEST = 125.0, 7500.0  # Hz
_OFFSET = 1e-3


def mel_weights(bands: int, bins: int = FFT // 2 + 1, rate: int = RATE) -> np.ndarray:
    """Triangles of equal width in mel, `m = 1127 ln(1 + f / 700)`, from 125 to 7,500 Hz.

    Band `b` rises from edge `b` to 1 at edge `b + 1` and falls to 0 at edge `b + 2`, of `bands + 2` edges at
    equal distances in mel, straight in mel between them; the bin of 0 Hz counts nowhere.

    Args:
        bands: how many.
        bins: of the spectrum, from 0 to half the rate.
        rate: samples a second.

    Returns:
        float32 `[bins, bands]`.

    Reference: O'Shaughnessy, 1987, in the form of HTK (Young et al., 2006)
    """
    mel = 1127.0 * np.log1p(np.linspace(0.0, rate / 2, bins) / 700.0)
    low, high = (1127.0 * math.log1p(edge / 700.0) for edge in (LOWEST, HIGHEST))
    edges = np.linspace(low, high, bands + 2)
    rising = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights.astype(np.float32)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class LogMel(tf_keras.layers.Layer):
    """`ln(S M + 0.001)` of the magnitudes `S` of a short-time Fourier transform and mel bands `M`.

    Frames of 25 ms each 10 ms, with a periodic Hann window and 512 points, as VGGish has them (Hershey et
    al., 2017, https://arxiv.org/abs/1609.09430).

    Args:
        bands: mel bands (`mel_weights`).
    """

    def __init__(self, bands: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bands < 1:
            raise ValueError(f"`bands` must be at least 1. Received: bands={bands}.")
        self.bands = bands
        self.weights_of_bands = mel_weights(bands)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Transforms sounds.

        Args:
            inputs: float `[batch, samples]`, 16,000 a second, from -1 to 1, at least 400 of them.

        Returns:
            float `[batch, 1 + (samples - 400) // 160, bands]`.
        """
        check_floats(type(self).__name__, inputs.dtype, "Divide whole numbers by the largest there is.")
        frames = tf.signal.frame(tf.cast(inputs, tf.float32), FRAME, HOP) * tf.signal.hann_window(FRAME)
        # Filled up here and not by `rfft`, which does not do so for an empty batch (TensorFlow 2.21).
        spectrum = tf.signal.rfft(tf.pad(frames, [[0, 0], [0, 0], [0, FFT - FRAME]]))
        mel = tf.tensordot(tf.abs(spectrum), self.weights_of_bands, 1)
        return tf.cast(tf.math.log(mel + _OFFSET), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bands": self.bands}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class SoundPatterns(tf_keras.layers.Layer):
    """How loud each mel band is, how much it varies, and what patterns run through time. It knows no words.

    Three parts of length 1 each, of a log-mel spectrogram less its mean, so that how loud a recording is
    counts nothing: each band's mean over time; its deviation and its mean step from one frame to the next;
    and a small network that is drawn once and never trained: two convolutions over time of random Gaussian
    weights with ReLU, whose means and maxima over time are read (as random features do: Rahimi and Recht,
    2007; Saxe et al., 2011). Side by side, times a fixed matrix of random signs, and scaled to length 1.
    Frames in which nothing sounds, past the end or before it, count nothing.

    Args:
        dim: of the output.
        bands: mel bands.
        filters: of each convolution.
    """

    def __init__(self, dim: int = 128, bands: int = 64, filters: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in {"dim": dim, "bands": bands, "filters": filters}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
        self.dim, self.bands, self.filters = dim, bands, filters
        self.log_mel = LogMel(bands, dtype="float32")
        rng = np.random.Generator(np.random.PCG64(1))
        self.kernels = [
            (rng.standard_normal([9, width, filters]) / math.sqrt(9 * width)).astype(np.float32)
            for width in (bands, filters)
        ]
        self.projection = sign_projection(3 * bands + 2 * filters, dim)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Encodes sounds.

        Args:
            inputs: float `[batch, samples]`, as `LogMel` takes them, zeros after a shorter sound's end.

        Returns:
            float `[batch, dim]`, of length 1; zeros for silence.
        """
        spectrum = tf.cast(self.log_mel(inputs), tf.float32)
        sounding = tf.reduce_max(spectrum, -1, keepdims=True) > math.log(2 * _OFFSET)
        there = tf.cast(sounding, tf.float32)
        count = tf.maximum(tf.reduce_sum(there, 1, keepdims=True), 1.0)
        level = tf.reduce_sum(spectrum * there, [1, 2], keepdims=True) / (count * self.bands)
        spectrum = (spectrum - level) * there
        means = tf.reduce_sum(spectrum, 1) / count[:, 0]
        deviation = tf.sqrt(
            tf.reduce_sum(((spectrum - means[:, None]) * there) ** 2, 1) / count[:, 0] + 1e-12
        )
        both = there[:, 1:] * there[:, :-1]
        steps = tf.reduce_sum(tf.abs(spectrum[:, 1:] - spectrum[:, :-1]) * both, 1)
        steps /= tf.maximum(tf.reduce_sum(both, 1), 1.0)
        variation = tf.concat([deviation, steps], 1)
        parts = [means, variation, self._temporal((spectrum - means[:, None]) * there, there)]
        scaled = [tf.math.l2_normalize(part, 1, epsilon=1e-12) for part in parts]
        vectors = tf.math.l2_normalize(tf.matmul(tf.concat(scaled, 1), self.projection), 1)
        return tf.cast(vectors * tf.cast(tf.reduce_any(sounding, 1), tf.float32), self.compute_dtype)

    def _temporal(self, spectrum: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
        """float32 `[batch, 2 * filters]`."""
        # A row more, since a convolution of no rows has the wrong length (TensorFlow 2.21).
        spectrum, there = (tf.pad(value, [[0, 1], [0, 0], [0, 0]]) for value in (spectrum, there))
        values = tf.nn.relu(tf.nn.conv1d(spectrum, self.kernels[0], 2, "SAME"))
        values = tf.nn.relu(tf.nn.conv1d(values, self.kernels[1], 2, "SAME"))
        # A frame of the result stands for four.
        kept = tf.nn.max_pool1d(there, 4, 4, "SAME")[:, : tf.shape(values)[1]]
        values *= kept
        total = tf.maximum(tf.reduce_sum(kept, 1), 1.0)
        return tf.concat([tf.reduce_sum(values, 1) / total, tf.reduce_max(values, 1)], 1)[:-1]

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([input_shape[0], self.dim])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "bands": self.bands, "filters": self.filters}
