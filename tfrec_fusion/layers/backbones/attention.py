"""Self-attention with the options of today's Transformers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.architecture import NormKind
from tfrec_fusion.layers.backbones.norms import Norm
from tfrec_fusion.layers.backbones.parts import as_rows, matrix
from tfrec_fusion.layers.backbones.positions import Positions, by_pair, rotate
from tfrec_fusion.layers.stateless_random import Dropout


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class SelfAttention(tf_keras.layers.Layer):
    """Each token's mean of all tokens' values, weighed by `softmax(scale · q kᵀ + bias)`.

    Masks, windows, learned biases by distance, rotations and DeBERTa's vectors of distances come in
    `Positions`. The softmax runs in float32.

    Args:
        num_heads: heads of queries.
        num_kv_heads: heads of keys and values; each serves `num_heads / num_kv_heads` heads of queries
            (Ainslie et al., 2023, https://arxiv.org/abs/2305.13245). None for as many.
        head_dim: a head's width; None for `width / num_heads`.
        qkv_bias, output_bias: which matrices have a bias.
        head_norm: the kind of `Norm` over each head's queries and keys; None for none.
        norm_epsilon: of that norm.
        score_scale: what scores are multiplied with; None for `1 / sqrt(head_dim)`.
        score_cap: scores become `cap · tanh(score / cap)`; None for as they are.
        dropout: of the weights.
        initializer_range: the standard deviation of random matrices.

    Raises:
        ValueError: if `num_kv_heads` does not divide `num_heads`, or `num_heads` the width.
    """

    def __init__(
        self,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        output_bias: bool = True,
        head_norm: NormKind | None = None,
        norm_epsilon: float = 1e-12,
        score_scale: float | None = None,
        score_cap: float | None = None,
        dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads % (num_kv_heads or num_heads):
            raise ValueError(
                "`num_kv_heads` must divide `num_heads`. Received: num_kv_heads="
                f"{num_kv_heads}, num_heads={num_heads}."
            )
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.qkv_bias = qkv_bias
        self.output_bias = output_bias
        self.head_norm = head_norm
        self.norm_epsilon = norm_epsilon
        self.score_scale = score_scale
        self.score_cap = score_cap
        self.dropout = dropout
        self.initializer_range = initializer_range
        self._drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        width = tf.TensorShape(input_shape)[-1]
        if self.head_dim is None and width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the width ({width}). Received: num_heads={self.num_heads}. Name"
                " `head_dim` where heads have a width of their own."
            )
        self._width = self.head_dim or width // self.num_heads
        self._kv_heads = self.num_kv_heads or self.num_heads

        def make(name: str, units: int, bias: bool, inputs: int) -> tf_keras.layers.Dense:
            layer = matrix(units, bias, self.initializer_range, name, self.dtype_policy)
            with tf.name_scope(name):
                layer.build([None, inputs])
            return layer

        self.query = make("query", self.num_heads * self._width, self.qkv_bias, width)
        self.key = make("key", self._kv_heads * self._width, self.qkv_bias, width)
        self.value = make("value", self._kv_heads * self._width, self.qkv_bias, width)
        self.output_matrix = make("output", width, self.output_bias, self.num_heads * self._width)
        self.query_norm = self.key_norm = None
        if self.head_norm is not None:
            self.query_norm, self.key_norm = (
                Norm(self.head_norm, self.norm_epsilon, name=name, dtype=self.dtype_policy)
                for name in ("query_norm", "key_norm")
            )
            for norm in (self.query_norm, self.key_norm):
                with tf.name_scope(norm.name):
                    norm.build([None, self._width])
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, positions: Positions, training: bool | None = None) -> tf.Tensor:
        """Mixes tokens.

        Args:
            inputs: `[batch, length, width]`.
            positions: see `Positions`.
            training: whether dropout is on.

        Returns:
            `[batch, length, width]`.
        """
        shape = tf.shape(inputs)
        batch, length = shape[0], shape[1]
        rows = as_rows(inputs)

        def heads(values: tf.Tensor, count: int, norm: Norm | None = None) -> tf.Tensor:
            values = tf.reshape(values, [batch, length, count, self._width])
            values = values if norm is None else norm(values)
            return tf.transpose(values, [0, 2, 1, 3])

        query = heads(self.query(rows), self.num_heads, self.query_norm)
        key = heads(self.key(rows), self._kv_heads, self.key_norm)
        value = heads(self.value(rows), self._kv_heads)
        if positions.cos is not None:
            query = rotate(query, positions.cos, positions.sin)
            key = rotate(key, positions.cos, positions.sin)
        parts = 1 if positions.distances is None else 3
        query *= tf.cast(self.score_scale or (parts * self._width) ** -0.5, query.dtype)
        scores = self._product(query, key, batch, length, transpose=True)
        if positions.distances is not None:
            key *= tf.cast((parts * self._width) ** -0.5, key.dtype)
            scores += self._distance_scores(query, key, tf.cast(positions.distances, key.dtype))
        if self.score_cap is not None:
            cap = tf.cast(self.score_cap, scores.dtype)
            scores = cap * tf.tanh(scores / cap)
        weights = tf.nn.softmax(tf.cast(scores, tf.float32) + positions.bias)
        weights = self._drop(tf.cast(weights, value.dtype), training=training)
        mixed = self._product(weights, value, batch, length)
        mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, self.num_heads * self._width])
        return tf.reshape(self.output_matrix(mixed), shape)

    def _product(
        self, left: tf.Tensor, right: tf.Tensor, batch: tf.Tensor, length: tf.Tensor, transpose: bool = False
    ) -> tf.Tensor:
        """A product a head of queries, with the heads that share keys and values stacked: none is copied."""
        if self._kv_heads == self.num_heads:
            return tf.matmul(left, right, transpose_b=transpose)
        stacked = (self.num_heads // self._kv_heads) * length
        left = tf.reshape(left, [batch, self._kv_heads, stacked, left.shape[-1] or length])
        product = tf.matmul(left, right, transpose_b=transpose)
        return tf.reshape(product, [batch, self.num_heads, length, -1])

    def _distance_scores(self, query: tf.Tensor, key: tf.Tensor, distances: tf.Tensor) -> tf.Tensor:
        """DeBERTa's two further scores: query by the distance's key, and key by the distance's query.

        Reference: He et al., 2020, https://arxiv.org/abs/2006.03654
        """

        def scores(by: tf.Tensor, layer: tf_keras.layers.Layer, vectors: tf.Tensor) -> tf.Tensor:
            values = tf.reshape(layer(vectors), [-1, self.num_heads, self._width])
            return by_pair(tf.matmul(by, tf.transpose(values, [1, 2, 0])[tf.newaxis]))

        # Seen from a key, what stands further on is a query that the key stands behind.
        from_keys = scores(key, self.query, tf.reverse(distances, [0])[1:])
        return scores(query, self.key, distances[1:]) + tf.transpose(from_keys, [0, 1, 3, 2])

    def get_config(self) -> dict[str, Any]:
        names = (
            "num_heads num_kv_heads head_dim qkv_bias output_bias head_norm norm_epsilon score_scale"
            " score_cap dropout initializer_range"
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names.split()}}
