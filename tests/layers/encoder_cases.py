"""Small Transformers of every family, and the random weights that both sides of a comparison give them.

NumPy alone: the environment with PyTorch reads this module too.
"""

from __future__ import annotations

import pathlib
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "encoder_references"

_BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
_DECODER = {**_BERT, "num_attention_heads": 4, "num_key_value_heads": 2}
_GEMMA = {**_DECODER, "head_dim": 6, "query_pre_attn_scalar": 9, "sliding_window": 4}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES: dict[str, dict] = {
    "bert": {"model_type": "bert", **_BERT},
    "roberta": {"model_type": "roberta", **_BERT, "type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **_BERT, "type_vocab_size": 1, "pad_token_id": 1},
    "electra": {"model_type": "electra", **_BERT, "embedding_size": 8},
    "mpnet": {"model_type": "mpnet", **_BERT, "pad_token_id": 1},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 40,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 20,
    },
    "deberta-v3": {
        "model_type": "deberta-v2",
        **_BERT,
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "max_relative_positions": -1,
        "layer_norm_eps": 1e-7,
    },
    "modernbert": {
        "model_type": "modernbert",
        **_BERT,
        "num_hidden_layers": 4,
        "local_attention": 4,
        "global_attn_every_n_layers": 3,
        "pad_token_id": 0,
    },
    "gte": {"model_type": "gte", **_BERT, "type_vocab_size": 1, "pad_token_id": 1},
    "eurobert": {"model_type": "eurobert", **_DECODER, "rope_theta": 250.0, "pad_token_id": 1},
    "llama": {"model_type": "llama", **_DECODER},
    "llama-3": {"model_type": "llama", **_DECODER, "rope_scaling": _LLAMA3, "rope_theta": 500.0},
    "mistral": {"model_type": "mistral", **_DECODER, "sliding_window": 3},
    "qwen2": {"model_type": "qwen2", **_DECODER},
    "qwen3": {"model_type": "qwen3", **_DECODER, "head_dim": 6, "rope_theta": 1e6},
    "gemma": {"model_type": "gemma", **_DECODER, "head_dim": 6},
    "gemma2": {"model_type": "gemma2", **_GEMMA, "attn_logit_softcapping": 5.0},
    "gemma3": {"model_type": "gemma3_text", **_GEMMA, "num_hidden_layers": 6},
    "embedding-gemma": {
        "model_type": "gemma3_text",
        **_GEMMA,
        "num_hidden_layers": 6,
        "use_bidirectional_attention": True,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 40,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 20,
    },
}
"""`config.json` as transformers 4 writes it, by the name of the reference."""

LENGTHS = (11, 6)


def tokens() -> dict[str, np.ndarray]:
    """Two texts of different length, the shorter one padded with RoBERTa's padding token."""
    ids = np.random.default_rng(7).integers(4, 40, (len(LENGTHS), max(LENGTHS))).astype(np.int32)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int32)
    return {"input_ids": np.where(mask, ids, 1).astype(np.int32), "attention_mask": mask}


def tensor(name: str, shape: list[int]) -> np.ndarray:
    """The random weights of a tensor, by its name and shape: wide enough that softmax and gates matter."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    around = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
    return (around + 0.3 * values).astype(np.float32)
