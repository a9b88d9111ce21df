"""Transform's callbacks: raw Examples into numbers, the same graph in training and in serving.

What becomes of each feature is `tfrec_fusion.features.graph`'s; here stands what Transform learns from data.
Item ids in interactions stay strings: their vocabulary belongs to the items' Transform, and the trainers look
them up in it.
"""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from pipeline.data.vocabularies import one_line
from tfrec_fusion.config import TextConfig, from_dict
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.features.graph import interaction_inputs, item_inputs, item_tokenizer


class Analysed:
    """What Transform learns from all Examples of the splits that it analyses (`features.graph.Learned`)."""

    def index(self, values: tf.Tensor, vocabulary: str, size: int | None) -> tf.Tensor | tf.SparseTensor:
        """Indices in a vocabulary, which is a text file of one value a line."""
        indices = tft.compute_and_apply_vocabulary(
            one_line(values), default_value=-1, top_k=size, vocab_filename=vocabulary
        )
        if isinstance(indices, tf.SparseTensor):
            return tf.SparseTensor(indices.indices, indices.values + 1, indices.dense_shape)
        return indices + 1

    def standardise(self, values: tf.Tensor, feature: str) -> tf.Tensor:
        """z-scores over all Examples."""
        return tft.scale_to_z_score(values)


def interactions_preprocessing_fn(
    inputs: dict[str, tf.Tensor | tf.SparseTensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """`user_index`, side features, labels; ids and history as they are."""
    tables = from_dict(Tables, custom_config["tables"])
    return interaction_inputs(inputs, tables, custom_config["vocabulary_size"], Analysed())


def items_preprocessing_fn(
    inputs: dict[str, tf.Tensor | tf.SparseTensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """`item_index`, side features, and the text as tokens."""
    tables = from_dict(Tables, custom_config["tables"])
    text = custom_config.get("text")
    tokenizer = item_tokenizer(from_dict(TextConfig, text)) if text else None
    return item_inputs(inputs, tables, custom_config["vocabulary_size"], Analysed(), tokenizer)
