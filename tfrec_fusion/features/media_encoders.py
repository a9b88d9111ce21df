"""Encoders of pictures and sounds: decoded files to vectors, with a digest of all that decides them."""

from __future__ import annotations

import abc
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.media import Media, MediaKind
from tfrec_fusion.features.media_decoding import decode_image, decode_sound
from tfrec_fusion.layers.efficientnet import SIZE, read_efficientnet
from tfrec_fusion.layers.image_patterns import ImagePatterns, sign_projection
from tfrec_fusion.layers.log_mel import FRAME, RATE, SoundPatterns
from tfrec_fusion.layers.packaged_weights import find_weights

__all__ = ["MediaEncoder", "load_media_encoder"]

_VERSION = 1  # of how files are decoded and vectors made; raised when that changes
_PATTERNS_SIZE = 96


class MediaEncoder(abc.ABC):
    """Files of one kind to vectors.

    Args:
        function: decoded files, float32 `[batch, ...]`, to float `[batch, width]`.
        made_of: what decides it, beside this code.
        media: limits, `dim` and `batch_size`.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], made_of: Sequence[object], media: Media):
        self.function, self.media = function, media
        described = repr((_VERSION, type(self).__name__, media.dim, *made_of))
        self.digest = hashlib.sha256(described.encode()).hexdigest()

    @abc.abstractmethod
    def decoded(self, data: bytes) -> np.ndarray:
        """A file as an array.

        Raises:
            UnusableMedia: where it is none of the kind.
        """

    @abc.abstractmethod
    def batch(self, files: Sequence[np.ndarray]) -> np.ndarray:
        """Decoded files as one array, float32 `[n, ...]`."""

    def encode(self, files: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of decoded files, float32 `[n, dim]`, of length 1; zeros where the encoder says nothing."""
        parts = []
        size = self.media.batch_size
        for start in range(0, len(files), size):
            batch = self.batch(files[start : start + size])
            parts.append(self._fitted(self._answer(batch)))
        return np.concatenate(parts) if parts else np.zeros([0, self.media.dim], np.float32)

    def _answer(self, batch: np.ndarray) -> np.ndarray:
        """Float32 `[n, width]`; a model of one's own may take or return something else than it seemed to."""
        try:
            found = np.asarray(self.function(tf.constant(batch)), np.float32)
        except tf.errors.ResourceExhaustedError:
            raise
        except Exception as error:
            seen = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        else:
            if found.ndim == 2 and len(found) == len(batch) and found.shape[1]:
                return found
            seen = f"an answer of {list(found.shape)}"
        raise ConfigError(
            f"An encoder of `data.items.media` must take float32 {list(batch.shape)} and return"
            f" `[{len(batch)}, width]`. Received: {seen}. Put layers around the model that make it so, or"
            " set `data.items.media.batch_size` where it takes one number of files alone."
        )

    def _fitted(self, vectors: np.ndarray) -> np.ndarray:
        """Brought to `dim` numbers and length 1."""
        dim = self.media.dim
        if vectors.shape[1] > dim:
            vectors = vectors @ sign_projection(vectors.shape[1], dim)
        vectors = np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))
        vectors[~np.isfinite(vectors).all(1)] = 0.0
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1.0)


