"""Prompts: what stands before a text for encoders that read queries and items differently.

E5 wants `query: ` and `passage: `, BGE and Qwen3-Embedding an instruction before queries alone. A folder of
sentence-transformers names them in `config_sentence_transformers.json`.
"""

from __future__ import annotations

import os
from typing import Literal

import tensorflow as tf

from tfrec_fusion.layers.pretrained import find_pretrained
from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.tokenizers.builtin import SUBWORDS
from tfrec_fusion.layers.tokenizers.strings import says_something


def read_prefix(
    name_or_folder: str | os.PathLike[str], side: Literal["query", "item"], given: str | None = None
) -> str:
    """What stands before the texts of one side.

    Args:
        name_or_folder: see `find_pretrained`.
        side: `query` for what users ask, `item` for what items say.
        given: takes the place of what the folder says; `""` for nothing. None: as the folder says.

    Returns:
        The prefix, `""` for none.

    Raises:
        PretrainedNotFoundError: if the folder is needed and cannot be found.
    """
    if given is not None:
        return given
    if str(name_or_folder) == SUBWORDS:
        return ""
    return read_sentence_modules(find_pretrained(name_or_folder, weights=False)).prefix(side)


def with_prefix(texts: tf.Tensor, prefix: str) -> tf.Tensor:
    """Puts a prefix before each text that says something; the others stay as they are.

    Args:
        texts: string, any shape.
        prefix: what stands before.
    """
    if not prefix:
        return texts
    return tf.where(says_something(texts), tf.strings.join([prefix, texts]), texts)
