"""Encoders of pictures and sounds, against PyTorch, SciPy and formulas in NumPy."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import check_layer
from tfrec_fusion.layers import torch_files
from tfrec_fusion.layers.efficientnet import efficientnet_lite, principal_logits, read_efficientnet
from tfrec_fusion.layers.image_patterns import ImagePatterns, sign_projection
from tfrec_fusion.layers.log_mel import LogMel, SoundPatterns, mel_weights
from tfrec_fusion.layers.packaged_weights import find_weights
from tfrec_fusion.layers.torch_files import TorchFileError, read_torch_weights

RNG = np.random.default_rng(0)


def test_efficientnet_answers_as_pytorch():
    """Of efficientnet_lite_pytorch 0.1.0 on PyTorch 2.13.0: pooled features and the five highest logits."""
    weights = read_torch_weights(find_weights())
    rows, columns = np.mgrid[:224, :224]
    waves = 127.5 + 127.5 * np.sin(rows / 9.0 + columns / 31.0), 127.5 + 127.5 * np.cos(columns / 7.0)
    picture = np.stack([*waves, rows * columns % 256], -1)[None].astype(np.float32)
    features = efficientnet_lite(weights)(picture).numpy()[0]
    found = features[[0, 100, 500, 900, 1279]]
    np.testing.assert_allclose(found, [0, 0.24957, 0, 4.07456, 0], atol=1e-4)
    logits = weights["_fc.weight"] @ features + weights["_fc.bias"]
    best = np.argsort(-logits)[:5]
    assert best.tolist() == [920, 723, 688, 616, 619]
    np.testing.assert_allclose(logits[best], [6.7195, 6.2831, 6.2057, 5.4767, 5.2687], atol=1e-3)


def test_distances_of_principal_logits_are_those_of_logits():
    kernel, features = RNG.normal(size=(30, 50)), RNG.normal(size=(4, 50))
    mapped = features @ principal_logits(kernel, 30)
    logits = features @ kernel.T
    centred = logits - logits.mean(1, keepdims=True)  # what a softmax sees
    for one in range(4):
        np.testing.assert_allclose(
            np.linalg.norm(mapped - mapped[one], axis=1),
            np.linalg.norm(centred - centred[one], axis=1),
            rtol=1e-4,
        )
    np.testing.assert_allclose(principal_logits(kernel, 5), principal_logits(kernel, 30)[:, :5], atol=1e-6)


class Evil:
    def __reduce__(self):
        return print, ("called",)


def old_form(tensors=(), magic=torch_files._MAGIC):
    """A file of weights as PyTorch wrote it before 1.6, of something in place of tensors."""
    return b"".join(pickle.dumps(part, 2) for part in (magic, 1001, {}, tensors, []))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "whole `state_dict`.*EOFError"),
        (b"PK\x03\x04" + b"0" * 60, "whole `state_dict`"),
        (old_form(magic=3), "it begins with 3"),
        (old_form({"a": Evil()}), "must hold tensors alone. Received: one that names .*print"),
    ],
)
def test_a_file_that_is_no_weights_is_named_and_calls_nothing(content, rule, tmp_path, capsys):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(TorchFileError, match=rule):
        read_torch_weights(path)
    assert "called" not in capsys.readouterr().out


def test_a_cut_file_of_weights_is_named(tmp_path):
    whole = find_weights().read_bytes()
    for length in (100, 5000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(TorchFileError, match="Install the package anew"):
            read_efficientnet(tmp_path / "cut.pth", 8)
    with pytest.raises(ValueError, match="lies outside of its 3 numbers"):
        torch_files._array(np.zeros(3, np.float32), 1, (3,), (1,))
    assert struct.calcsize("<q") == 8


def pictures(count=2, size=32):
    return RNG.uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def test_image_patterns_are_a_layer():
    check_layer(ImagePatterns, {"dim": 16}, pictures(), (2, 16), xla=False, mixed_precision=False)
    with pytest.raises(ValueError, match="`dim` must be at least 1. Received: dim=0"):
        ImagePatterns(0)
    with pytest.raises(ValueError, match="ImagePatterns needs floats. Received: uint8"):
        ImagePatterns(8)(pictures().astype(np.uint8))


def test_colours_and_edges_by_hand():
    layer = ImagePatterns(8)
    # Pure red lies on the last level of red and the first of the others; half red between two levels.
    red = np.zeros((1, 16, 16, 3), np.float32)
    red[..., 0] = 1
    counts = layer._colours(tf.constant(red)).numpy().reshape(4, 4, 4) ** 2
    assert counts[3, 0, 0] == 256
    assert counts.sum() == 256
    counts = layer._colours(tf.constant(red / 2)).numpy().reshape(4, 4, 4) ** 2
    np.testing.assert_allclose(counts[1:3, 0, 0], [128, 128], rtol=1e-5)
    # A step across columns has gradients of angle 0 alone, in the cells that it touches.
    step = np.zeros((1, 16, 16, 3), np.float32)
    step[:, :, 6:] = 1
    edges = layer._gradients(tf.constant(step[..., :1]), 4).numpy().reshape(4, 4, 9)
    np.testing.assert_allclose(edges[:, 1, 0], 1, atol=1e-3)
    np.testing.assert_allclose(np.delete(edges, 1, axis=1), 0, atol=1e-6)
    turned = layer._gradients(tf.constant(np.swapaxes(step, 1, 2)[..., :1]), 4).numpy().reshape(4, 4, 9)
    np.testing.assert_allclose(turned[1, :, 4:6], np.sqrt(0.5), atol=1e-3)  # 90 degrees lie between both


def test_a_projection_keeps_lengths_on_the_mean():
    vectors = RNG.normal(size=(200, 300))
    ratio = np.linalg.norm(vectors @ sign_projection(300, 128), axis=1) / np.linalg.norm(vectors, axis=1)
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() < 1.5 / np.sqrt(2 * 128)


def test_mel_bands_are_those_of_tensorflow():
    """TensorFlow's leaves the bin of 0 Hz out as well, and draws the same triangles."""
    theirs = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7500.0).numpy()
    np.testing.assert_allclose(mel_weights(64), theirs, atol=2e-3)