class ImageEncoder(MediaEncoder):
    """Of pictures, scaled to `size`, height and width."""

    def __init__(self, function: Callable, made_of: Sequence[object], media: Media, size: tuple[int, int]):
        super().__init__(function, (*made_of, size), media)
        self.size = size

    def decoded(self, data: bytes) -> np.ndarray:
        return decode_image(data, self.size, self.media.max_megapixels)

    def batch(self, files: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(files).astype(np.float32)


class SoundEncoder(MediaEncoder):
    """Of sounds, filled up with silence to the next whole second, or cut and filled up to `samples`."""

    def __init__(
        self, function: Callable, made_of: Sequence[object], media: Media, samples: int | None = None
    ):
        super().__init__(function, (*made_of, media.max_seconds, samples), media)
        self.samples = samples

    def decoded(self, data: bytes) -> np.ndarray:
        return decode_sound(data, self.media.max_seconds)

    def batch(self, files: Sequence[np.ndarray]) -> np.ndarray:
        longest = max(FRAME, *map(len, files))
        whole = self.samples or -(-longest // RATE) * RATE  # few lengths, so that few are traced
        cut = [file[:whole] for file in files]
        return np.stack([np.pad(file, (0, whole - len(file))) for file in cut]).astype(np.float32)


def load_media_encoder(kind: MediaKind, media: Media) -> MediaEncoder:
    """The encoder that the configuration names.

    Raises:
        ConfigError: if there is no such model, or it takes or returns something else.
        WeightsNotFoundError: if the package of the weights is not installed.
    """
    if kind == "images" and media.image_encoder == "efficientnet":
        path = find_weights()

        @functools.cache  # when the first file is encoded: most runs have none that is new
        def network() -> Callable[[tf.Tensor], tf.Tensor]:
            model, kernel = read_efficientnet(path, media.dim)
            return tf.function(lambda values: model(values) @ kernel)

        made_of = ("efficientnet", _digest(path))
        return ImageEncoder(lambda values: network()(values), made_of, media, (SIZE, SIZE))
    if kind == "images" and media.image_encoder == "patterns":
        both = (_PATTERNS_SIZE, _PATTERNS_SIZE)
        return ImageEncoder(tf.function(ImagePatterns(media.dim)), ("patterns",), media, both)
    if kind == "audio" and media.audio_encoder == "patterns":
        return SoundEncoder(tf.function(SoundPatterns(media.dim)), ("patterns",), media)
    return _given(kind, media)


def _given(kind: MediaKind, media: Media) -> MediaEncoder:
    """The encoder of a Keras model or SavedModel."""
    key = "image_encoder" if kind == "images" else "audio_encoder"
    name = getattr(media, key)
    path = pathlib.Path(os.path.expanduser(name))
    built_in = "'efficientnet', 'patterns'" if kind == "images" else "'patterns'"
    if not path.exists():
        raise ConfigError(
            f"`data.items.media.{key}` must be {built_in} or the path of a Keras model or SavedModel."
            f" Received: {name!r}, which is not there. Save one with `model.save(path)`."
        )
    try:
        function, shape = _model(path)
    except Exception as error:  # of a damaged file: BadZipFile, KeyError, DataLossError, …
        raise ConfigError(
            f"`data.items.media.{key}` must be a model that Keras 2 or TensorFlow loads. Received: {name!r}"
            f" ({type(error).__name__}: {str(error)[:300]}). Save it with `model.save(path)`."
        ) from error
    rank = 4 if kind == "images" else 2
    if len(shape) != rank or (kind == "images" and shape[3] not in (3, None)):
        form = "[batch, height, width, 3]" if kind == "images" else "[batch, samples]"
        raise ConfigError(
            f"`data.items.media.{key}` must take float32 `{form}`. Received: a model of {shape}. Put layers"
            " in front of it that make its input of that."
        )
    made_of = (key, _digest(path))
    if kind == "audio":
        return SoundEncoder(function, made_of, media, shape[1])
    return ImageEncoder(function, made_of, media, (shape[1] or SIZE, shape[2] or SIZE))


def _model(path: pathlib.Path) -> tuple[Callable[[tf.Tensor], tf.Tensor], list[int | None]]:
    """The model as a function to `[batch, width]`, and the shape of its input."""
    if (path / "saved_model.pb").is_file() and not (path / "keras_metadata.pb").is_file():
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
        (inputs,) = signature.structured_input_signature[1].items()
        keep: Any = loaded

        def call(values: tf.Tensor) -> tf.Tensor:
            assert keep is not None  # its variables live as long as it does
            (found,) = signature(**{inputs[0]: values}).values()
            return _pooled(found)

        return call, inputs[1].shape.as_list()
    model = tf_keras.models.load_model(str(path), compile=False)
    model.trainable = False
    (shape,) = [one.shape.as_list() for one in model.inputs]
    return tf.function(lambda values: _pooled(model(values, training=False))), shape


def _pooled(values: tf.Tensor) -> tf.Tensor:
    """The mean over places or time: `[batch, ..., width]` to `[batch, width]`."""
    return tf.reduce_mean(values, list(range(1, values.shape.rank - 1)))


def _digest(path: pathlib.Path | os.PathLike[str]) -> str:
    """Of a file, or of all files of a folder."""
    path = pathlib.Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
