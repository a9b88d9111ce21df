"""Encoders with rotary positions: ModernBERT, and the `new` architecture of GTE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfrec_fusion.layers.backbones.architecture import Architecture, Rope
from tfrec_fusion.layers.backbones.family import Family, Names, Slice, rope


def _modernbert(values: Mapping[str, Any]) -> Architecture:
    every, blocks = values["global_attn_every_n_layers"], values["num_hidden_layers"]
    kinds = values["layer_types"]
    local = tuple(
        kinds[block] == "sliding_attention" if kinds else block % every > 0 for block in range(blocks)
    )
    return Architecture(
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        num_blocks=blocks,
        num_heads=values["num_attention_heads"],
        ffn_dim=values["intermediate_size"],
        max_length=values["max_position_embeddings"],
        activation=values["hidden_activation"],
        norm_position="before",
        norm_bias=values["norm_bias"],
        norm_epsilon=values["norm_eps"],
        first_norm=False,
        final_norm=True,
        qkv_bias=values["attention_bias"],
        output_bias=values["attention_bias"],
        ffn_bias=values["mlp_bias"],
        ffn_out_bias=values["mlp_bias"],
        gated=True,
        rope=Rope(values["global_rope_theta"]),
        local_rope=Rope(values["local_rope_theta"] or values["global_rope_theta"]),
        local_blocks=local,
        # Half of `local_attention` to each side, that distance included.
        window=values["local_attention"] // 2 + 1,
        hidden_dropout=values["mlp_dropout"],
        attention_dropout=values["attention_dropout"],
        embedding_dropout=values["embedding_dropout"],
        initializer_range=values["initializer_range"],
    )


def _gte(values: Mapping[str, Any]) -> Architecture:
    return Architecture(
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        num_blocks=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        ffn_dim=values["intermediate_size"],
        max_length=values["max_position_embeddings"],
        activation=values["hidden_act"],
        num_segments=values["type_vocab_size"],
        norm_epsilon=values["layer_norm_eps"],
        ffn_bias=False,
        gated=True,
        rope=rope(values, values["rope_theta"]),
        hidden_dropout=values["hidden_dropout_prob"],
        attention_dropout=values["attention_probs_dropout_prob"],
        embedding_dropout=values["hidden_dropout_prob"],
        initializer_range=values["initializer_range"],
    )


_GTE: dict[str, Any] = {
    "vocab_size": 250048,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 8192,
    "type_vocab_size": 1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "rope_theta": 160_000.0,
    "rope_scaling": None,
}
_GTE_EMBEDDINGS: Names = {
    "tokens": "embeddings.word_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
}
_GTE_PACKED: Names = {
    **_GTE_EMBEDDINGS,
    "block.query": Slice("encoder.layer.{}.attention.qkv_proj", 0, 3),
    "block.key": Slice("encoder.layer.{}.attention.qkv_proj", 1, 3),
    "block.value": Slice("encoder.layer.{}.attention.qkv_proj", 2, 3),
    "block.output": "encoder.layer.{}.attention.o_proj",
    "block.norm_after_attention": "encoder.layer.{}.attn_ln",
    "block.ffn_gate": Slice("encoder.layer.{}.mlp.up_gate_proj", 0, 2),
    "block.ffn_in": Slice("encoder.layer.{}.mlp.up_gate_proj", 1, 2),
    "block.ffn_out": "encoder.layer.{}.mlp.down_proj",
    "block.norm_after_feed_forward": "encoder.layer.{}.mlp_ln",
}

ROTARY_FAMILIES: dict[str, Family] = {
    # Warner et al., 2024, https://arxiv.org/abs/2412.13663
    "modernbert": Family(
        {
            "vocab_size": 50368,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "initializer_range": 0.02,
            "norm_eps": 1e-5,
            "norm_bias": False,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "embedding_dropout": 0.0,
            "mlp_bias": False,
            "mlp_dropout": 0.0,
            "global_attn_every_n_layers": 3,
            "layer_types": None,
            "local_attention": 128,
            "global_rope_theta": 160_000.0,
            "local_rope_theta": 10_000.0,
        },
        _modernbert,
        {
            "tokens": "embeddings.tok_embeddings",
            "embedding_norm": "embeddings.norm",
            "block.norm_before_attention": "layers.{}.attn_norm",
            "block.query": Slice("layers.{}.attn.Wqkv", 0, 3),
            "block.key": Slice("layers.{}.attn.Wqkv", 1, 3),
            "block.value": Slice("layers.{}.attn.Wqkv", 2, 3),
            "block.output": "layers.{}.attn.Wo",
            "block.norm_before_feed_forward": "layers.{}.mlp_norm",
            "block.ffn_in": Slice("layers.{}.mlp.Wi", 0, 2),
            "block.ffn_gate": Slice("layers.{}.mlp.Wi", 1, 2),
            "block.ffn_out": "layers.{}.mlp.Wo",
            "final_norm": "final_norm",
        },
    ),
    # Zhang et al., 2024, https://arxiv.org/abs/2407.19669: gte-base-en-v1.5, gte-multilingual-base, as their
    # own code has them
    "new": Family(
        {
            **_GTE,
            "vocab_size": 30528,
            "max_position_embeddings": 2048,
            "rope_theta": 10_000.0,
            "layer_norm_type": "layer_norm",
            "position_embedding_type": "rope",
            "logn_attention_scale": False,
            "pack_qkv": True,
        },
        _gte,
        _GTE_PACKED,
        {
            "layer_norm_type": ("layer_norm",),
            "position_embedding_type": ("rope",),
            "logn_attention_scale": (False,),
            "pack_qkv": (True,),
        },
    ),
    # the same as transformers 5 has it in memory, and writes it under the other names
    "gte": Family(
        _GTE,
        _gte,
        {
            **_GTE_EMBEDDINGS,
            "block.query": "layers.{}.self_attn.q_proj",
            "block.key": "layers.{}.self_attn.k_proj",
            "block.value": "layers.{}.self_attn.v_proj",
            "block.output": "layers.{}.self_attn.o_proj",
            "block.norm_after_attention": "layers.{}.post_attention_layernorm",
            "block.ffn_in": "layers.{}.mlp.gate_proj",
            "block.ffn_gate": "layers.{}.mlp.up_proj",
            "block.ffn_out": "layers.{}.mlp.down_proj",
            "block.norm_after_feed_forward": "layers.{}.post_mlp_layernorm",
        },
        other_names=_GTE_PACKED,
    ),
}
