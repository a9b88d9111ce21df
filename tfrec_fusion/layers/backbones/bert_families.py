"""BERT and its relatives: learned positions, norms after each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfrec_fusion.layers.backbones.architecture import Architecture
from tfrec_fusion.layers.backbones.family import Family, Names

_BERT: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
_ONLY: dict[str, tuple[Any, ...]] = {"position_embedding_type": ("absolute", None), "is_decoder": (False,)}
_BERT_NAMES: Names = {
    "tokens": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "block.query": "encoder.layer.{}.attention.self.query",
    "block.key": "encoder.layer.{}.attention.self.key",
    "block.value": "encoder.layer.{}.attention.self.value",
    "block.output": "encoder.layer.{}.attention.output.dense",
    "block.norm_after_attention": "encoder.layer.{}.attention.output.LayerNorm",
    "block.ffn_in": "encoder.layer.{}.intermediate.dense",
    "block.ffn_out": "encoder.layer.{}.output.dense",
    "block.norm_after_feed_forward": "encoder.layer.{}.output.LayerNorm",
}


def _bert(values: Mapping[str, Any], **changes: Any) -> Architecture:
    settings = {
        "vocab_size": values["vocab_size"],
        "width": values["hidden_size"],
        "num_blocks": values["num_hidden_layers"],
        "num_heads": values["num_attention_heads"],
        "ffn_dim": values["intermediate_size"],
        "max_length": values["max_position_embeddings"],
        "activation": values["hidden_act"],
        "num_positions": values["max_position_embeddings"],
        "num_segments": values.get("type_vocab_size", 0),
        "norm_epsilon": values["layer_norm_eps"],
        "hidden_dropout": values["hidden_dropout_prob"],
        "attention_dropout": values["attention_probs_dropout_prob"],
        "embedding_dropout": values["hidden_dropout_prob"],
        "initializer_range": values["initializer_range"],
    }
    return Architecture(**{**settings, **changes})


def _after_padding(values: Mapping[str, Any], **changes: Any) -> Architecture:
    """Positions count from the padding token's id on, which leaves fewer rows for tokens."""
    padding = values["pad_token_id"]
    longest = values["max_position_embeddings"] - padding - 1
    return _bert(values, padding_id=padding, max_length=longest, **changes)


def _electra(values: Mapping[str, Any]) -> Architecture:
    return _bert(values, embedding_dim=values["embedding_size"])


def _mpnet(values: Mapping[str, Any]) -> Architecture:
    # MPNet's code takes 1 for padding, whatever the configuration says.
    fixed = {**values, "pad_token_id": 1}
    return _after_padding(fixed, relative_buckets=values["relative_attention_num_buckets"])


def _distilbert(values: Mapping[str, Any]) -> Architecture:
    return Architecture(
        vocab_size=values["vocab_size"],
        width=values["dim"],
        num_blocks=values["n_layers"],
        num_heads=values["n_heads"],
        ffn_dim=values["hidden_dim"],
        max_length=values["max_position_embeddings"],
        activation=values["activation"],
        num_positions=values["max_position_embeddings"],
        hidden_dropout=values["dropout"],
        attention_dropout=values["attention_dropout"],
        embedding_dropout=values["dropout"],
        initializer_range=values["initializer_range"],
    )


def _deberta(values: Mapping[str, Any]) -> Architecture:
    if not values["relative_attention"] or values["position_buckets"] < 1:
        raise ValueError(
            "A DeBERTa must have `relative_attention` and `position_buckets`, as version 3 has. Received:"
            f" relative_attention={values['relative_attention']!r}, position_buckets="
            f"{values['position_buckets']!r}. Take a DeBERTa of version 3."
        )
    farthest = values["max_relative_positions"]
    longest = values["max_position_embeddings"]
    return _bert(
        values,
        max_length=longest if farthest < 1 else farthest,
        num_positions=longest if values["position_biased_input"] else 0,
        embedding_dim=values["embedding_size"] or values["hidden_size"],
        projection_bias=False,
        disentangled_buckets=values["position_buckets"],
        disentangled_norm="layer_norm" in str(values["norm_rel_ebd"]).lower(),
    )


