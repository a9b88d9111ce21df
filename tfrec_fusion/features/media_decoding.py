"""Files of pictures and sounds as arrays of one shape."""

from __future__ import annotations

import io
import math
import struct
import warnings
from fractions import Fraction

import numpy as np

from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.media_files import UnusableMedia
from tfrec_fusion.datasets.media_forms import IMAGES, form_of
from tfrec_fusion.layers.log_mel import RATE

__all__ = ["decode_image", "decode_sound"]


def decode_image(data: bytes, size: tuple[int, int], max_megapixels: float) -> np.ndarray:
    """A picture, turned as its camera says, over white where it is transparent, and scaled to one size
    whatever its proportions; of a moving one the first.

    Args:
        data: a file of JPEG, PNG, GIF, BMP or WebP.
        size: height and width.
        max_megapixels: more are not decoded.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        UnusableMedia: for what is no such picture, a broken or a too large one.
        ConfigError: if Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ConfigError(
            "`data.items.images` needs Pillow to read pictures. Received: none installed. `pip install"
            " 'tfrec-fusion[media]'`, or name vectors of your own with `data.items.vectors`."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged notes of cameras, and sizes, which are looked at here
            image: Image.Image = Image.open(io.BytesIO(data), formats=IMAGES)
            if image.width * image.height > max_megapixels * 1e6:
                rule = f"more than `media.max_megapixels` ({max_megapixels:g})"
                raise UnusableMedia(rule, f"{image.width} x {image.height}")
            image.draft("RGB", (size[1], size[0]))  # JPEG decodes to a half, quarter or eighth by itself
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype(np.uint8))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            scaled = image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC)
    except Image.DecompressionBombError as error:  # Pillow decodes none of more than 178 megapixels
        raise UnusableMedia(f"more than `media.max_megapixels` ({max_megapixels:g})", str(error)) from error
    except UnidentifiedImageError as error:
        raise UnusableMedia(f"no picture ({', '.join(IMAGES)})", _seen(data)) from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise UnusableMedia("a broken picture", f"{type(error).__name__}: {error}") from error
    return np.asarray(scaled, np.uint8)


def decode_sound(data: bytes, max_seconds: float) -> np.ndarray:
    """A sound, its channels' mean, at 16,000 samples a second.

    Args:
        data: a file of WAV, of whole numbers or floats.
        max_seconds: what comes after is not read.

    Returns:
        float32 `[samples]`, from -1 to 1, at most `max_seconds` of them.

    Raises:
        UnusableMedia: for what is no such sound, a broken or an empty one.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    if form_of(data) != "WAV":
        raise UnusableMedia("no sound (WAV)", _seen(data))
    form = struct.unpack_from("<H", data, 20)[0] if data[12:16] == b"fmt " and len(data) > 21 else 1
    if form not in (1, 3, 0xFFFE):  # PCM, floats, and their extension
        raise UnusableMedia("no sound (WAV)", f"WAV of the compressed form {form:#06x}")
    try:
        _check_whole(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # chunks that it knows nothing of
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:
        # scipy raises what comes to it on broken headers: ValueError, struct.error, ZeroDivisionError, …
        raise UnusableMedia("a broken sound", f"{type(error).__name__}: {error}") from error
    if not samples.size or not 1000 <= rate <= 400_000:
        raise UnusableMedia("a broken sound", f"{samples.size} samples, {rate} a second")
    samples = samples[: math.ceil(max_seconds * rate)]
    if samples.dtype == np.uint8:
        values = (samples.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        values = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        values = np.clip(np.nan_to_num(samples.astype(np.float32)), -1.0, 1.0)
    if values.ndim == 2:
        values = values.mean(1)
    if rate != RATE:
        ratio = Fraction(RATE, int(rate)).limit_denominator(1000)
        values = resample_poly(values, ratio.numerator, ratio.denominator).astype(np.float32)
    return values[: int(max_seconds * RATE)]


def _check_whole(data: bytes) -> None:
    """Refuses a WAV file whose samples end before its header says; scipy would read what is there."""
    start = 12
    while start + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, start)
        there = len(data) - start - 8
        if name == b"data":
            if size > there and size < 0x7FFF0000:  # more is what programs write that do not know the end
                raise ValueError(f"{there:,} of {size:,} bytes of samples are there")
            return
        start += 8 + size + size % 2


def _seen(data: bytes) -> str:
    """What a file is in place of what it should be, without showing what it holds."""
    kind = form_of(data)
    return f"{len(data):,} bytes, {f'by their beginning {kind}' if kind else 'of no form that is known here'}"
