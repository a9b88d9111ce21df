"""A text encoder trained along with a model: what is encoded, what learns, what is left when training
ends."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from safetensors.numpy import load_file, save_file

from tests.models.planted_models import RANKING, RETRIEVAL, batches, catalogue, hit_rates, tensors
from tests.tiny_bert import write_tiny_bert
from tfrec_fusion.config import ConfigError, TextConfig
from tfrec_fusion.datasets.synthetic import planted
from tfrec_fusion.layers.bulk_encoding import encode_tokens
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.base import catalogue_tokens
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.models.build import build_item_text, build_ranking, build_two_tower
from tfrec_fusion.training.fitting import fit, fit_staged, precision

CIRCLES = 4
WORDS = [f"circle{number}" for number in range(1, CIRCLES + 1)] + ["blue", "red", "green"]
DATA = planted(num_users=120, circles=CIRCLES, cold=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def texts():
    """Each item's circle among words that mean nothing; item 3 has no text."""
    rng = np.random.default_rng(0)
    words = [
        " ".join(rng.permutation([f"circle{genre}", *rng.choice(WORDS[CIRCLES:], rng.integers(1, 4))]))
        for genre in DATA.genre[1:]
    ]
    words[2] = ""
    return words


def with_tokens(encoder, texts, pooling="mean"):
    tokens = catalogue_tokens(load_tokenizer(encoder, max_length=8), texts)
    tokens = {
        name: np.pad(tokens[name].numpy(), [(1, 0), (0, 0)]) for name in ("input_ids", "attention_mask")
    }
    frozen = TextEncoder.from_pretrained(encoder, pooling=pooling, normalize=True)
    vectors = encode_tokens(frozen, {name: values[1:] for name, values in tokens.items()})
    vectors[tokens["attention_mask"][1:].sum(1) == 0] = 0
    items = catalogue(DATA)
    return dataclasses.replace(
        items,
        features={},
        text_vectors=np.concatenate([np.zeros_like(vectors[:1]), vectors]),
        text_tokens=tokens,
    )


SPACE = dataclasses.replace(DATA.space, item_features=(), text_dim=16)


