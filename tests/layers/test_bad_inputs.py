"""What layers refuse, in words that name the rule, the value seen and the way out; and what looks wrong but
is not."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_bert import write_tiny_bert
from tfrec_fusion import layers

FUSIONS = [
    layers.ConcatFusion,
    lambda: layers.ProjectionFusion(4),
    lambda: layers.GatedFusion(4),
    lambda: layers.AttentionFusion(4),
    lambda: layers.FilmFusion(4, base="id"),
    lambda: layers.ExpertsFusion(4),
]
HISTORIES = [
    layers.MeanHistory,
    layers.ConvolutionHistory,
    layers.RecurrentHistory,
    layers.TransformerHistory,
]
TASKS = [
    lambda: layers.MMoE(["a", "b"], num_experts=2, units=[4]),
    lambda: layers.PLE(["a", "b"], units=[4]),
]


def ones(*shape, dtype=tf.float32):
    return tf.ones(shape, dtype)


@pytest.mark.parametrize("make", FUSIONS)
def test_fusions_want_float_vectors_of_the_modalities_they_know(make):
    with pytest.raises(ValueError, match=r"needs floats. Received: int32 for 'id'. Look ids up"):
        make()({"id": ones(2, 3, dtype=tf.int32), "text": ones(2, 3)})
    fusion = make()
    fusion({"id": ones(2, 3), "text": ones(2, 3)})
    with pytest.raises(ValueError, match=r"built for the modalities id, text. Received: id. Give zeros"):
        fusion({"id": ones(2, 3)})
    with pytest.raises(ValueError, match=r"Received: id, image, text"):
        fusion({"id": ones(2, 3), "text": ones(2, 3), "image": ones(2, 3)})


@pytest.mark.parametrize("make", HISTORIES)
def test_histories_want_float_vectors_and_a_position(make):
    with pytest.raises(ValueError, match=r"needs floats. Received: int32. Look the item ids up"):
        make()(ones(2, 3, 8, dtype=tf.int32))
    with pytest.raises(ValueError, match=r"at least one position. Received the shape \(2, 0, 8\). Pad empty"):
        make()(ones(2, 0, 8))


@pytest.mark.parametrize("make", HISTORIES)
@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_history_of_padding_alone_is_the_empty_one_and_has_finite_gradients(make, return_sequences):
    layer, inputs = make(return_sequences=return_sequences), tf.Variable(ones(2, 3, 8) * np.nan)
    with tf.GradientTape() as tape:
        encoded = layer(inputs, mask=tf.zeros((2, 3), tf.bool), training=True)
        loss = tf.reduce_sum(tf.square(encoded - 1.0))
    np.testing.assert_array_equal(encoded, np.zeros(encoded.shape))
    for gradient in tape.gradient(loss, layer.trainable_variables, unconnected_gradients="zero"):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


@pytest.mark.parametrize("make", TASKS)
@pytest.mark.parametrize("values", [[[1, 2]], [["a", "b"]]])
def test_experts_want_floats(make, values):
    with pytest.raises(ValueError, match=r"needs floats. Received: (int32|string). Embed ids first"):
        make()(tf.constant(values))


def test_crosses_and_reranking_want_floats():
    with pytest.raises(ValueError, match=r"FactorizationMachine needs floats. Received: int32. Embed"):
        layers.FactorizationMachine()(ones(2, 3, 4, dtype=tf.int32))
    with pytest.raises(ValueError, match=r"needs floats. Received: string for scores. Cast them"):
        layers.MaximalMarginalRelevance()(tf.constant([["a"]]), ones(1, 1, 2), 0.3, 1)
    with pytest.raises(ValueError, match=r"Received: int32 for vectors"):
        layers.MaximalMarginalRelevance()(ones(1, 1), ones(1, 1, 2, dtype=tf.int32), 0.3, 1)


def test_a_text_longer_than_the_encoders_positions_says_how_long_it_may_be(tmp_path):
    folder = write_tiny_bert(tmp_path / "bert", ["tea", "red"])
    encoder = layers.TextEncoder.from_pretrained(folder)
    most = encoder.max_length
    texts = tf.constant(["tea " * (2 * most)])
    with pytest.raises(
        ValueError, match=rf"at most {most} tokens long.*Received: {most + 3}. Make the tokenizer"
    ):
        encoder(layers.load_tokenizer(folder, max_length=most + 3)(texts))
    # The tokenizer's own budget cuts what is longer, and the same words fill it.
    tokenizer = layers.load_tokenizer(folder, max_length=most)
    np.testing.assert_array_equal(encoder(tokenizer(texts)), encoder(tokenizer(tf.constant(["tea " * most]))))
    assert encoder(tokenizer(tf.constant([], tf.string))).shape == (0, encoder.dim)


@pytest.mark.parametrize(("kind", "most"), [("bert", 40), ("roberta", 38), ("mpnet", 38)])
def test_positions_begin_after_the_padding_token_where_the_family_does_so(kind, most):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"model_type": kind, "vocab_size": 20, "max_position_embeddings": 40, "pad_token_id": 1, **sizes}
    encoder = layers.TextEncoder(config)

    def tokens(length):
        return {
            "input_ids": ones(2, length, dtype=tf.int32) * 5,
            "attention_mask": ones(2, length, dtype=tf.int32),
        }

    assert encoder(tokens(most)).shape == (2, 8)
    with pytest.raises(ValueError, match=f"at most {most} tokens"):
        encoder(tokens(most + 1))
