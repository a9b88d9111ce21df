"""One Transformer block: attention and a feed-forward part, each with a norm and a way around it."""

from __future__ import annotations

from typing import Any, get_args

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.architecture import NormKind, NormPosition
from tfrec_fusion.layers.backbones.attention import SelfAttention
from tfrec_fusion.layers.backbones.norms import Norm
from tfrec_fusion.layers.backbones.parts import FeedForward
from tfrec_fusion.layers.backbones.positions import Positions, visibility
from tfrec_fusion.layers.stateless_random import Dropout


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TransformerBlock(tf_keras.layers.Layer):
    """A Transformer block of any of the families: options say which.

    ``after`` is BERT's order, `norm(x + part(x))`; ``before`` that of GPT-2, Llama and ModernBERT, `x +
    part(norm(x))`; ``both`` Gemma's, `x + norm(part(norm(x)))`.

    >>> block = TransformerBlock(num_heads=2, ffn_dim=32)
    >>> block(tf.ones([3, 5, 16])).shape
    TensorShape([3, 5, 16])

    Args:
        num_heads: heads of queries; they divide the width where `head_dim` is None.
        ffn_dim: width inside the feed-forward part.
        num_kv_heads: heads of keys and values, which divide `num_heads`; None for as many.
        head_dim: a head's width; None for `width / num_heads`.
        activation: see `parts.ACTIVATIONS`.
        gated: whether the feed-forward part is `out(activation(in(x)) · gate(x))`, else
            `out(activation(in(x)))`.
        norm: ``"layer"``, ``"rms"`` or ``"rms_shifted"``, see `Norm`.
        norm_position: ``"before"``, ``"after"`` or ``"both"``.
        norm_bias, norm_epsilon: see `Norm`.
        attention_norm: whether there is a norm before attention; only ``before`` can do without.
        head_norm, qkv_bias, output_bias, score_scale, score_cap, attention_dropout: see `SelfAttention`.
        ffn_bias, ffn_out_bias: whether the feed-forward part's matrices have a bias.
        hidden_dropout: dropout of what each part gives.
        initializer_range: the standard deviation of random matrices.

    Raises:
        ValueError: for an unknown norm, norm position or activation, or heads that do not divide.

    Reference: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; Xiong et al., 2020,
    https://arxiv.org/abs/2002.04745 (norms before)
    """

    def __init__(
        self,
        num_heads: int,
        ffn_dim: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        activation: str = "gelu",
        gated: bool = False,
        norm: NormKind = "layer",
        norm_position: NormPosition = "after",
        norm_bias: bool = True,
        norm_epsilon: float = 1e-12,
        attention_norm: bool = True,
        head_norm: bool = False,
        qkv_bias: bool = True,
        output_bias: bool = True,
        ffn_bias: bool = True,
        ffn_out_bias: bool = True,
        score_scale: float | None = None,
        score_cap: float | None = None,
        hidden_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if norm_position not in get_args(NormPosition):
            raise ValueError(
                f"`norm_position` must be one of {', '.join(map(repr, get_args(NormPosition)))}. Received:"
                f" {norm_position!r}."
            )
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.ffn_dim, self.activation, self.gated = ffn_dim, activation, gated
        self.norm, self.norm_position = norm, norm_position
        self.norm_bias, self.norm_epsilon = norm_bias, norm_epsilon
        self.attention_norm, self.head_norm = attention_norm, head_norm
        self.qkv_bias, self.output_bias = qkv_bias, output_bias
        self.ffn_bias, self.ffn_out_bias = ffn_bias, ffn_out_bias
        self.score_scale, self.score_cap = score_scale, score_cap
        self.hidden_dropout, self.attention_dropout = hidden_dropout, attention_dropout
        self.initializer_range = initializer_range
        policy = self.dtype_policy
        self.attention = SelfAttention(
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            qkv_bias=qkv_bias,
            output_bias=output_bias,
            head_norm=norm if head_norm else None,
            norm_epsilon=norm_epsilon,
            score_scale=score_scale,
            score_cap=score_cap,
            dropout=attention_dropout,
            initializer_range=initializer_range,
            dtype=policy,
            name="attention",
        )
        self.feed_forward = FeedForward(
            ffn_dim,
            activation=activation,
            gated=gated,
            bias=ffn_bias,
            out_bias=ffn_out_bias,
            initializer_range=initializer_range,
            dtype=policy,
            name="feed_forward",
        )
        self.norms = {}
        for name in self._norm_names():
            self.norms[name] = Norm(norm, norm_epsilon, norm_bias, dtype=policy, name=name)
        self.dropout = Dropout(hidden_dropout, dtype=policy)

    def _norm_names(self) -> list[str]:
        if self.norm_position == "after":
            return ["norm_after_attention", "norm_after_feed_forward"]
        names = ["norm_before_attention"] if self.attention_norm else []
        names.append("norm_before_feed_forward")
        if self.norm_position == "both":
            names += ["norm_after_attention", "norm_after_feed_forward"]
        return names

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        width = tf.TensorShape(input_shape)[-1]
        layers: list[tf_keras.layers.Layer] = [self.attention, self.feed_forward, *self.norms.values()]
        for layer in layers:
            with tf.name_scope(layer.name):
                layer.build([None, None, width])
        super().build(input_shape)

    def call(
        self, inputs: tf.Tensor, positions: Positions | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """Mixes what tokens say to each other.

        Args:
            inputs: `[batch, length, width]`.
            positions: who sees whom and how far away; None: everyone sees everyone.
            training: whether dropout is on.

        Returns:
            `[batch, length, width]`.
        """
        if positions is None:
            positions = Positions(visibility(tf.ones(tf.shape(inputs)[:2], tf.int32), causal=False))
        hidden = self._around("attention", inputs, training, positions)
        return self._around("feed_forward", hidden, training)

    def _around(self, part: str, hidden: tf.Tensor, training: bool | None, *arguments: Any) -> tf.Tensor:
        before = self.norms.get(f"norm_before_{part}")
        after = self.norms.get(f"norm_after_{part}")
        given = hidden if before is None else before(hidden)
        result = getattr(self, part)(given, *arguments, training=training)
        result = self.dropout(result, training=training)
        if after is None:
            return hidden + result
        return after(hidden + result) if self.norm_position == "after" else hidden + after(result)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = (
            "num_heads num_kv_heads head_dim ffn_dim activation gated norm norm_position norm_bias"
            " norm_epsilon attention_norm head_norm qkv_bias output_bias ffn_bias ffn_out_bias score_scale"
            " score_cap hidden_dropout attention_dropout initializer_range"
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names.split()}}
