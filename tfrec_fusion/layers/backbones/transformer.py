"""A whole Transformer: embeddings, blocks one by one, and the norm at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.backbones.architecture import Architecture
from tfrec_fusion.layers.backbones.block import TransformerBlock
from tfrec_fusion.layers.backbones.norms import Norm
from tfrec_fusion.layers.backbones.parts import matrix
from tfrec_fusion.layers.backbones.positions import of_blocks
from tfrec_fusion.layers.stateless_random import Dropout


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Transformer(tf_keras.layers.Layer):
    """Token ids to a vector a token, with blocks that can be run one range at a time.

    Running ranges lets an encoder stop dropout in frozen blocks, start from cached activations, and build
    fewer blocks than there are.

    Args:
        architecture: what the network is; its values by name, too, as `get_config` gives them.
    """

    def __init__(self, architecture: Architecture | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(architecture, Architecture):
            architecture = Architecture.from_dict(architecture)
        self.architecture = architecture
        policy = self.dtype_policy
        self.blocks = [
            TransformerBlock(**architecture.block_options(place), dtype=policy, name=f"block_{place}")
            for place in range(architecture.num_blocks)
        ]

        def norm(name: str, wanted: bool) -> Norm | None:
            settings = (architecture.norm, architecture.norm_epsilon, architecture.norm_bias)
            return Norm(*settings, name=name, dtype=policy) if wanted else None

        self.embedding_norm = norm("embedding_norm", architecture.embedding_norm)
        self.distance_norm = norm("distance_norm", architecture.disentangled_norm)
        self.final_norm = norm("final_norm", architecture.final_norm)
        narrow = architecture.embedding_dim not in (None, architecture.width)
        self.projection = (
            matrix(
                architecture.width,
                architecture.projection_bias,
                architecture.initializer_range,
                "projection",
                policy,
            )
            if narrow
            else None
        )
        self.embedding_dropout = Dropout(architecture.embedding_dropout, dtype=policy)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        shape = self.architecture
        width = shape.embedding_dim or shape.width
        # The token table is width · vocabulary numbers, which only training needs as a gradient's shape.
        self.tokens = self._table("tokens", shape.vocab_size, width)
        self.positions = self._table("positions", shape.num_positions, width)
        self.segments = self._table("segments", shape.num_segments, width)
        self.bias_table = self._table("bias_by_distance", shape.relative_buckets, shape.num_heads)
        self.distances = self._table("distances", 2 * shape.disentangled_buckets, shape.width)
        for layer, inputs in [
            (self.embedding_norm, shape.width if self._projects_first else width),
            (self.projection, width),
            (self.distance_norm, shape.width),
            *((block, shape.width) for block in self.blocks),
            (self.final_norm, shape.width),
        ]:
            if layer is not None:
                with tf.name_scope(layer.name):
                    layer.build([None, None, inputs])
        super().build(input_shape)

    def _table(self, name: str, rows: int, width: int) -> tf.Variable | None:
        if not rows:
            return None
        start = tf_keras.initializers.TruncatedNormal(stddev=self.architecture.initializer_range)
        return self.add_weight(name, [rows, width], initializer=start)

    @property
    def _projects_first(self) -> bool:
        """DeBERTa widens its embeddings before their norm, ELECTRA after."""
        return bool(self.architecture.disentangled_buckets)

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.blocks)

    @property
    def max_length(self) -> int:
        """Tokens that a text may have at most."""
        return self.architecture.max_length

    def embed(self, tokens: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Token, position and segment embeddings.

        Args:
            tokens: `input_ids`, and `token_type_ids` where there are segments; int32 `[batch, length]`.
            training: whether dropout is on.

        Returns:
            `[batch, length, width]`.
        """
        shape, ids = self.architecture, tokens["input_ids"]
        hidden = tf.gather(tf.convert_to_tensor(self.tokens), ids)
        if self.segments is not None:
            segments = tokens.get("token_type_ids")
            # A table of one row was trained without segments (RoBERTa).
            if segments is None or shape.num_segments == 1:
                segments = tf.zeros_like(ids)
            hidden += tf.gather(tf.convert_to_tensor(self.segments), segments)
        if self.positions is not None:
            hidden += tf.gather(tf.convert_to_tensor(self.positions), self._places(ids))
        hidden = tf.cast(hidden, self.compute_dtype)
        if shape.embedding_scale != 1.0:
            hidden *= tf.cast(shape.embedding_scale, hidden.dtype)
        if self.projection is not None and self._projects_first:
            hidden = self.projection(hidden)
        if self.embedding_norm is not None:
            hidden = self.embedding_norm(hidden)
        hidden = self.embedding_dropout(hidden, training=training)
        if self.projection is not None and not self._projects_first:
            hidden = self.projection(hidden)
        return hidden

    def _places(self, ids: tf.Tensor) -> tf.Tensor:
        """The row of each token in the table of positions."""
        padding = self.architecture.padding_id
        if padding is None:
            return tf.range(tf.shape(ids)[1])[tf.newaxis, :]
        real = tf.cast(ids != padding, tf.int32)
        return tf.cumsum(real, axis=1) * real + padding

    def run(
        self,
        hidden: tf.Tensor,
        mask: tf.Tensor,
        begin: int = 0,
        end: int | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Runs blocks `begin` to `end` (exclusive); after the last one comes the final norm, if there is one.

        Args:
            hidden: `[batch, length, width]`, the output of the block before `begin`.
            mask: int32 `[batch, length]`, 0 at padding.
            begin: the first block.
            end: one past the last block; None for all that follow.
            training: whether dropout is on.

        Returns:
            `[batch, length, width]`.
        """
        end = self.num_blocks if end is None else end
        if begin < end:
            table = self.distances
            if table is not None and self.distance_norm is not None:
                table = self.distance_norm(tf.convert_to_tensor(table))
            everywhere, near = of_blocks(self.architecture, mask, self.bias_table, table)
            for place in range(begin, end):
                positions = near if self.architecture.is_local(place) else everywhere
                hidden = self.blocks[place](hidden, positions, training=training)
        # With no block to run there was none left to run before either: the norm was applied then.
        if end == self.num_blocks and begin < end and self.final_norm is not None:
            hidden = self.final_norm(hidden)
        return hidden

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Token ids to vectors.

        Args:
            inputs: `input_ids` and `attention_mask`, int32 `[batch, length]`, and optionally
                `token_type_ids`.
            training: whether dropout is on.

        Returns:
            `[batch, length, width]`.
        """
        hidden = self.embed(inputs, bool(training))
        return self.run(hidden, inputs["attention_mask"], training=bool(training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "architecture": dataclasses.asdict(self.architecture)}
