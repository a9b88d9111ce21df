"""A catalogue's texts, encoded while the encoder is trained: each distinct text once a step, and not all of
them.

Encoding every text that a step touches would cost hundreds of times what the rest of the model does. Three
things make it cheap. A step encodes the texts of at most `texts_per_step` of its distinct items, drawn at
random; the others stand by their vectors of the last refresh, without a gradient (Xiao et al., 2021, train on
news with such a cache). The blocks below the lowest trained one are run once for the whole catalogue, and
what comes out of them is kept. And a batch of texts is only as wide as its longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.layers.micro_batching import in_parts

if TYPE_CHECKING:  # a model on ready-made text vectors needs no transformers
    from tfrec_fusion.layers.text_encoder import TextEncoder

BULK = 128  # texts at once where the whole catalogue is encoded


class ItemText(tf_keras.layers.Layer):
    """Encodes texts of a catalogue by item index, with an encoder whose stage is `top_n`, `lora` or `full`.

    Args:
        encoder: the encoder, with its weights.
        tokens: `input_ids` and `attention_mask`, int32 `[N + 1, length]`; the mask is 0 in row 0 and for
            items without a text (`catalogue_tokens`).
        texts_per_step: the most texts that a training step encodes.
        cache_bytes: the most memory for activations of the frozen lower blocks, float16; a catalogue that
            needs more has them computed in every step.
        micro_batch: so many of a step's texts at once, computed again in the backward pass (`in_parts`); None
            for all.

    Raises:
        ValueError: if the encoder is frozen, or `texts_per_step` is less than 1.

    Reference: Xiao et al., 2021, https://arxiv.org/abs/2102.09268
    """

    def __init__(
        self,
        encoder: TextEncoder,
        tokens: Mapping[str, np.ndarray],
        texts_per_step: int = 256,
        cache_bytes: int = 2**31,
        micro_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if encoder.stage == "frozen":
            raise ValueError(
                "An encoder that is trained along needs a stage other than 'frozen'. Received: 'frozen'. Give"
                " text vectors in the catalogue instead."
            )
        if texts_per_step < 1:
            raise ValueError(
                f"`texts_per_step` must be at least 1. Received: {texts_per_step}. Set the stage to 'frozen'"
                " for none."
            )
        self.encoder = encoder
        self.texts_per_step = texts_per_step
        self.micro_batch = micro_batch
        self.lengths = np.asarray(tokens["attention_mask"]).sum(1).astype(np.int32)
        # Held on the host, and as tensors: neither weights nor checkpoints should carry them.
        with tf.device("CPU"):
            self._ids = _ragged(np.asarray(tokens["input_ids"], np.int32), self.lengths)
            self._lengths = tf.constant(self.lengths)
            self._has_text = self._lengths > 0
        size = int(self.lengths.sum()) * encoder.width * 2
        self._lower: tf.RaggedTensor | None = None
        if encoder.first_trained_block > 0 and size <= cache_bytes:
            lower = self._lower_activations()
            # Some language models' activations are beyond float16: these are computed in every step.
            if bool(tf.reduce_all(tf.math.is_finite(lower.flat_values))):
                self._lower = lower

    @property
    def cached(self) -> bool:
        """Whether the frozen lower blocks' activations are kept."""
        return self._lower is not None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Encodes items' texts.

        Args:
            inputs: int32 `[n]`, item indices.
            training: whether dropout is on in the trained blocks.

        Returns:
            float `[n, text_dim]`.
        """
        rows = tf.gather(self._ids if self._lower is None else self._lower, inputs)
        lengths = tf.cast(rows.row_lengths(), tf.int32)
        # Nothing is no width: blocks need one place at least.
        width = tf.maximum(tf.reduce_max(lengths, 0), 1)
        mask = tf.sequence_mask(lengths, width, tf.int32)
        dense = rows.to_tensor()
        missing = [[0, 0], [0, width - tf.shape(dense)[1]], [0, 0]]
        dense = tf.pad(dense, missing[: dense.shape.rank])
        if self._lower is None:
            return self.encoder({"input_ids": dense, "attention_mask": mask}, training=training)
        return self.encoder.upper(dense, mask, training=training)

    def update(self, vectors: tf.Tensor, item_index: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Replaces some of the vectors by newly encoded ones, through which the encoder is trained.

        Args:
            vectors: float `[n, text_dim]`, the items' vectors of the last refresh.
            item_index: int32 `[n]`, whose they are.
            rows: int32 `[any]`, rows of `vectors` that are worth encoding; repeated ones count once.

        Returns:
            float `[n, text_dim]` with at most `texts_per_step` new rows.
        """
        distinct = tf.unique(rows)[0]
        distinct = tf.boolean_mask(distinct, tf.gather(self._has_text, tf.gather(item_index, distinct)))
        chosen = tf.random.shuffle(distinct)[: self.texts_per_step]
        if self.micro_batch is None:
            new = self(tf.gather(item_index, chosen), training=True)
        else:
            # Texts of similar length side by side, since each part is as wide as its longest.
            lengths = tf.gather(self._lengths, tf.gather(item_index, chosen))
            chosen = tf.gather(chosen, tf.argsort(lengths))
            index = tf.gather(item_index, chosen)
            new = in_parts(lambda part, _: self(part, training=True), index, (), self.micro_batch)
        return tf.tensor_scatter_nd_update(vectors, chosen[:, None], tf.cast(new, vectors.dtype))

    def encode_all(self) -> np.ndarray:
        """Encodes the whole catalogue as the encoder is now.

        Returns:
            float32 `[N + 1, text_dim]`, zeros for items without a word.
        """
        encode = tf.function(
            lambda index: tf.cast(self(index, training=False), tf.float32),
            input_signature=[tf.TensorSpec([None], tf.int32)],
            autograph=False,
        )
        vectors = np.zeros((len(self.lengths), self.encoder.dim), np.float32)
        for rows in self._bulks():
            vectors[rows] = encode(tf.constant(rows, tf.int32)).numpy()
        return vectors

    def merged_encoder(self) -> TextEncoder:
        """The encoder as it is exported: low-rank updates, if any, added to the matrices, vectors
        unchanged."""
        if self.encoder.stage == "lora":
            self.encoder.merge_lora()
        return self.encoder

    def learning_rates(self, rate: float, decay: float) -> list[tuple[tf.Variable, float]]:
        """Learning rates of the encoder's trained variables.

        Args:
            rate: of the highest block, and of what pools.
            decay: of each lower block, as a share of the one above (Howard and Ruder, 2018).

        Returns:
            Each variable with its rate.
        """
        factors = {
            variable.ref(): factor for variable, factor in self.encoder.learning_rate_multipliers(decay)
        }
        return [
            (variable, rate * factors.get(variable.ref(), 1.0)) for variable in self.encoder.trainable_weights
        ]

    def _bulks(self) -> Iterator[Any]:
        """Rows with text in batches of similar length."""
        order = np.argsort(self.lengths, kind="stable")
        order = order[self.lengths[order] > 0]
        for start in range(0, len(order), BULK):
            yield order[start : start + BULK]

    def _lower_activations(self) -> tf.RaggedTensor:
        """float16 `[N + 1, (tokens), hidden]`."""
        lower = tf.function(
            lambda ids, mask: self.encoder.lower({"input_ids": ids, "attention_mask": mask}),
            input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
            autograph=False,
        )
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        values = np.zeros((starts[-1], self.encoder.width), np.float16)
        for rows in self._bulks():
            ids = tf.gather(self._ids, rows).to_tensor()
            mask = np.arange(ids.shape[1]) < self.lengths[rows][:, None]
            hidden = lower(ids, tf.constant(mask, tf.int32)).numpy()
            positions = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])
            with np.errstate(over="ignore"):
                values[positions] = hidden[mask]
        with tf.device("CPU"):
            return tf.RaggedTensor.from_row_splits(tf.constant(values), tf.constant(starts, tf.int64))


def _ragged(values: np.ndarray, lengths: np.ndarray) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_tensor(tf.constant(values), tf.constant(lengths, tf.int64))