def config_of(encoder, stage, **changes):
    settings = {"top_n": 1, "epochs": 2, "learning_rate": 5e-3, "texts_per_step": 12, "lora_rank": 2}
    return TextConfig(encoder, max_length=8, stage=stage, **{**settings, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["top_n", "lora", "full"])
def test_vectors_are_those_of_the_encoder_alone(encoder, texts, stage):
    items = with_tokens(encoder, texts)
    text = build_item_text(config_of(encoder, stage), items)
    assert text.cached == (stage != "full")
    # Lower activations are kept in float16.
    np.testing.assert_allclose(text.encode_all(), items.text_vectors, atol=2e-3)
    without = build_item_text(config_of(encoder, stage), items)
    without._lower = None
    np.testing.assert_allclose(without.encode_all(), items.text_vectors, atol=1e-5)
    assert (text.encode_all()[[0, 3]] == 0).all()


def test_a_step_encodes_few_distinct_texts_and_none_twice(encoder, texts):
    text = build_item_text(config_of(encoder, "lora"), with_tokens(encoder, texts))
    encoded = []
    call, text.call = text.call, lambda inputs, training=None: encoded.extend(inputs.numpy()) or call(inputs)
    index = tf.constant([0, 3, 5, 6, 7, 8], tf.int32)
    marked = tf.fill([6, 16], 9.0)
    updated = text.update(marked, index, tf.constant([0, 1, 2, 2, 3, 2]))
    # The unknown item and the one without a text are left as they are, and so is what is not worth it.
    assert sorted(encoded) == [5, 6]
    kept = [0, 1, 4, 5]
    np.testing.assert_array_equal(updated.numpy()[kept], 9)
    np.testing.assert_allclose(np.linalg.norm(updated.numpy()[2:4], axis=1), 1, rtol=1e-5)
    encoded.clear()
    every = tf.range(len(DATA.ids))
    text.update(tf.zeros([len(DATA.ids), 16]), every, tf.concat([every, every], 0))
    assert len(encoded) == len(set(encoded)) == 12
    nothing = text.update(marked, index, tf.constant([0, 1]))
    np.testing.assert_array_equal(nothing, marked)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_gradients_reach_the_encoder_as_through_a_plain_call(encoder, texts, micro_batch):
    items = with_tokens(encoder, texts)
    text = build_item_text(config_of(encoder, "top_n", texts_per_step=100, micro_batch=micro_batch), items)
    plain = TextEncoder.from_pretrained(encoder, stage="top_n", top_n=1, normalize=True)
    for layer in [*text.encoder.backbone.submodules, *plain.backbone.submodules]:
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0
    rows = np.array([1, 2, 4, 9])
    weights = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    with tf.GradientTape() as tape:
        vectors = text.update(tf.zeros([4, 16]), tf.constant(rows, tf.int32), tf.range(4))
        loss = tf.reduce_sum(vectors * weights)
    tokens = {name: values[rows] for name, values in items.text_tokens.items()}
    with tf.GradientTape() as plain_tape:
        expected = tf.reduce_sum(plain(tokens, training=True) * weights)
    ours = tape.gradient(loss, text.encoder.trainable_weights)
    theirs = plain_tape.gradient(expected, plain.trainable_weights)
    for variable, gradient, other in zip(text.encoder.trainable_weights, ours, theirs, strict=True):
        scale = np.abs(other).max() + 1e-3
        np.testing.assert_allclose(gradient / scale, other / scale, atol=0.02, err_msg=variable.name)


@pytest.mark.parametrize("stage", ["top_n", "lora", "full"])
def test_texts_in_parts_give_the_vectors_and_gradients_of_all_at_once(encoder, texts, stage):
    items = with_tokens(encoder, texts)
    found = {}
    for micro_batch in (None, 2):
        tf_keras.utils.set_random_seed(0)
        text = build_item_text(config_of(encoder, stage, texts_per_step=100, micro_batch=micro_batch), items)
        for layer in text.encoder.backbone.submodules:
            if isinstance(layer, tf_keras.layers.Dropout):
                layer.rate = 0.0
        index = tf.constant([1, 2, 3, 4, 9], tf.int32)
        with tf.GradientTape() as tape:
            vectors = text.update(tf.ones([5, 16]), index, tf.range(5))
            loss = tf.reduce_sum(vectors * tf.reshape(tf.range(80.0), [5, 16]))
        gradients = tape.gradient(loss, text.encoder.trainable_weights)
        found[micro_batch] = [vectors, *(tf.convert_to_tensor(gradient) for gradient in gradients)]
    for ours, whole in zip(found[2], found[None], strict=True):
        np.testing.assert_allclose(ours, whole, atol=1e-4 * np.abs(whole).max() + 1e-6)


@pytest.fixture(scope="module")
def blind_encoder(encoder, tmp_path_factory):
    """The same encoder, to which all circles are one word."""
    folder = tmp_path_factory.mktemp("blind")
    for name in ("config.json", "vocab.txt"):
        shutil.copy(f"{encoder}/{name}", folder)
    tensors = load_file(f"{encoder}/model.safetensors")
    words = tensors["embeddings.word_embeddings.weight"]
    words[4 : 4 + CIRCLES] = words[4]
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def cold_hit_rate(model):
    cold = np.isin(DATA.test["item_index"], DATA.cold_items)
    return hit_rates(model, DATA.test, 3)[cold].mean()


@pytest.mark.slow
def test_training_the_encoder_finds_what_its_vectors_hid(blind_encoder, texts):
    items = with_tokens(blind_encoder, texts)
    tower = dataclasses.replace(RETRIEVAL.tower, history_encoder="mean", id_dropout=0.5)
    training = dataclasses.replace(RETRIEVAL.training, epochs=3)
    config = dataclasses.replace(RETRIEVAL, tower=tower, training=training)
    text = config_of(blind_encoder, "full", epochs=12, learning_rate=1e-2)
    tf_keras.utils.set_random_seed(1)
    model = build_two_tower(config, SPACE, items, text)
    assert model.item_text.encoder.trainable_weights == []
    history = fit_staged(model, batches(DATA.train, 64), None, training, text, progress=False)
    assert history.epochs == 15
    frozen = build_two_tower(config, SPACE, items)
    fit(frozen, batches(DATA.train, 64), None, training, progress=False)
    assert cold_hit_rate(model) > max(0.9, cold_hit_rate(frozen) + 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("precision_name", ["float32", "mixed_float16"])
def test_the_staged_schedule_takes_micro_batches(encoder, texts, precision_name):
    """It learns what it learns without them; under float16, whose few steps here are mostly skipped for their
    scale, no less."""
    items = with_tokens(encoder, texts)
    losses = []
    for micro_batch in (None, 16):
        training = dataclasses.replace(
            RETRIEVAL.training, epochs=1, micro_batch=micro_batch, precision=precision_name
        )
        config = dataclasses.replace(RETRIEVAL, negatives=10, training=training)
        text = config_of(encoder, "lora", micro_batch=4 if micro_batch else None)
        tf_keras.utils.set_random_seed(1)
        with precision(training):
            model = build_two_tower(config, SPACE, items, text)
        before = [weight.numpy() for weight in model.item_text.encoder.weights if "lora_b" in weight.name]
        losses.append(fit_staged(model, batches(DATA.train, 64), None, training, text, progress=False))
        after = [weight.numpy() for weight in model.item_text.encoder.weights if "lora_b" in weight.name]
        assert all(np.abs(now - then).max() > 0 for now, then in zip(after, before, strict=True))
    without, beside = (np.array(history.history["loss"]) for history in losses)
    assert np.isfinite(without).all()
    assert precision_name != "float32" or beside[-1] < beside[0]
    if precision_name == "float32":
        # What dropout and negatives draw differs.
        np.testing.assert_allclose(beside, without, rtol=0.03)
    else:
        # Gradients of micro-batches are summed in float32: fewer of these few steps overflow and are skipped.
        assert (beside <= 1.03 * without).all()


@pytest.mark.slow
def test_the_table_and_the_merged_encoder_are_what_was_trained(encoder, texts):
    items = with_tokens(encoder, texts)
    training = dataclasses.replace(RETRIEVAL.training, epochs=1)
    config = dataclasses.replace(RETRIEVAL, negatives=10, training=training)
    text = config_of(encoder, "lora")
    model = build_two_tower(config, SPACE, items, text)
    fit_staged(model, batches(DATA.train, 64), None, training, text, progress=False)
    assert all(
        np.abs(weight.numpy()).max() > 0
        for weight in model.item_text.encoder.trainable_weights
        if "lora_b" in weight.name
    )
    table = model.item_tower.tables["text_vector"].numpy()
    assert np.abs(table - items.text_vectors).max() > 0.01
    np.testing.assert_allclose(table, model.item_text.encode_all(), atol=1e-5)
    merged = model.item_text.merged_encoder()
    assert merged.stage == "frozen"
    tokens = {name: values[1:] for name, values in items.text_tokens.items()}
    has_text = tokens["attention_mask"].sum(1) > 0
    np.testing.assert_allclose(encode_tokens(merged, tokens)[has_text], table[1:][has_text], atol=5e-3)


@pytest.mark.slow
def test_ranking_trains_the_encoder_and_keeps_the_better_stage(encoder, texts):
    items = with_tokens(encoder, texts)
    # A rate at which the encoder forgets all it knew: the first stage must win.
    text = config_of(encoder, "top_n", learning_rate=10.0, epochs=1)
    config = dataclasses.replace(RANKING, training=dataclasses.replace(RANKING.training, epochs=2))
    model = build_ranking(config, SPACE, items, {"rating": "rating"}, text=text)
    train, held_out = batches(DATA.train, 64), batches(DATA.test, 64)
    history = fit_staged(model, train, held_out, config.training, text, progress=False)
    assert history.epochs == 3
    assert history.best_epoch <= 2
    np.testing.assert_allclose(model.item_tower.tables["text_vector"], items.text_vectors, atol=1e-6)
    model.loss_mean.reset_state()
    losses = [float(model.compute_loss(tensors(DATA.test)))]
    assert losses[0] == pytest.approx(min(history.history["val_loss"]), rel=0.05)


def test_what_does_not_fit_together_is_refused(encoder, texts):
    items = with_tokens(encoder, texts)
    text = config_of(encoder, "lora")
    bare = dataclasses.replace(items, text_tokens=None)
    with pytest.raises(ValueError, match="needs the items' tokens and vectors"):
        build_two_tower(RETRIEVAL, SPACE, bare, text)
    with pytest.raises(ValueError, match="texts_per_step` must be at least 1"):
        build_two_tower(RETRIEVAL, SPACE, items, dataclasses.replace(text, texts_per_step=0))
    compiled = dataclasses.replace(
        RETRIEVAL, training=dataclasses.replace(RETRIEVAL.training, jit_compile=True)
    )
    with pytest.raises(ConfigError, match="`text.stage` must be 'frozen' with `jit_compile: true`"):
        build_two_tower(compiled, SPACE, items, text)
    frozen = build_two_tower(RETRIEVAL, SPACE, items)
    with pytest.raises(ValueError, match="`text` must be what the model was built with"):
        fit_staged(frozen, batches(DATA.train, 64), None, RETRIEVAL.training, text, progress=False)
