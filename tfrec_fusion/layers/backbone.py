"""The Transformer inside the text encoder: transformers' TensorFlow layers, run block by block.

transformers' own `call` runs all blocks, with Python work that serves its many options. Running the blocks
from here lets the encoder stop dropout in frozen blocks, start from cached activations, and leave out the
pooler, which sentence vectors do not use.
"""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.stateless_random import make_repeatable

# Where a block keeps its matrices, by the names that LoRA's targets use.
_BERT_MATRICES = {
    "query": "attention.self_attention.query",
    "key": "attention.self_attention.key",
    "value": "attention.self_attention.value",
    "output": "attention.dense_output.dense",
    "ffn_in": "intermediate.dense",
    "ffn_out": "bert_output.dense",
}
MATRICES = {
    "bert": _BERT_MATRICES,
    "roberta": _BERT_MATRICES,
    "xlm-roberta": _BERT_MATRICES,
    "electra": _BERT_MATRICES,
    "mpnet": {
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "output": "attention.attn.o",
        "ffn_in": "intermediate.dense",
        "ffn_out": "out.dense",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "ffn_in": "ffn.lin1",
        "ffn_out": "ffn.lin2",
    },
}


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """A transformers configuration as plain JSON values, without what does not decide the network.

    Every value is spelt out, so that another version of transformers with other defaults builds the same.

    Raises:
        ValueError: for a `model_type` that is no supported encoder.
    """
    values = {**_read(config).to_diff_dict(), "model_type": config["model_type"]}
    for name in ("transformers_version", "_name_or_path", "architectures"):
        values.pop(name, None)
    return json.loads(json.dumps(values))


def _read(config: dict[str, Any]):
    from transformers import AutoConfig

    kind = config.get("model_type")
    if kind not in MATRICES:
        raise ValueError(
            f"`model_type` must be one of {', '.join(MATRICES)}. Received: {kind!r}. Choose an encoder of one"
            " of these families; decoders and encoder-decoders give no sentence vectors here."
        )
    return AutoConfig.for_model(kind, **{key: value for key, value in config.items() if key != "model_type"})


def build_backbone(config: dict[str, Any], policy: tf_keras.mixed_precision.Policy) -> tf_keras.layers.Layer:
    """Creates transformers' main layer with random weights, not yet built.

    Args:
        config: `model_type` and what differs from the defaults of its transformers configuration class.
        policy: the dtype policy of all its layers. transformers takes Keras' global policy, so that is set
            while the layers are created.

    Returns:
        For example `TFBertMainLayer`, without its pooler.
    """
    from transformers import TFAutoModel

    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        model = TFAutoModel.from_config(_read(config))
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    layer = main_layer(model)
    make_repeatable(layer)
    return layer


def main_layer(model: tf_keras.Model) -> tf_keras.layers.Layer:
    """The layer inside a transformers model that holds everything but heads; its pooler is taken off."""
    layer = getattr(model, model.base_model_prefix)
    if getattr(layer, "pooler", None) is not None:
        layer.pooler = None
    return layer


def blocks(backbone: tf_keras.layers.Layer) -> list[tf_keras.layers.Layer]:
    """The Transformer blocks, lowest first."""
    stack = backbone.transformer if hasattr(backbone, "transformer") else backbone.encoder
    return list(stack.layer)


def max_tokens(backbone: tf_keras.layers.Layer) -> int:
    """How long a text may be, in tokens: RoBERTa and its relatives count positions from the padding token's
    on."""
    config = backbone.config
    shifted = config.model_type in ("roberta", "xlm-roberta", "mpnet")
    return config.max_position_embeddings - (config.pad_token_id + 1 if shifted else 0)


def embed(backbone: tf_keras.layers.Layer, tokens: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
    """Token, position and segment embeddings: int32 `[batch, length]` → `[batch, length, hidden]`."""
    arguments = {"input_ids": tokens["input_ids"], "training": training}
    # RoBERTa has a table of one row: it was trained without segments. DistilBERT and MPNet have none.
    segments = hasattr(backbone.embeddings, "token_type_embeddings") and backbone.config.type_vocab_size > 1
    if segments and "token_type_ids" in tokens:
        arguments["token_type_ids"] = tokens["token_type_ids"]
    hidden = backbone.embeddings(**arguments)
    if hasattr(backbone, "embeddings_project"):  # ELECTRA's embeddings are narrower than its blocks
        hidden = backbone.embeddings_project(hidden)
    return hidden


def run_blocks(
    backbone: tf_keras.layers.Layer,
    hidden: tf.Tensor,
    mask: tf.Tensor,
    begin: int,
    end: int,
    training: bool,
) -> tf.Tensor:
    """Runs blocks `begin` to `end` (exclusive).

    Args:
        backbone: from `build_backbone`.
        hidden: `[batch, length, hidden]`, the output of the block before `begin`.
        mask: int32 `[batch, length]`, 0 at padding.
        begin: first block.
        end: one past the last block.
        training: whether dropout is on.

    Returns:
        `[batch, length, hidden]`.
    """
    chosen = blocks(backbone)[begin:end]
    if hasattr(backbone, "transformer"):
        mask = tf.cast(mask, tf.float32)
        for block in chosen:
            hidden = block(hidden, mask, None, False, training=training)[-1]
        return hidden
    added = (1.0 - tf.cast(mask[:, tf.newaxis, tf.newaxis, :], hidden.dtype)) * -10000.0
    if hasattr(backbone.encoder, "compute_position_bias"):
        bias = tf.cast(backbone.encoder.compute_position_bias(hidden), hidden.dtype)
        for block in chosen:
            hidden = block(hidden, added, None, False, position_bias=bias, training=training)[0]
        return hidden
    for block in chosen:
        hidden = block(
            hidden_states=hidden,
            attention_mask=added,
            head_mask=None,
            encoder_hidden_states=None,
            encoder_attention_mask=None,
            past_key_value=None,
            output_attentions=False,
            training=training,
        )[0]
    return hidden
