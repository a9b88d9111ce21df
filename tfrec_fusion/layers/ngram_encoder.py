"""A text encoder of hashed n-grams, for any language and without files of weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

STAGES = ("frozen", "full")
_WORD_WEIGHT = 3.0  # of a whole word beside its n-grams
_FASTER = 50.0  # learning rate beside a transformer's


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class NgramEncoder(tf_keras.layers.Layer):
    """Sums a vector for each word and n-gram that `NgramTokenizer` hashes, weighed, scaled to length 1.

    Before any training the vectors are a random projection of the counts: texts are as similar as the words
    and parts of words that they share, in any language. In stage ``full`` vectors and weights are trained
    with the recommender. It stands wherever a `TextEncoder` does.

    Args:
        buckets: the tokenizer's.
        dim: length of a vector.
        stage: ``"frozen"`` or ``"full"``.
        seed: of the projection.

    Raises:
        ValueError: for another stage.

    Reference: Bojanowski et al., 2017, https://arxiv.org/abs/1607.04606; random projections: Achlioptas,
    2003, https://doi.org/10.1016/S0022-0000(03)00025-4
    """

    pooling = "sum"
    normalize = True

    def __init__(
        self, buckets: int = 2**15, dim: int = 256, stage: str = "frozen", seed: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if stage not in STAGES:
            raise ValueError(
                f"`stage` must be one of {', '.join(map(repr, STAGES))} for hashed n-grams, which have no"
                f" blocks. Received: {stage!r}. Set `text.stage` to 'full' to train them."
            )
        self.buckets, self.dim, self.stage, self.seed = buckets, dim, stage, seed
        self.trainable = stage == "full"

    @property
    def width(self) -> int:
        """Numbers a token."""
        return self.dim

    @property
    def first_trained_block(self) -> int:
        """There are no blocks that could be run beforehand."""
        return 0

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        rng = np.random.default_rng(self.seed)
        table = rng.standard_normal([self.buckets + 1, self.dim], np.float32) / np.sqrt(self.dim)
        weights = np.ones([self.buckets + 1], np.float32)
        weights[1 : 1 + self.buckets // 4] = _WORD_WEIGHT
        for name, value in (("table", table), ("importance", weights)):
            constant = tf_keras.initializers.Constant(value)
            setattr(self, name, self.add_weight(name, value.shape, initializer=constant))
        super().build(input_shape)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Encodes texts.

        Args:
            inputs: `input_ids` and `attention_mask`, int32 `[batch, length]`, of a `NgramTokenizer`.
            training: has no meaning here.

        Returns:
            float `[batch, dim]` of length 1; zeros for a row of padding alone.
        """
        self.build(None)
        ids = inputs["input_ids"]
        # Sums of many small numbers: in float32 under mixed precision too.
        weights = tf.cast(tf.gather(self.importance, ids), tf.float32)
        weights *= tf.cast(inputs["attention_mask"], tf.float32)
        summed = tf.einsum("bt,btd->bd", weights, tf.cast(tf.gather(self.table, ids), tf.float32))
        return tf.cast(tf.math.l2_normalize(summed, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape["input_ids"])[0], self.dim])

    def learning_rate_multipliers(self, decay: float) -> list[tuple[tf.Variable, float]]:
        """Each variable with its share of the learning rate, which is made for transformers."""
        self.build(None)
        return [(variable, _FASTER) for variable in self.trainable_weights]

    def digest(self) -> str:
        """A sha256 over what decides the vectors: a cache's key."""
        self.build(None)
        content = hashlib.sha256(json.dumps([self.buckets, self.dim, self.compute_dtype]).encode())
        for variable in (self.table, self.importance):
            content.update(variable.numpy().tobytes())
        return content.hexdigest()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "buckets": self.buckets,
            "dim": self.dim,
            "stage": self.stage,
            "seed": self.seed,
        }
