"""Loads a pretrained encoder's tokenizer, whatever its kind, as a layer."""

from __future__ import annotations

import os
import warnings
from typing import Any

from tfrec_fusion.layers.pretrained import find_pretrained, reading
from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.tokenizers.base import TextTokenizer
from tfrec_fusion.layers.tokenizers.builtin import PIECES_A_WORD, SUBWORDS
from tfrec_fusion.layers.tokenizers.ngrams import NgramTokenizer
from tfrec_fusion.layers.tokenizers.subword import SubwordTokenizer
from tfrec_fusion.layers.tokenizers.subword_files import read_subwords
from tfrec_fusion.layers.tokenizers.token_files import read_files
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError
from tfrec_fusion.layers.tokenizers.wordpiece import WordPieceTokenizer
from tfrec_fusion.layers.tokenizers.wordpiece_files import read_wordpiece


def load_tokenizer(name_or_folder: str | os.PathLike, max_length: int = 64, **kwargs: Any) -> TextTokenizer:
    """Reads a pretrained encoder's tokenizer, as the layer that gives the same ids in the graph.

    `tokenizer.json` comes first, then the older files (`vocab.txt`; `vocab.json` with `merges.txt`;
    `sentencepiece.bpe.model`), `tokenizer_config.json` says the rest. The length in the files is not used: it
    is what the encoder can do at most, not what your texts need.

    Args:
        name_or_folder: see `find_pretrained`; ``"subwords"`` for hashed n-grams, which need no files.
        max_length: the most tokens in a row, special ones included.
        **kwargs: arguments of the layer that replace what the files say, and `pad_to`.

    Returns:
        A `WordPieceTokenizer`, a `SubwordTokenizer` or a `NgramTokenizer`.

    Raises:
        PretrainedNotFoundError: if the files cannot be found.
        ValueError: if the tokenizer asks for something that cannot be done in the graph with equal ids; it is
            named.
    """
    if str(name_or_folder) == SUBWORDS:
        return NgramTokenizer(max_length=max_length * PIECES_A_WORD, **kwargs)
    folder = find_pretrained(name_or_folder, weights=False)
    most = read_sentence_modules(folder).max_length
    if most is not None and max_length > most:
        warnings.warn(
            f"`max_length` is {max_length}, while the encoder was trained on at most {most} tokens"
            f" ({folder.name}). Lower it, or see that longer texts are compared well.",
            stacklevel=2,
        )
    try:
        with reading("A tokenizer's files", folder):
            files = read_files(folder)
            arguments = read_wordpiece(files) if files.is_wordpiece else read_subwords(files)
        kind = WordPieceTokenizer if files.is_wordpiece else SubwordTokenizer
        return kind(**{**arguments, "max_length": max_length, **kwargs})
    except UnsupportedTokenizerError as error:
        raise UnsupportedTokenizerError(error.what, str(folder)) from None
