"""Modules of a sentence-transformers folder: pooling, layers behind it, scaling, length and prompts."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfrec_fusion.layers.pretrained import read_json, reading

if TYPE_CHECKING:  # reading the settings alone costs no NumPy
    import numpy as np

_POOLINGS = {
    "cls_token": "cls",
    "cls": "cls",
    "mean_tokens": "mean",
    "mean": "mean",
    "max_tokens": "max",
    "max": "max",
    "lasttoken": "last",
}
_NOTHING_TO_DO = ("Transformer", "Pooling", "Normalize", "Dropout")  # dropout is off when vectors are made
_ACTIVATIONS = {"Identity": "linear", "Tanh": "tanh", "GELU": "gelu", "ReLU": "relu", "SiLU": "silu"}
# Where sentence-transformers looks for the prompt of each side, in this order.
_PROMPTS = {"query": ("query",), "item": ("document", "passage", "corpus")}


@dataclasses.dataclass(frozen=True)
class DenseModule:
    """A dense layer behind the pooling.

    Attributes:
        folder: where its weights are.
        units: the length of what it gives.
        activation: by its name in `backbones.parts`.
        use_bias: whether it has a bias.
    """

    folder: pathlib.Path
    units: int
    activation: str
    use_bias: bool

    def settings(self) -> dict[str, Any]:
        """The layer as an argument of `TextEncoder`."""
        return {"units": self.units, "activation": self.activation, "use_bias": self.use_bias}

    def weights(self) -> list[np.ndarray]:
        """The kernel, and the bias if there is one.

        Raises:
            ValueError: if the files lack them, or they have another shape.
        """
        from tfrec_fusion.layers.backbones.weight_files import read_tensors

        tensors = read_tensors(self.folder)
        names = ["linear.weight", "linear.bias"][: 1 + self.use_bias]
        missing = [name for name in names if name not in tensors]
        if missing or len(tensors["linear.weight"]) != self.units:
            received = f"without {missing[0]}" if missing else f"of {len(tensors['linear.weight'])} units"
            raise ValueError(
                "A dense layer behind the pooling must have the weights that its config.json says"
                f" ({self.units} units). Received: {str(self.folder)!r} {received}. Download the encoder"
                " again."
            )
        return [tensors[name].T for name in names]


@dataclasses.dataclass(frozen=True)
class SentenceModules:
    """What `modules.json` and the files that it names say.

    Attributes:
        pooling: one of `layers.pooling`; None where the folder says nothing.
        dense: layers behind the pooling, in order.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens that the encoder was trained on at most; None where the folder says nothing.
        lowercase: whether texts are lower-cased before the tokenizer, whatever the tokenizer does.
        prompts: texts that stand before an input, by their names.
        default_prompt: the name of the one where no other is named; None for none.
    """

    pooling: str | None = None
    dense: tuple[DenseModule, ...] = ()
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None

    def prefix(self, side: str) -> str:
        """What stands before a text of one side, by the rules of sentence-transformers.

        Args:
            side: `query` or `item`.
        """
        for name in (*_PROMPTS[side], self.default_prompt):
            if name is not None and name in self.prompts:
                return self.prompts[name]
        return ""


def read_sentence_modules(folder: pathlib.Path) -> SentenceModules:
    """Reads the folder.

    Raises:
        ValueError: for a module or a pooling that cannot be carried out, since vectors without it would be
            others.
    """
    with reading("The files of a sentence encoder", folder):
        return _read(folder)


def _read(folder: pathlib.Path) -> SentenceModules:
    modules = read_json(folder, "modules.json", list)
    listed = [(str(module.get("type", "")).rpartition(".")[2], module.get("path", "")) for module in modules]
    kinds = dict(listed)
    for kind, path in listed:
        if kind not in (*_NOTHING_TO_DO, "Dense"):
            raise ValueError(
                "An encoder must be a Transformer, a pooling, dense layers and at most a scaling to length 1."
                f" Received: {kind} ({path!r}) in the modules.json of {str(folder)!r}. Take another encoder,"
                " or its Transformer alone from a copy of the folder without modules.json, whose vectors are"
                " others."
            )
    order = [kind for kind, _ in listed if kind != "Dropout"]
    doubled = len(order) - order.count("Dense") != len({*order} - {"Dense"})
    if doubled or order != sorted(order, key=["Transformer", "Pooling", "Dense", "Normalize"].index):
        raise ValueError(
            "The modules of an encoder must be a Transformer, a pooling, dense layers and a scaling to"
            f" length 1, in this order. Received: {', '.join(order)} in the modules.json of {str(folder)!r}."
            " Take another encoder."
        )
    if kinds.get("Transformer"):
        raise ValueError(
            "The Transformer's files must lie in the encoder's folder itself. Received: a modules.json that"
            f" names {kinds['Transformer']!r} in {str(folder)!r}. Move them up, and change the path in"
            " modules.json to ''."
        )
    path = kinds.get("Pooling", "" if modules else "1_Pooling")
    settings = read_json(folder, "sentence_bert_config.json")
    prompts = read_json(folder, "config_sentence_transformers.json")
    return SentenceModules(
        pooling=_pooling(folder, path) if path else None,
        dense=tuple(_dense(folder / path) for kind, path in listed if kind == "Dense"),
        normalize="Normalize" in kinds,
        max_length=_length(folder, settings) or (_tokenizers_length(folder) if modules else None),
        lowercase=bool(settings.get("do_lower_case")),
        prompts=_prompts(folder, prompts.get("prompts") or {}),
        default_prompt=prompts.get("default_prompt_name"),
    )


def _length(folder: pathlib.Path, settings: Mapping[str, Any]) -> int | None:
    length = settings.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise ValueError(
            "`max_seq_length` must be a whole number of at least 1, or null. Received:"
            f" {length!r} in the sentence_bert_config.json of {str(folder)!r}. Mend the file."
        )
    return length


def _prompts(folder: pathlib.Path, prompts: Any) -> dict[str, str]:
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ValueError(
            f"`prompts` must be texts by their names. Received: {prompts!r} in the"
            f" config_sentence_transformers.json of {str(folder)!r}. Mend the file, or name"
            " `query_prefix` and `item_prefix` and leave it out."
        )
    return prompts


def _tokenizers_length(folder: pathlib.Path) -> int | None:
    """Where sentence-transformers 6 writes the length; a tokenizer without a limit has a huge one."""
    length = read_json(folder, "tokenizer_config.json").get("model_max_length")
    return length if isinstance(length, int) and length < 1_000_000 else None


def _dense(folder: pathlib.Path) -> DenseModule:
    config = read_json(folder, "config.json")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    units = config.get("out_features")
    if type(units) is not int or units < 1 or name not in _ACTIVATIONS:
        raise ValueError(
            "A dense layer behind the pooling must have `out_features` and an activation of"
            f" {', '.join(_ACTIVATIONS)}. Received: {config or 'no config.json'} in {str(folder)!r}. Take"
            " another encoder."
        )
    return DenseModule(folder, units, _ACTIVATIONS[name], bool(config.get("bias", True)))


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
    if config.get("include_prompt", True) is False:
        raise ValueError(
            "The pooling must count all tokens. Received: include_prompt=false in"
            f" {folder / path / 'config.json'}, which leaves out those of a prompt. Take another encoder."
        )
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ValueError(
            "The pooling must be one of the first token (cls), the last, the mean or the maximum of all."
            " Received: "
            f"{', '.join(modes) or 'none'} in {folder / path / 'config.json'}. Take another encoder."
        )
    return _POOLINGS[modes[0]]
