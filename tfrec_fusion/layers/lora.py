"""Low-rank adaptation of a dense layer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class LoraDense(tf_keras.layers.Layer):
    """Adds a trainable low-rank update to a frozen `Dense`: `x W + b + (alpha / rank) · x A B`.

    `A` (`[in, rank]`) starts random and `B` (`[rank, out]`) at zero, so the layer starts out equal to `base`.

    Args:
        base: the dense layer; it is frozen.
        rank: the update's rank, at least 1.
        alpha: the update's scale, divided by `rank`.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685
    """

    def __init__(
        self, base: tf_keras.layers.Dense, rank: int = 8, alpha: float = 16.0, **kwargs: Any
    ) -> None:
        kwargs.setdefault("name", base.name)
        kwargs.setdefault("dtype", base.dtype_policy)
        super().__init__(**kwargs)
        check_rank(rank)
        self.base = base
        self.rank = rank
        self.alpha = alpha
        base.trainable = False

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        if not self.base.built:
            self.base.build(input_shape)
        self.lora_a = self.add_weight(
            "lora_a", [tf.TensorShape(input_shape)[-1], self.rank], initializer="he_uniform", trainable=True
        )
        self.lora_b = self.add_weight(
            "lora_b", [self.rank, self.base.units], initializer="zeros", trainable=True
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[..., in]` → `[..., out]`."""
        update = tf.matmul(tf.matmul(inputs, self.lora_a), self.lora_b)
        return self.base(inputs) + update * tf.cast(self.alpha / self.rank, update.dtype)

    def merge(self) -> tf_keras.layers.Dense:
        """Adds the update to the base's kernel, zeroes it here, and returns the base: same outputs, no extra
        work."""
        update = tf.matmul(self.lora_a.read_value(), self.lora_b.read_value()) * (self.alpha / self.rank)
        self.base.kernel.assign_add(tf.cast(update, self.base.kernel.dtype))
        self.lora_b.assign(tf.zeros_like(self.lora_b))
        return self.base

    def get_config(self) -> dict[str, Any]:
        base = tf_keras.saving.serialize_keras_object(self.base)
        return {**super().get_config(), "base": base, "rank": self.rank, "alpha": self.alpha}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LoraDense:
        base = tf_keras.saving.deserialize_keras_object(config["base"])
        return cls(**{**config, "base": base})


def check_rank(rank: int) -> None:
    """Raises unless an update may have this rank."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"`rank` must be an integer of at least 1. Received: rank={rank!r}.")
