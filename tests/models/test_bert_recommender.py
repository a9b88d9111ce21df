"""The classifier over user, item and text on labels that need text and user together."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models.planted_models import batches
from tfrec_fusion.config import TrainingConfig
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.metrics.classification import classification_report
from tfrec_fusion.models.bert_recommender import BertRecommender
from tfrec_fusion.training.fitting import fit

TINY_BERT = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


def reviews(count, seed):
    """Users of even index want token 5 in a text, the others token 6; class 2 is for texts with neither."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 9, count)
    tokens = rng.integers(10, 30, (count, 6))
    word = rng.integers(0, 3, count)
    tokens[np.arange(count), rng.integers(0, 6, count)] = np.array([5, 6, 7])[word]
    label = np.where(word == 2, 2, (word == users % 2).astype(int))
    columns = {
        "user_index": users.astype(np.int32),
        "item_index": rng.integers(1, 20, count).astype(np.int32),
        "label": label.astype(np.int32),
    }
    text = {"input_ids": tokens.astype(np.int32), "attention_mask": np.ones((count, 6), np.int32)}
    return {**columns, "text": text}


@pytest.mark.slow
def test_labels_that_need_user_and_text_together_are_learned():
    tf_keras.utils.set_random_seed(0)
    model = BertRecommender(TextEncoder(TINY_BERT, stage="full"), 9, 20, 3, dim=8, hidden=(64,), dropout=0.0)
    config = TrainingConfig(epochs=15, learning_rate=3e-3)
    history = fit(model, batches(reviews(3000, 0), 64), None, config, progress=False)
    test = reviews(300, 1)
    probabilities = model(tf.nest.map_structure(tf.constant, test)).numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    report = classification_report(
        test["label"], probabilities.argmax(1), ["dislikes", "likes", "indifferent"]
    )
    assert report["macro"]["f1"] > 0.9
    assert history.history["accuracy"][-1] > 0.9


def test_text_may_come_as_strings_through_any_layer():
    lengths = tf_keras.layers.Lambda(lambda text: tf.cast(tf.strings.length(text), tf.float32)[:, None])
    model = BertRecommender(lengths, 3, 4, 2, dim=4)
    batch = {
        "user_index": tf.constant([1, 2]),
        "item_index": tf.constant([1, 3]),
        "text": tf.constant(["a", "abc"]),
    }
    assert model(batch).shape == (2, 2)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="`num_classes` must be at least 2"):
        BertRecommender(tf_keras.layers.Dense(3), 3, 4, 1)
