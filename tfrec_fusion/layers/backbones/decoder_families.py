"""Language models that write, taken as encoders: Llama, Mistral, Qwen, Gemma, GPT-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfrec_fusion.layers.backbones.architecture import Architecture
from tfrec_fusion.layers.backbones.family import Family, Names, Slice, rope

_LLAMA: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
}
_MISTRAL = {
    **{key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "mlp_bias")},
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
_QWEN2 = {
    **{key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "mlp_bias")},
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
_GEMMA = {
    **{key: value for key, value in _LLAMA.items() if key != "mlp_bias"},
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
}
_GEMMA2 = {
    **{key: value for key, value in _GEMMA.items() if key != "hidden_act"},
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "layer_types": None,
}
_GEMMA3 = {
    **_GEMMA2,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "attn_logit_softcapping": None,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "use_bidirectional_attention": False,
}


def _decoder(values: Mapping[str, Any], **changes: Any) -> Architecture:
    kinds = changes.pop("layer_types", None) or values.get("layer_types") or ()
    settings = {
        "vocab_size": values["vocab_size"],
        "width": values["hidden_size"],
        "num_blocks": values["num_hidden_layers"],
        "num_heads": values["num_attention_heads"],
        "num_kv_heads": values["num_key_value_heads"],
        "head_dim": values["head_dim"],
        "ffn_dim": values["intermediate_size"],
        "max_length": values["max_position_embeddings"],
        "activation": values.get("hidden_activation") or values["hidden_act"],
        "embedding_norm": False,
        "norm": "rms",
        "norm_position": "before",
        "norm_epsilon": values["rms_norm_eps"],
        "final_norm": True,
        "qkv_bias": values.get("attention_bias", False),
        "output_bias": values.get("attention_bias", False),
        "ffn_bias": values.get("mlp_bias", False),
        "ffn_out_bias": values.get("mlp_bias", False),
        "gated": True,
        "causal": True,
        "rope": rope(values, values["rope_theta"]),
        "local_blocks": tuple(kind == "sliding_attention" for kind in kinds),
        "window": values.get("sliding_window") or 0,
        "attention_dropout": values["attention_dropout"],
        "initializer_range": values["initializer_range"],
    }
    return Architecture(**{**settings, **changes})


def _eurobert(values: Mapping[str, Any]) -> Architecture:
    return _decoder(values, causal=False)


def _mistral(values: Mapping[str, Any]) -> Architecture:
    kind = "sliding_attention" if values["sliding_window"] else "full_attention"
    return _decoder(values, layer_types=[kind] * values["num_hidden_layers"])


def _qwen_layers(values: Mapping[str, Any]) -> list[str]:
    if values["layer_types"]:
        return values["layer_types"]
    slides = values["use_sliding_window"] and values["sliding_window"]
    return [
        "sliding_attention" if slides and block >= values["max_window_layers"] else "full_attention"
        for block in range(values["num_hidden_layers"])
    ]


def _qwen2(values: Mapping[str, Any]) -> Architecture:
    return _decoder(values, qkv_bias=True, layer_types=_qwen_layers(values))


def _qwen3(values: Mapping[str, Any]) -> Architecture:
    return _decoder(values, head_norm=True, layer_types=_qwen_layers(values))


def _gemma(values: Mapping[str, Any], **changes: Any) -> Architecture:
    scale = values["hidden_size"] ** 0.5
    return _decoder(values, norm="rms_shifted", embedding_scale=scale, **changes)


def _gemma_sandwich(values: Mapping[str, Any], every: int, **changes: Any) -> Architecture:
    kinds = values["layer_types"] or [
        "full_attention" if (block + 1) % every == 0 else "sliding_attention"
        for block in range(values["num_hidden_layers"])
    ]
    return _gemma(
        values,
        norm_position="both",
        score_scale=values["query_pre_attn_scalar"] ** -0.5,
        score_cap=values["attn_logit_softcapping"],
        layer_types=kinds,
        **changes,
    )


def _gemma2(values: Mapping[str, Any]) -> Architecture:
    return _gemma_sandwich(values, 2)


def _gemma3(values: Mapping[str, Any]) -> Architecture:
    both_ways = values["use_bidirectional_attention"]
    return _gemma_sandwich(
        values,
        6,
        head_norm=True,
        local_rope=rope({}, values["rope_local_base_freq"]),
        causal=not both_ways,
        # Both ways the window is divided between the sides.
        window=values["sliding_window"] // 2 + 1 if both_ways else values["sliding_window"],
    )


def _gpt2(values: Mapping[str, Any]) -> Architecture:
    return Architecture(
        vocab_size=values["vocab_size"],
        width=values["n_embd"],
        num_blocks=values["n_layer"],
        num_heads=values["n_head"],
        ffn_dim=values["n_inner"] or 4 * values["n_embd"],
        max_length=values["n_positions"],
        activation=values["activation_function"],
        embedding_norm=False,
        num_positions=values["n_positions"],
        norm_position="before",
        norm_epsilon=values["layer_norm_epsilon"],
        final_norm=True,
        causal=True,
        hidden_dropout=values["resid_pdrop"],
        attention_dropout=values["attn_pdrop"],
        embedding_dropout=values["embd_pdrop"],
        initializer_range=values["initializer_range"],
    )


_NAMES: Names = {
    "tokens": "embed_tokens",
    "block.norm_before_attention": "layers.{}.input_layernorm",
    "block.query": "layers.{}.self_attn.q_proj",
    "block.key": "layers.{}.self_attn.k_proj",
    "block.value": "layers.{}.self_attn.v_proj",
    "block.output": "layers.{}.self_attn.o_proj",
    "block.norm_before_feed_forward": "layers.{}.post_attention_layernorm",
    "block.ffn_in": "layers.{}.mlp.gate_proj",
    "block.ffn_gate": "layers.{}.mlp.up_proj",
    "block.ffn_out": "layers.{}.mlp.down_proj",
    "final_norm": "norm",
}
_QWEN3_NAMES: Names = {
    **_NAMES,
    "block.query_norm": "layers.{}.self_attn.q_norm",
    "block.key_norm": "layers.{}.self_attn.k_norm",
}
_SANDWICH = {
    "block.norm_after_attention": "layers.{}.post_attention_layernorm",
    "block.norm_before_feed_forward": "layers.{}.pre_feedforward_layernorm",
    "block.norm_after_feed_forward": "layers.{}.post_feedforward_layernorm",
}

DECODER_FAMILIES: dict[str, Family] = {
    "llama": Family(_LLAMA, _decoder, _NAMES),
    # Boizard et al., 2025, https://arxiv.org/abs/2503.05500: Llama's block, seeing both ways
    "eurobert": Family({**_LLAMA, "vocab_size": 128256, "rms_norm_eps": 1e-5}, _eurobert, _NAMES),
    "mistral": Family(_MISTRAL, _mistral, _NAMES),
    "qwen2": Family(_QWEN2, _qwen2, _NAMES),
    "qwen3": Family({**_QWEN2, "head_dim": 128, "attention_bias": False}, _qwen3, _QWEN3_NAMES),
    "gemma": Family(_GEMMA, _gemma, _NAMES),
    "gemma2": Family(
        {**_GEMMA2, "use_bidirectional_attention": None},
        _gemma2,
        {**_NAMES, **_SANDWICH},
        {"use_bidirectional_attention": (None, False)},
    ),
    "gemma3_text": Family(_GEMMA3, _gemma3, {**_QWEN3_NAMES, **_SANDWICH}),
    "gpt2": Family(
        {
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "activation_function": "gelu_new",
            "resid_pdrop": 0.1,
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        _gpt2,
        {
            "tokens": "wte",
            "positions": "wpe",
            "block.norm_before_attention": "h.{}.ln_1",
            "block.query": Slice("h.{}.attn.c_attn", 0, 3),
            "block.key": Slice("h.{}.attn.c_attn", 1, 3),
            "block.value": Slice("h.{}.attn.c_attn", 2, 3),
            "block.output": "h.{}.attn.c_proj",
            "block.norm_before_feed_forward": "h.{}.ln_2",
            "block.ffn_in": "h.{}.mlp.c_fc",
            "block.ffn_out": "h.{}.mlp.c_proj",
            "final_norm": "ln_f",
        },
        {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
        transposed=False,
    ),
}
