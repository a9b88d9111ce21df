"""Encoders of a user's history: vectors of the items seen, oldest first, into one vector for what comes next.

Histories are left padded: the newest item is at position T - 1 and padding comes before the oldest, as in
SASRec. So, with `return_sequences=True`, position t always holds the encoding of the items up to and
including t, and the last position, `outputs[:, -1]`, is the encoding of the whole history, for every row of
the batch.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfrec_fusion.layers import stateless_random as repeatable
from tfrec_fusion.layers.backbones.norms import Norm
from tfrec_fusion.layers.input_checks import check_floats

NORM_EPSILON = 1e-3  # as of Keras, whose own layer runs as a batch norm, with a gradient several times slower


class HistoryEncoder(tf_keras.layers.Layer):
    """What all history encoders share: masking, the empty history, all positions or the last.

    Inputs are `[batch, T, dim]` floats, oldest item first, left padded, and a bool mask `[batch, T]`, True
    where there is an item (taken from an `Embedding(mask_zero=True)` where Keras carries it along; without a
    mask every position holds an item). What padded positions contain never matters. The output keeps `dim`,
    and so lives in the items'
    space: `[batch, dim]`, or `[batch, T, dim]` with `return_sequences`.

    A history without any item is encoded as `empty_history`, a learned vector that starts at zero. With
    `return_sequences` it also fills the positions before the first item: there nothing is known yet either.

    Subclasses implement `encode`, and `encode_last` where a whole history takes less work than all its
    prefixes.

    Args:
        return_sequences: returns the encoding of every prefix, position t from the items up to and including
            t, so that a model can be trained on all positions at once.
        dropout: share of each item vector's elements dropped in training, in [0, 1); where an encoder has
            further layers of its own, it says where else it is used.
    """

    def __init__(self, return_sequences: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")
        self.return_sequences = return_sequences
        self.dropout = dropout
        self.supports_masking = True
        self.returned_sequences = return_sequences
        self.input_dropout = repeatable.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3 or shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} needs item vectors [batch, T, dim] with a fixed dim. "
                f"Received the shape {shape}. "
                "Look the item ids up in an embedding first."
            )
        self.dim = int(shape[-1])
        self.empty_history = self.add_weight(name="empty_history", shape=[self.dim], initializer="zeros")
        super().build(input_shape)

    def encode(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Encodes every prefix.

        Args:
            inputs: `[batch, T, dim]`, zero at padded positions.
            mask: bool `[batch, T]`.
            training: whether dropout is active.

        Returns:
            `[batch, T, dim]`; position t depends on positions up to t only. Padded positions may hold any
            finite value.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `encode`.")

    def encode_last(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Encodes whole histories: `[batch, dim]`, finite where there is no item; arguments as in
        `encode`."""
        return newest(self.encode(inputs, mask, training), mask)

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        last_only: bool = False,
    ) -> tf.Tensor:
        """Encodes histories.

        Args:
            inputs: floats `[batch, T, dim]`, oldest item first, left padded.
            mask: bool `[batch, T]`, True for items; None: all are items.
            training: whether dropout is active.
            last_only: returns whole histories' encodings alone, `return_sequences` or not.

        Returns:
            `[batch, dim]`, or `[batch, T, dim]` with `return_sequences` and without `last_only`.

        Raises:
            ValueError: if `mask` is not a bool `[batch, T]`, or `inputs` are no floats of rank 3 with a
                position.
        """
        check_floats(type(self).__name__, inputs.dtype, "Look the item ids up in an embedding first.")
        if inputs.shape[1] == 0:
            raise ValueError(
                f"Histories must have at least one position. Received the shape {inputs.shape}. "
                "Pad empty histories to one position and mask it."
            )
        if mask is None:
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
        mask = tf.convert_to_tensor(mask)
        if mask.dtype != tf.bool or not mask.shape.is_compatible_with(inputs.shape[:2]):
            raise ValueError(
                f"`mask` must be bool with the shape {inputs.shape[:2]}. "
                f"Received: {mask.dtype.name} {mask.shape}. From ids, use `ids > 0`."
            )
        inputs = tf.where(mask[..., tf.newaxis], inputs, tf.zeros([], inputs.dtype))
        inputs = self.input_dropout(inputs, training=training)
        empty = tf.cast(self.empty_history, inputs.dtype)
        # Keras asks `compute_mask` next, without saying how it called.
        self.returned_sequences = self.return_sequences and not last_only
        if self.returned_sequences:
            known = tf.cumsum(tf.cast(mask, tf.int32), axis=1) > 0
            return tf.where(known[..., tf.newaxis], self.encode(inputs, mask, training), empty)
        there = tf.reduce_any(mask, axis=1, keepdims=True)
        return tf.where(there, self.encode_last(inputs, mask, training), empty)

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor | None:
        return mask if self.returned_sequences else None

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        shape = tf.TensorShape(input_shape)
        return shape if self.return_sequences else tf.TensorShape([shape[0], shape[2]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "return_sequences": self.return_sequences, "dropout": self.dropout}


def newest(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What stands at each history's newest item: `[batch, ...]` of `[batch, T, ...]`.

    It stands last when left padded; looking it up costs little and bears right padding.
    """
    positions = tf.range(tf.shape(mask)[1])
    return tf.gather(values, tf.reduce_max(tf.where(mask, positions, 0), axis=1), batch_dims=1)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class MeanHistory(HistoryEncoder):
    """The mean of the items seen: `y_t = (x_1 + … + x_t) / t`, padding left out.

    The strong, cheap encoder of YouTube's two-tower model (Covington et al., 2016,
    https://doi.org/10.1145/2959100.2959190). Blind to order.
    """

    def encode(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Sums in float32: half precision loses whole items in a long history's sum."""
        total = tf.cumsum(tf.cast(inputs, tf.float32), axis=1)
        count = tf.cumsum(tf.cast(mask, tf.float32), axis=1)
        return tf.cast(total / tf.maximum(count, 1.0)[..., tf.newaxis], inputs.dtype)

    def encode_last(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """One sum, where all prefixes take a running one, whose gradient is slow."""
        total = tf.reduce_sum(tf.cast(inputs, tf.float32), axis=1)
        count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
        return tf.cast(total / tf.maximum(count, 1.0), inputs.dtype)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class ConvolutionHistory(HistoryEncoder):
    """Convolutions over the last `window` items, as in Caser.

    Horizontal filters slide over time, one set for each height 1 … `window`, and keep their strongest answer
    in the window (which items came together); vertical filters weigh the `window` positions, dimension by
    dimension (what came when). A linear layer maps both to `dim`. Unlike Caser, every position has its window
    here, so that all prefixes are encoded at once, and there is no user embedding. `dropout` is also applied
    before the linear layer.

    Args:
        window: how many of the newest items are looked at.
        horizontal_filters: filters of each height.
        vertical_filters: filters over positions.
        return_sequences, dropout: see `HistoryEncoder`.

    Reference: Tang and Wang, 2018, https://arxiv.org/abs/1809.07426
    """

    def __init__(
        self,
        window: int = 5,
        horizontal_filters: int = 16,
        vertical_filters: int = 4,
        return_sequences: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(return_sequences=return_sequences, dropout=dropout, **kwargs)
        for name, value in (
            ("window", window),
            ("horizontal_filters", horizontal_filters),
            ("vertical_filters", vertical_filters),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
        self.window = window
        self.horizontal_filters = horizontal_filters
        self.vertical_filters = vertical_filters
        policy = self.dtype_policy
        self.horizontal = [
            tf_keras.layers.Conv1D(horizontal_filters, height, activation="relu", dtype=policy)
            for height in range(1, window + 1)
        ]
        self.vertical = tf_keras.layers.Conv2D(vertical_filters, (window, 1), dtype=policy)
        self.hidden_dropout = repeatable.Dropout(dropout, dtype=policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        for convolution in self.horizontal:
            convolution.build([None, None, self.dim])
        self.vertical.build([None, None, self.dim, 1])
        hidden = self.window * self.horizontal_filters + self.dim * self.vertical_filters
        self.projection = tf_keras.layers.Dense(self.dim, dtype=self.dtype_policy)
        self.projection.build([None, None, hidden])

    def encode(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        batch, length = tf.unstack(tf.shape(inputs)[:2])
        # Zeros before the first position, as many as a window needs, so that it does not matter how many came
        # along. An empty batch gets a row: oneDNN gives its convolution the input's channels instead of
        # the filters.
        padded = tf.pad(inputs, [[0, tf.cast(batch == 0, tf.int32)], [self.window - 1, 0], [0, 0]])
        parts = []
        for height, convolution in enumerate(self.horizontal, start=1):
            answers = convolution(padded)
            shifted = [answers[:, start : start + length] for start in range(self.window - height + 1)]
            parts.append(tf.reduce_max(tf.stack(shifted), axis=0))
        vertical = self.vertical(padded[..., tf.newaxis])
        parts.append(tf.reshape(vertical, [-1, length, self.dim * self.vertical_filters]))
        hidden = tf.concat(parts, axis=-1)[:batch]
        return self.projection(self.hidden_dropout(hidden, training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "window": self.window,
            "horizontal_filters": self.horizontal_filters,
            "vertical_filters": self.vertical_filters,
        }


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class RecurrentHistory(HistoryEncoder):
    """Gated recurrent units over the history, then a linear layer back to `dim`, as in GRU4Rec.

    Args:
        units: width of the recurrent state; None: `dim`.
        num_layers: how many GRU layers are stacked.
        return_sequences, dropout: see `HistoryEncoder`.

    Reference: Hidasi et al., 2016, https://arxiv.org/abs/1511.06939
    """

    def __init__(
        self,
        units: int | None = None,
        num_layers: int = 1,
        return_sequences: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(return_sequences=return_sequences, dropout=dropout, **kwargs)
        if num_layers < 1:
            raise ValueError(f"`num_layers` must be at least 1. Received: num_layers={num_layers}.")
        if units is not None and units < 1:
            raise ValueError(
                f"`units` must be at least 1, or None for the items' dim. Received: units={units}."
            )
        self.units = units
        self.num_layers = num_layers

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        units = self.units or self.dim
        # Not `GRU`: its cuDNN kernel wants right padding, so it would never be used, and it is slow to trace.
        policy = self.dtype_policy
        self.recurrent = [
            tf_keras.layers.RNN(
                tf_keras.layers.GRUCell(units, dtype=policy), return_sequences=True, dtype=policy
            )
            for _ in range(self.num_layers)
        ]
        self.projection = tf_keras.layers.Dense(self.dim, dtype=self.dtype_policy)
        width = self.dim
        for layer in self.recurrent:
            layer.build(tf.TensorShape([None, None, width]))
            width = units
        self.projection.build([None, None, width])

    def encode(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        hidden = inputs
        for layer in self.recurrent:
            hidden = layer(hidden, mask=mask, training=training)
        return self.projection(hidden)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "num_layers": self.num_layers}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class TransformerHistory(HistoryEncoder):
    """A causal Transformer over the history, as in SASRec.

    `x = LayerNorm(items) + positions`, then in each block `x += attention(LayerNorm(x))` and
    `x += feed_forward(LayerNorm(x))` (pre-norm), then a last LayerNorm. Each position attends to itself and
    to the items before it. Positions are learned and counted from the newest item of the history, so that an
    item's position does not depend on how much padding stands before it. Differences from the paper: the
    items are normalised first (they are fused vectors of any scale here), and the queries, as the rest of a
    block, see the normalised stream.

    Args:
        num_layers: blocks.
        num_heads: attention heads; must divide `dim`.
        max_length: learned positions; items further back than this share the last one.
        feed_forward_dim: width inside the feed-forward part; None: 4 * `dim`.
        return_sequences: see `HistoryEncoder`.
        dropout: on inputs, attention weights and what each half of a block adds.

    Reference: Kang and McAuley, 2018, https://arxiv.org/abs/1808.09781
    """

    def __init__(
        self,
        num_layers: int = 2,
        num_heads: int = 2,
        max_length: int = 50,
        feed_forward_dim: int | None = None,
        return_sequences: bool = False,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(return_sequences=return_sequences, dropout=dropout, **kwargs)
        for name, value in (("num_layers", num_layers), ("num_heads", num_heads), ("max_length", max_length)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.max_length = max_length
        self.feed_forward_dim = feed_forward_dim

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        if self.dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the items' dim. "
                f"Received: num_heads={self.num_heads}, dim={self.dim}."
            )
        policy = self.dtype_policy
        self.positions = self.add_weight(
            name="positions",
            shape=[self.max_length, self.dim],
            initializer=tf_keras.initializers.RandomNormal(stddev=0.02),
        )
        self.input_norm = Norm(epsilon=NORM_EPSILON, dtype=policy)
        self.output_norm = Norm(epsilon=NORM_EPSILON, dtype=policy)
        self.blocks = [
            _CausalBlock(self.num_heads, self.feed_forward_dim or 4 * self.dim, self.dropout, dtype=policy)
            for _ in range(self.num_layers)
        ]
        layers: list[tf_keras.layers.Layer] = [self.input_norm, *self.blocks, self.output_norm]
        for layer in layers:
            layer.build([None, None, self.dim])

    def encode(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        hidden, attended = self._start(inputs, mask)
        for block in self.blocks:
            hidden = block(hidden, attended, training=training)
        return self.output_norm(hidden)

    def encode_last(self, inputs: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Of the last block, the newest position alone, which is all that is left of the others' work."""
        hidden, attended = self._start(inputs, mask)
        for block in self.blocks[:-1]:
            hidden = block(hidden, attended, training=training)
        last = self.blocks[-1](hidden, newest(attended, mask)[:, tf.newaxis], mask, training=training)
        return self.output_norm(last)[:, 0]

    def _start(self, inputs: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What the blocks start from, `[batch, T, dim]`, and what attends to what, bool
        `[batch, T query, T key]`."""
        newer = tf.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True, exclusive=True)
        positions = tf.gather(tf.cast(self.positions, inputs.dtype), tf.minimum(newer, self.max_length - 1))
        order = tf.range(tf.shape(inputs)[1])
        attended = mask[:, tf.newaxis, :] & (order[tf.newaxis, :] <= order[:, tf.newaxis])
        return self.input_norm(inputs) + positions, attended

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "max_length": self.max_length,
            "feed_forward_dim": self.feed_forward_dim,
        }


class _CausalBlock(tf_keras.layers.Layer):
    """One pre-norm block of `TransformerHistory`, which builds and configures it."""

    def __init__(self, num_heads: int, feed_forward_dim: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.feed_forward_dim = feed_forward_dim
        self.dropout = repeatable.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = int(input_shape[-1])
        dense, policy = tf_keras.layers.Dense, self.dtype_policy
        self.attention_norm = Norm(epsilon=NORM_EPSILON, dtype=policy)
        self.query = dense(dim, dtype=policy)
        self.key = dense(dim, use_bias=False, dtype=policy)  # The softmax cancels a bias of the keys.
        self.value = dense(dim, dtype=policy)
        self.merge = dense(dim, dtype=policy)
        self.feed_forward_norm = Norm(epsilon=NORM_EPSILON, dtype=policy)
        self.widen = dense(self.feed_forward_dim, activation="gelu", dtype=policy)
        self.narrow = dense(dim, dtype=policy)
        for layer in (self.attention_norm, self.query, self.key, self.value, self.merge):
            layer.build([None, None, dim])
        self.feed_forward_norm.build([None, None, dim])
        self.widen.build([None, None, dim])
        self.narrow.build([None, None, self.feed_forward_dim])
        super().build(input_shape)

    def call(
        self,
        inputs: tf.Tensor,
        attended: tf.Tensor,
        newest_of: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Attention, then the feed-forward part.

        Args:
            inputs: `[batch, T, dim]`.
            attended: bool `[batch, T query, T key]`.
            newest_of: bool `[batch, T]`, where items are, to answer at each history's newest alone, and
                `attended` has one query; None answers everywhere.
            training: whether dropout is on.

        Returns:
            `[batch, T query, dim]`.
        """
        keys = asking = self.attention_norm(inputs)
        if newest_of is not None:
            inputs, asking = (newest(values, newest_of)[:, tf.newaxis] for values in (inputs, keys))
        inputs += self.dropout(self._attend(asking, keys, attended, training), training=training)
        hidden = self.narrow(self.dropout(self.widen(self.feed_forward_norm(inputs)), training=training))
        return inputs + self.dropout(hidden, training=training)

    def _attend(
        self, asking: tf.Tensor, keys: tf.Tensor, attended: tf.Tensor, training: bool | None
    ) -> tf.Tensor:
        batch, dim = tf.shape(keys)[0], keys.shape[-1]

        def heads(values: tf.Tensor) -> tf.Tensor:
            shape = [batch, tf.shape(values)[1], self.num_heads, dim // self.num_heads]
            return tf.transpose(tf.reshape(values, shape), [0, 2, 1, 3])

        query, key, value = heads(self.query(asking)), heads(self.key(keys)), heads(self.value(keys))
        # Scaled before, where a query is short. In float32, since float16 has no number low enough. A row
        # without any item becomes uniform, not NaN.
        scores = tf.matmul(query / tf.cast(dim // self.num_heads, query.dtype) ** 0.5, key, transpose_b=True)
        scores = tf.where(attended[:, tf.newaxis], tf.cast(scores, tf.float32), -1e9)
        weights = tf.cast(tf.nn.softmax(scores), value.dtype)
        merged = tf.transpose(tf.matmul(self.dropout(weights, training=training), value), [0, 2, 1, 3])
        return self.merge(tf.reshape(merged, [batch, tf.shape(asking)[1], dim]))
