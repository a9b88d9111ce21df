"""What a sentence-transformers folder says of an encoder: pooling, scaling, length, and modules behind the
Transformer."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from tfrec_fusion.layers.pretrained import read_json

_POOLINGS = {
    "cls_token": "cls",
    "cls": "cls",
    "mean_tokens": "mean",
    "mean": "mean",
    "max_tokens": "max",
    "max": "max",
}
_NOTHING_TO_DO = ("Transformer", "Pooling", "Normalize", "Dropout")  # dropout is off when vectors are made


@dataclasses.dataclass(frozen=True)
class SentenceModules:
    """What `modules.json` and the files that it names say.

    Attributes:
        pooling: `mean`, `cls` or `max`; None where the folder says nothing.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens that the encoder was trained on at most; None where the folder says nothing.
        lowercase: whether texts are lower-cased before the tokenizer, whatever the tokenizer does.
    """

    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False


def read_sentence_modules(folder: pathlib.Path) -> SentenceModules:
    """Reads the folder.

    Raises:
        ValueError: for a module or a pooling that cannot be carried out, since vectors without it would be
            others.
    """
    modules: Any = read_json(folder, "modules.json") or []
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module.get("path", "") for module in modules}
    for kind, path in kinds.items():
        if kind not in _NOTHING_TO_DO:
            raise ValueError(
                "An encoder must be a Transformer, a pooling and at most a scaling to length 1. Received:"
                f" {kind} ({path!r}) in the modules.json of {str(folder)!r}. Take another encoder, or its"
                " Transformer alone from a copy of the folder without modules.json, whose vectors are"
                " others."
            )
    if kinds.get("Transformer"):
        raise ValueError(
            "The Transformer's files must lie in the encoder's folder itself. Received: a modules.json that"
            f" names {kinds['Transformer']!r} in {str(folder)!r}. Move them up, and change the path in"
            " modules.json to ''."
        )
    path = kinds.get("Pooling", "" if modules else "1_Pooling")
    settings = read_json(folder, "sentence_bert_config.json")
    return SentenceModules(
        pooling=_pooling(folder, path) if path else None,
        normalize="Normalize" in kinds,
        max_length=settings.get("max_seq_length"),
        lowercase=bool(settings.get("do_lower_case")),
    )


def _pooling(folder: pathlib.Path, path: str) -> str | None:
    config = read_json(folder, f"{path}/config.json")
    if not config:
        if (folder / "modules.json").is_file():
            raise ValueError(
                f"The pooling must be known. Received: {str(folder)!r} without {path}/config.json, which its"
                " modules.json names. Copy that file too, or name the pooling."
            )
        return None
    modes = [
        name.removeprefix("pooling_mode_")
        for name, on in config.items()
        if name.startswith("pooling_mode_") and on is True
    ]
    named = config.get("pooling_mode")
    if not modes and named:
        modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(
            "The pooling must be one of the first token (cls), the mean or the maximum of all. Received: "
            f"{', '.join(modes) or 'none'} in {folder / path / 'config.json'}. Take another encoder."
        )
    return _POOLINGS[modes[0]]
