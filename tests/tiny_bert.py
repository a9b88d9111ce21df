"""A BERT small enough to train in a test, as the folder of files that a pretrained one comes in."""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WIDTH, INNER, LENGTH = 16, 24, 16


def write_tiny_bert(folder: pathlib.Path, words: list[str], seed: int = 0, blocks: int = 2) -> str:
    """Writes a BERT with random weights that knows `words`; returns the folder's name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    config = {
        "model_type": "bert",
        "vocab_size": len(SPECIAL) + len(words),
        "hidden_size": WIDTH,
        "num_hidden_layers": blocks,
        "num_attention_heads": 2,
        "intermediate_size": INNER,
        "max_position_embeddings": LENGTH,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_tensors(config["vocab_size"], blocks, seed), folder / "model.safetensors")
    return str(folder)


def _tensors(vocabulary: int, blocks: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (0.3 * rng.normal(size=shape)).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}

    def dense(name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": np.zeros(outputs, np.float32)}

    tensors = norm("embeddings.LayerNorm")
    for name, rows in (("word", vocabulary), ("position", LENGTH), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = normal(rows, WIDTH)
    for block in range(blocks):
        name = f"encoder.layer.{block}"
        for matrix in ("query", "key", "value"):
            tensors |= dense(f"{name}.attention.self.{matrix}", WIDTH, WIDTH)
        tensors |= dense(f"{name}.attention.output.dense", WIDTH, WIDTH)
        tensors |= dense(f"{name}.intermediate.dense", WIDTH, INNER)
        tensors |= dense(f"{name}.output.dense", INNER, WIDTH)
        tensors |= norm(f"{name}.attention.output.LayerNorm") | norm(f"{name}.output.LayerNorm")
    return tensors