def _bert_without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in _BERT.items() if key not in keys}


_ROBERTA = {**_BERT, "vocab_size": 50265, "pad_token_id": 1}
_roberta = Family(_ROBERTA, _after_padding, _BERT_NAMES, _ONLY)

BERT_FAMILIES: dict[str, Family] = {
    "bert": Family(_BERT, _bert, _BERT_NAMES, _ONLY),
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "electra": Family(
        {
            **_BERT,
            "embedding_size": 128,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        _electra,
        {**_BERT_NAMES, "projection": "embeddings_project"},
        _ONLY,
    ),
    "mpnet": Family(
        {
            **_bert_without("type_vocab_size", "position_embedding_type", "is_decoder"),
            "vocab_size": 30527,
            "relative_attention_num_buckets": 32,
        },
        _mpnet,
        {
            **{part: name for part, name in _BERT_NAMES.items() if part != "segments"},
            "bias_by_distance": "encoder.relative_attention_bias",
            "block.query": "encoder.layer.{}.attention.attn.q",
            "block.key": "encoder.layer.{}.attention.attn.k",
            "block.value": "encoder.layer.{}.attention.attn.v",
            "block.output": "encoder.layer.{}.attention.attn.o",
            "block.norm_after_attention": "encoder.layer.{}.attention.LayerNorm",
        },
        # MPNet's code divides distances into 32 buckets, whatever the configuration says.
        {"relative_attention_num_buckets": (32,)},
    ),
    "distilbert": Family(
        {
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "n_layers": 6,
            "n_heads": 12,
            "dim": 768,
            "hidden_dim": 3072,
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "activation": "gelu",
            "initializer_range": 0.02,
        },
        _distilbert,
        {
            "tokens": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "embedding_norm": "embeddings.LayerNorm",
            "block.query": "transformer.layer.{}.attention.q_lin",
            "block.key": "transformer.layer.{}.attention.k_lin",
            "block.value": "transformer.layer.{}.attention.v_lin",
            "block.output": "transformer.layer.{}.attention.out_lin",
            "block.norm_after_attention": "transformer.layer.{}.sa_layer_norm",
            "block.ffn_in": "transformer.layer.{}.ffn.lin1",
            "block.ffn_out": "transformer.layer.{}.ffn.lin2",
            "block.norm_after_feed_forward": "transformer.layer.{}.output_layer_norm",
        },
    ),
    "deberta-v2": Family(
        {
            **_bert_without("position_embedding_type", "is_decoder"),
            "vocab_size": 128100,
            "hidden_size": 1536,
            "num_hidden_layers": 24,
            "num_attention_heads": 24,
            "intermediate_size": 6144,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-7,
            "embedding_size": None,
            "relative_attention": False,
            "max_relative_positions": -1,
            "position_buckets": -1,
            "norm_rel_ebd": "none",
            "position_biased_input": True,
            "share_att_key": False,
            "pos_att_type": None,
            "conv_kernel_size": 0,
        },
        _deberta,
        {
            **_BERT_NAMES,
            "projection": "embeddings.embed_proj",
            "distances": "encoder.rel_embeddings",
            "distance_norm": "encoder.LayerNorm",
            "block.query": "encoder.layer.{}.attention.self.query_proj",
            "block.key": "encoder.layer.{}.attention.self.key_proj",
            "block.value": "encoder.layer.{}.attention.self.value_proj",
        },
        {
            "share_att_key": (True,),
            "pos_att_type": (["p2c", "c2p"], ["c2p", "p2c"], "p2c|c2p", "c2p|p2c"),
            "conv_kernel_size": (0,),
        },
    ),
}
"""Families by `model_type`. Sentence encoders among them: MiniLM, E5, BGE, GTE, LaBSE (`bert`), multilingual
E5, paraphrase-multilingual and BGE-M3 (`bert`, `xlm-roberta`), all-mpnet (`mpnet`)."""
