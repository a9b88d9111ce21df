"""Files of a WordPiece tokenizer, read as arguments of `WordPieceTokenizer`, or refused where its ids would
be others."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from tfrec_fusion.layers.pretrained import read_json
from tfrec_fusion.layers.sentence_modules import read_sentence_modules

WORDPIECE_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MPNetTokenizer",
    "MobileBertTokenizer",
    "ConvBertTokenizer",
    "RetriBertTokenizer",
)

_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "convbert": "ConvBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}


def tokenizer_class(folder: pathlib.Path) -> str:
    """The name of a folder's tokenizer class, without ``Fast``; from the model's type where none is
    written."""
    name = read_json(folder, "tokenizer_config.json").get("tokenizer_class")
    config = read_json(folder, "config.json")
    name = (
        name or config.get("tokenizer_class") or _CLASS_OF_MODEL.get(config.get("model_type", ""), "unknown")
    )
    return name.removesuffix("Fast")


def read_vocabulary(path: str | os.PathLike) -> list[str]:
    """Reads a `vocab.txt`: one token a line, the line's number is the id. Empty lines at the end are no
    tokens.

    Raises:
        ValueError: for a token that stands there twice, or an empty line before the last token.
    """
    lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    check_vocabulary(lines, str(path))
    return lines


def check_vocabulary(tokens: Sequence[str], where: str = "") -> None:
    """Refuses tokens that stand twice, of which only one can have an id, and empty ones.

    Raises:
        ValueError: names both lines.
    """
    first: dict[str, int] = {}
    for line, token in enumerate(tokens, 1):
        if not token or token in first:
            what = (
                f"{token!r} in line {first[token]} and again in line {line}"
                if token
                else f"an empty line {line}"
            )
            raise ValueError(
                f"A vocabulary must hold each token once{f' ({where})' if where else ''}. Received: {what}."
                " Put a name that no text has, such as '[unused]' with a number, in place of one."
            )
        first[token] = line


def read_wordpiece(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a folder's WordPiece tokenizer as arguments of `WordPieceTokenizer`.

    Raises:
        ValueError: if it is no WordPiece tokenizer, or has ids that no token has, added tokens, or settings
            with which Hugging Face's ids would be others than the layer's.
    """
    settings, whole = read_json(folder, "tokenizer_config.json"), read_json(folder, "tokenizer.json")
    model = whole.get("model", {})
    if model.get("type") == "WordPiece":
        vocabulary = _in_order(model["vocab"], folder)
    elif (folder / "vocab.txt").is_file():
        vocabulary = read_vocabulary(folder / "vocab.txt")
    else:
        raise ValueError(
            "A WordPiece tokenizer needs `vocab.txt` or a `tokenizer.json` with a WordPiece model. Received:"
            f" the folder {str(folder)!r} with {sorted(path.name for path in folder.iterdir())}. Use"
            " `load_tokenizer`, which chooses the layer by the tokenizer's class."
        )
    named = {**read_json(folder, "special_tokens_map.json"), **settings}
    special = _special_tokens(named)
    for fault in _faults(folder, whole, settings, vocabulary, set(special.values())):
        raise ValueError(
            f"A tokenizer must give the same ids here as from Hugging Face. Received: {fault} in"
            f" {str(folder)!r}. Take an encoder without it, or tokenize before the graph with transformers'"
            " AutoTokenizer."
        )
    lowercase, strip = settings.get("do_lower_case", True), settings.get("strip_accents")
    if read_sentence_modules(folder).lowercase and not lowercase:
        # Texts are lower-cased in front of a cased tokenizer, which keeps its accents.
        lowercase, strip = True, bool(strip)
    return {
        "vocabulary": vocabulary,
        "lowercase": lowercase,
        "strip_accents": strip,
        "split_ideographs": settings.get("tokenize_chinese_chars", True),
        "separators": 2 if "MPNet" in settings.get("tokenizer_class", "") else 1,
        **{name: token for name, token in special.items() if name in _USED},
    }


_USED = ("cls_token", "sep_token", "pad_token", "unk_token")


def _special_tokens(named: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in (*_USED, "mask_token", "bos_token", "eos_token"):
        token = named.get(name)
        if token is not None:
            tokens[name] = token["content"] if isinstance(token, dict) else token
    return tokens


def _in_order(vocab: dict[str, int], folder: pathlib.Path) -> list[str]:
    """The tokens by id.

    Raises:
        ValueError: if the ids are not 0, 1, 2 … each once.
    """
    tokens = sorted(vocab, key=vocab.__getitem__)
    for expected, token in enumerate(tokens):
        if vocab[token] != expected:
            raise ValueError(
                f"A vocabulary must have the ids 0 to {len(tokens) - 1}, each once. Received: {token!r} with"
                f" id {vocab[token]} in place of {expected}, in the tokenizer.json of {str(folder)!r}. Give a"
                " hole a name that no text has, such as '[unused]' with a number."
            )
    return tokens


def _faults(
    folder: pathlib.Path,
    whole: dict[str, Any],
    settings: dict[str, Any],
    vocabulary: list[str],
    special: set[str],
) -> Iterator[str]:
    """What the layer does not do, in words."""
    if added := _added_tokens(folder, whole, settings, special):
        shown = ", ".join(map(repr, added[:5])) + (f" and {len(added) - 5} more" if added[5:] else "")
        yield f"added tokens, which are found in a text before words are split: {shown}"
    model, normalizer = whole.get("model", {}), whole.get("normalizer") or {}
    expected = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    for name, value in expected.items():
        if model.get(name, value) != value:
            yield f"{name}={model[name]!r} in tokenizer.json, where BERT has {value!r}"
    if whole and normalizer.get("type", "BertNormalizer") != "BertNormalizer":
        yield f"the normalizer {normalizer['type']!r} in tokenizer.json"
    if normalizer.get("clean_text") is False:
        yield "clean_text=false in tokenizer.json"
    splitter = (whole.get("pre_tokenizer") or {}).get("type", "BertPreTokenizer")
    if splitter != "BertPreTokenizer":
        yield f"the pre-tokenizer {splitter!r} in tokenizer.json"
    for side in ("padding_side", "truncation_side"):
        if settings.get(side, "right") != "right":
            yield f"{side}={settings[side]!r}"
    size = read_json(folder, "config.json").get("vocab_size")
    if size is not None and len(vocabulary) > size:
        yield f"{len(vocabulary)} tokens, of which the encoder embeds {size}"


def _added_tokens(
    folder: pathlib.Path, whole: dict[str, Any], settings: dict[str, Any], special: set[str]
) -> list[str]:
    """Added tokens that are found in a text; with `split_special_tokens=True`, special ones are not."""
    entries = [*whole.get("added_tokens", []), *settings.get("added_tokens_decoder", {}).values()]
    listed = {entry["content"]: bool(entry.get("special")) for entry in entries}
    for token in read_json(folder, "added_tokens.json"):
        listed.setdefault(token, token in special)
    more = settings.get("additional_special_tokens") or []
    special = special | {token["content"] if isinstance(token, dict) else token for token in more}
    return [token for token, is_special in listed.items() if not is_special and token not in special]
