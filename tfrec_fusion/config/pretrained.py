"""Description of a folder of `tfrec pretrain`: what it was made from, and whether a model can start from it.

Read without TensorFlow, so that a folder that does not fit is refused before anything is encoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

from tfrec_fusion.config.models import RetrievalConfig, TextConfig
from tfrec_fusion.config.reading import ConfigError, Settings, from_dict

__all__ = [
    "DESCRIPTION",
    "FORMAT",
    "WEIGHTS",
    "PretrainedDomain",
    "PretrainedTower",
    "check_encoder",
    "check_start",
    "read_start",
    "start_sources",
]

DESCRIPTION, WEIGHTS = "pretrained.json", "weights.npz"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class PretrainedDomain(Settings):
    """A domain that a tower was trained on.

    Attributes:
        name: of its configuration.
        items: with a text.
        without_text: items that were left out, and choices of them with them.
        users: of training.
        interactions: of training, whose items have a text.
    """

    name: str
    items: int
    without_text: int
    users: int
    interactions: int


@dataclasses.dataclass(frozen=True)
class PretrainedTower(Settings):
    """What `pretrained.json` holds.

    Attributes:
        format: of the folder.
        version: of the library that wrote it.
        encoder, pooling, truncated, item_prefix: what read the texts, as `TextConfig` has them.
        encoder_digest: of the encoder's weights and settings.
        text_dim: length of a text vector.
        dim, hidden, history_encoder: the tower, as `TowerConfig` has them.
        history_length: items of a history.
        normalize: whether embeddings have length 1.
        domains: what it was trained on.
        weights_digest: sha256 of the weights' file.
        figures: of training: epochs, the best one, and validation's figure there.
    """

    format: int
    version: str
    encoder: str
    pooling: str | None
    truncated: int | None
    item_prefix: str | None
    encoder_digest: str
    text_dim: int
    dim: int
    hidden: tuple[int, ...]
    history_encoder: str
    history_length: int
    normalize: bool
    domains: tuple[PretrainedDomain, ...]
    weights_digest: str
    figures: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def words(self) -> str:
        """What it was made from, for people."""
        domains = ", ".join(
            f"{one.name} ({one.items:,} items, {one.interactions:,} interactions)" for one in self.domains
        )
        return f"pretrained by version {self.version} on {domains}; encoder {self.encoder}"


def read_start(folder: str | os.PathLike[str]) -> PretrainedTower:
    """Reads what a folder was made from.

    Raises:
        ConfigError: for a folder that `tfrec pretrain` did not write whole, or one of another format.
    """
    path = pathlib.Path(folder)
    missing = [name for name in (DESCRIPTION, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"`retrieval.warm_start` must be a folder that `tfrec pretrain` wrote. Received: {str(folder)!r},"
            f" without {' and '.join(missing)}. Correct the path, or run `tfrec pretrain` first."
        )
    try:
        values: Any = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("format", FORMAT) != FORMAT:
            raise ConfigError(f"it has the format {values['format']!r}, and not {FORMAT}")
        return from_dict(PretrainedTower, values)
    except ValueError as error:  # no JSON, or other keys and values
        raise ConfigError(
            f"{path / DESCRIPTION} must be what `tfrec pretrain` of this release wrote. Received: {error}."
            " Run it again."
        ) from error


def start_sources(folder: str | None) -> dict[str, str]:
    """What decides a start beside its path, so that another tower in the same folder trains again.

    Args:
        folder: `retrieval.warm_start`.

    Returns:
        The folder with a digest of its description, which holds the one of its weights; empty where there is
        none, or it is on another machine, under a name of its own.
    """
    file = pathlib.Path(folder or "", DESCRIPTION)
    if folder is None or not file.is_file():
        return {}
    return {folder: hashlib.sha256(file.read_bytes()).hexdigest()[:16]}


def check_start(
    config: RetrievalConfig, text: TextConfig | None, history_length: int
) -> PretrainedTower | None:
    """Holds a model's settings to those of the folder that it is to start from.

    Args:
        config: the model.
        text: its text tower.
        history_length: items of a history.

    Returns:
        What the folder was made from; None without `warm_start`.

    Raises:
        ConfigError: for a folder that cannot be read or was made with other settings; names all of them.
    """
    if config.warm_start is None:
        return None
    if text is None:
        raise ConfigError(
            f"`retrieval.warm_start` needs a text tower. Received: {config.warm_start!r}, and `text: none`."
            " Leave one of them out."
        )
    found, tower = read_start(config.warm_start), config.tower
    pairs = {
        "retrieval.tower.dim": (found.dim, tower.dim),
        "retrieval.tower.hidden": (list(found.hidden), list(tower.hidden)),
        "retrieval.tower.history_encoder": (found.history_encoder, tower.history_encoder),
        "retrieval.normalize": (found.normalize, config.normalize),
        "split.history_length": (found.history_length, history_length),
        "text.pooling": (found.pooling, text.pooling),
        "text.dim": (found.truncated, text.dim),
        "text.item_prefix": (found.item_prefix, text.item_prefix),
    }
    differing = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    if differing:
        rules = "; ".join(
            f"`{key}` must be {old!r} (received {new!r})" for key, (old, new) in differing.items()
        )
        raise ConfigError(
            f"A model that starts from {config.warm_start} must be made as it was: {rules}. Set"
            f" {'it' if len(differing) == 1 else 'them'} so, or pretrain with the settings of here."
        )
    return found


def check_encoder(found: PretrainedTower, text: TextConfig, digest: str, text_dim: int) -> None:
    """Holds a text encoder to the one that a folder's texts were read with.

    Args:
        found: what the folder was made from.
        text: the text tower.
        digest: of its encoder.
        text_dim: length of its vectors.

    Raises:
        ConfigError: if they are not the same.
    """
    if (digest, text_dim) == (found.encoder_digest, found.text_dim):
        return
    raise ConfigError(
        f"`text.encoder` must be the one that `retrieval.warm_start` was trained with ({found.encoder!r},"
        f" vectors of {found.text_dim}, digest {found.encoder_digest[:12]}). Received: {text.encoder!r},"
        f" vectors of {text_dim}, digest {digest[:12]}. Name that encoder, or pretrain with this one."
    )
