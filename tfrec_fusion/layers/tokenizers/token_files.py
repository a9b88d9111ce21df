"""Settings in a folder's files that any kind of tokenizer has: class, special tokens, added tokens."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from tfrec_fusion.layers.pretrained import read_json
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError

_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "convbert": "ConvBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
_WORDPIECE_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MPNetTokenizer",
    "MobileBertTokenizer",
    "ConvBertTokenizer",
    "RetriBertTokenizer",
)
USUAL_SHARE = 0.9  # of an encoder's embeddings, the least that belong to tokens
_ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token", "bos_token", "eos_token")


@dataclasses.dataclass(frozen=True)
class TokenizerFiles:
    """A folder's JSON files about its tokenizer, each an empty mapping where it is not there.

    Attributes:
        folder: the folder.
        whole: `tokenizer.json`; its model has a `type`, which older files leave out.
        settings: `tokenizer_config.json`.
        config: `config.json`, the encoder's.
        kind: the tokenizer's class without ``Fast``, from the encoder's type where none is written.
        special: special tokens by their role.
        entries: added tokens by their content, special ones too, each with `id`.
        not_looked_for: added tokens that are special, and so not looked for in a text.
    """

    folder: pathlib.Path
    whole: Mapping[str, Any]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    kind: str
    special: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Any]]
    not_looked_for: frozenset[str]

    @property
    def is_wordpiece(self) -> bool:
        """Whether the tokenizer is BERT's WordPiece."""
        if model := self.whole.get("model"):
            return model["type"] == "WordPiece"
        return self.kind in _WORDPIECE_CLASSES or (
            self.kind == "unknown" and (self.folder / "vocab.txt").is_file()
        )

    def added_tokens(self) -> list[dict[str, Any]]:
        """Added tokens that are looked for in a text, as arguments of `TextTokenizer`.

        Raises:
            UnsupportedTokenizerError: for a token that is only found as a whole word.
        """
        tokens = []
        for content, entry in self.entries.items():
            if entry.get("special") or content in self.not_looked_for:
                continue
            if entry.get("single_word"):
                raise UnsupportedTokenizerError(f"the added token {content!r} with single_word=true")
            kept = {name: bool(entry.get(name)) for name in ("lstrip", "rstrip", "normalized")}
            tokens.append({"content": content, "id": entry["id"], **kept})
        return tokens

    def check_size(self, tokens: int) -> None:
        """Whether the encoder knows all ids. Warns where it knows many more than there are: encoders round
        the number of their embeddings up by a few in a hundred.

        Raises:
            UnsupportedTokenizerError: where it embeds fewer than `tokens`.
        """
        size = self.config.get("vocab_size")
        if size is not None and tokens > size:
            raise UnsupportedTokenizerError(
                f"{tokens} tokens, of which the encoder embeds {size}: a tokenizer of another encoder,"
            )
        if size is not None and tokens < USUAL_SHARE * size:
            warnings.warn(
                f"A tokenizer must be the encoder's own. Received: {tokens:,} tokens in {str(self.folder)!r},"
                f" where the encoder embeds {size:,}. See whether both files are of one model.",
                stacklevel=2,
            )


def read_files(folder: pathlib.Path) -> TokenizerFiles:
    """Reads the folder's files.

    Raises:
        ValueError: for a file that is no JSON.
    """
    names = ("tokenizer.json", "tokenizer_config.json", "config.json", "special_tokens_map.json")
    whole, settings, config, roles = (read_json(folder, name) for name in names)
    if model := whole.get("model"):
        whole["model"] = {**model, "type": _type(model)}
    kind = settings.get("tokenizer_class") or config.get("tokenizer_class")
    kind = kind or _CLASS_OF_MODEL.get(config.get("model_type", ""), "unknown")
    named = {**roles, **settings}
    special = {role: _content(named[role]) for role in _ROLES if named.get(role) is not None}
    entries = {entry["content"]: entry for entry in whole.get("added_tokens", [])}
    for place, entry in settings.get("added_tokens_decoder", {}).items():
        entries[entry["content"]] = {**entry, "id": int(place)}
    for token, place in read_json(folder, "added_tokens.json").items():
        entries.setdefault(token, {"content": token, "id": place, "normalized": True})
    more = settings.get("additional_special_tokens") or []
    hidden = frozenset([*special.values(), *map(_content, more)])
    return TokenizerFiles(
        folder, whole, settings, config, kind.removesuffix("Fast"), special, entries, hidden
    )


def _type(model: Mapping[str, Any]) -> str:
    if "type" in model:
        return model["type"]
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token