@settings(deadline=None, max_examples=10)
@given(st.integers(400, 4000), st.integers(1, 40))
def test_log_mel_against_scipy(samples, bands):
    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    window = scipy.signal.get_window("hann", 400)  # periodic
    frames = [sound[start : start + 400] * window for start in range(0, samples - 399, 160)]
    magnitudes = np.abs(scipy.fft.rfft(frames, 512))
    expected = np.log(magnitudes @ mel_weights(bands) + 0.001)
    found = LogMel(bands)(sound[None]).numpy()[0]
    assert found.shape == (1 + (samples - 400) // 160, bands)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_sound_layers_are_layers():
    sounds = RNG.uniform(-1, 1, (2, 3200)).astype(np.float32)
    check_layer(LogMel, {"bands": 8}, sounds, (2, 18, 8), xla=False, mixed_precision=False)
    arguments = {"dim": 16, "bands": 8, "filters": 4}
    check_layer(SoundPatterns, arguments, sounds, (2, 16), xla=False, mixed_precision=False)
    with pytest.raises(ValueError, match="`bands` must be at least 1"):
        LogMel(0)
    with pytest.raises(ValueError, match="`filters` must be at least 1"):
        SoundPatterns(filters=0)


def test_neither_loudness_nor_the_silence_after_it_changes_a_sound():
    sound = RNG.uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32)
    layer = SoundPatterns(32)
    whole = layer(sound).numpy()
    np.testing.assert_allclose(np.linalg.norm(whole), 1, rtol=1e-5)
    assert np.sum(whole * layer(sound * 0.5).numpy()) > 0.995
    longer = np.pad(sound, ((0, 0), (0, 32_000)))
    assert np.sum(whole * layer(longer).numpy()) > 0.995
    other = np.sin(np.arange(16_000) / 7)[None].astype(np.float32)
    assert np.sum(whole * layer(other).numpy()) < 0.9
    assert not layer(np.zeros((1, 16_000), np.float32)).numpy().any()
