"""Files of a WordPiece tokenizer, read as arguments of `WordPieceTokenizer`, or refused where its ids would
be others."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.tokenizers.token_files import TokenizerFiles
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError


def read_vocabulary(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads a `vocab.txt`: one token a line, the line's number is the id. An empty line's id has no token."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A vocabulary must be UTF-8. Received: {os.fspath(path)!r} ({error}). Download it again."
        ) from error
    while lines and not lines[-1]:
        lines.pop()
    return without_repeats(lines)


def without_repeats(tokens: Sequence[str]) -> tuple[str, ...]:
    """The tokens by id; of one that stands there twice, the first becomes empty."""
    last = {token: place for place, token in enumerate(tokens)}
    return tuple(token if last[token] == place else "" for place, token in enumerate(tokens))


def read_wordpiece(files: TokenizerFiles) -> dict[str, Any]:
    """Reads a folder's WordPiece tokenizer as arguments of `WordPieceTokenizer`.

    Raises:
        ValueError: if it is no WordPiece tokenizer, or has settings with which Hugging Face's ids would be
            others than the layer's.
    """
    settings, model, folder = files.settings, files.whole.get("model", {}), files.folder
    if model.get("type") == "WordPiece":
        vocabulary = in_order(model["vocab"])
    elif (folder / "vocab.txt").is_file():
        vocabulary = read_vocabulary(folder / "vocab.txt")
    else:
        raise ValueError(
            "A WordPiece tokenizer needs `vocab.txt` or a `tokenizer.json` with a WordPiece model. Received:"
            f" the folder {str(folder)!r} with {sorted(path.name for path in folder.iterdir())}. Write them"
            " with `tokenizer.save_pretrained(folder)`."
        )
    for fault in _faults(files):
        raise UnsupportedTokenizerError(fault)
    added = files.added_tokens()
    files.check_size(max([len(vocabulary), *(1 + token["id"] for token in added)]))
    normalizer = files.whole.get("normalizer") or {}
    lowercase = settings.get("do_lower_case", normalizer.get("lowercase", True))
    strip = settings.get("strip_accents", normalizer.get("strip_accents"))
    if read_sentence_modules(folder).lowercase and not lowercase:
        # Texts are lower-cased in front of a cased tokenizer, which keeps its accents.
        lowercase, strip = True, bool(strip)
    ideographs = normalizer.get("handle_chinese_chars", True)
    return {
        "vocabulary": vocabulary,
        "lowercase": lowercase,
        "strip_accents": strip,
        "split_ideographs": settings.get("tokenize_chinese_chars", ideographs),
        "separators": 2 if "MPNet" in settings.get("tokenizer_class", "") else 1,
        "added_tokens": added,
        **{role: token for role, token in files.special.items() if role in _USED},
    }


MOST_TOKENS = 100_000_000
_USED = ("cls_token", "sep_token", "pad_token", "unk_token")


def in_order(vocab: Mapping[str, int]) -> tuple[str, ...]:
    """The tokens by id, an empty one for an id that no token has.

    Raises:
        ValueError: for an id that two tokens have, or that is none.
    """
    for token, place in vocab.items():
        if type(place) is not int or not 0 <= place < MOST_TOKENS:
            raise ValueError(
                f"The id of a token must be a whole number from 0 to {MOST_TOKENS - 1:,}. Received:"
                f" {place!r} of {token!r}. Download the tokenizer again."
            )
    tokens = [""] * (1 + max(vocab.values(), default=-1))
    for token, place in vocab.items():
        if tokens[place]:
            raise ValueError(
                f"A vocabulary must give each token an id of its own. Received: {tokens[place]!r} and"
                f" {token!r} with id {place}. Give one of them another."
            )
        tokens[place] = token
    return tuple(tokens)


def _faults(files: TokenizerFiles) -> Iterator[str]:
    """What the layer does not do, in words."""
    whole = files.whole
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
        if files.settings.get(side, "right") != "right":
            yield f"{side}={files.settings[side]!r}"
