"""A BERT small enough to train in a test, as the folder of files that a pretrained one comes in."""

import pathlib

import tf_keras
from transformers import BertConfig, TFBertModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tiny_bert(folder: pathlib.Path, words: list[str], seed: int = 0, blocks: int = 2) -> str:
    """Writes a BERT with random weights that knows `words`; returns the folder's name."""
    tf_keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=16,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        initializer_range=0.3,
    )
    model = TFBertModel(config)
    model.build_in_name_scope()
    model.save_pretrained(folder)
    return str(folder)
