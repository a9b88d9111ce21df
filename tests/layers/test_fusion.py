"""Fusions against NumPy, and what modality dropout promises."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.checks import check_layer
from tfrec_fusion.layers.fusion import (
    AttentionFusion,
    ConcatFusion,
    ExpertsFusion,
    FilmFusion,
    GatedFusion,
    ModalityDropout,
    ProjectionFusion,
)

FUSIONS = [
    (ConcatFusion, {}, 14),
    (ProjectionFusion, {"dim": 4, "activation": "tanh"}, 4),
    (GatedFusion, {"dim": 4}, 4),
    (AttentionFusion, {"dim": 4, "attention_dim": 3}, 4),
    (FilmFusion, {"dim": 4, "base": "id"}, 4),
    (ExpertsFusion, {"dim": 4, "num_experts": 3, "dropout": 0.0}, 4),
]
every_fusion = pytest.mark.parametrize(
    ("fusion", "kwargs", "dim"), FUSIONS, ids=[entry[0].__name__ for entry in FUSIONS]
)


def modalities(*leading):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(*leading, dim)).astype(np.float32) for name, dim in MODALITY_DIMS.items()}


MODALITY_DIMS = {"text": 6, "id": 3, "image": 5}  # Not in alphabetical order, on purpose.


def made(layer, inputs):
    layer(inputs)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def dense(layer, x):
    kernel, *bias = layer.get_weights()
    return x @ kernel + (bias[0] if bias else 0)


def softmax(x, axis):
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


@every_fusion
def test_check_layer(fusion, kwargs, dim):
    layer = check_layer(fusion, kwargs, modalities(5), (5, dim))
    candidates = modalities(4, 3)  # an axis more, as of candidates a query
    flat = {name: vectors.reshape(12, -1) for name, vectors in candidates.items()}
    np.testing.assert_allclose(layer(candidates), tf.reshape(layer(flat), (4, 3, dim)), rtol=1e-4, atol=1e-5)


@every_fusion
def test_the_order_of_the_dictionary_never_matters(fusion, kwargs, dim):
    inputs = modalities(5)
    layer = made(fusion(**kwargs), inputs)
    backwards = dict(reversed(inputs.items()))
    np.testing.assert_array_equal(layer(backwards), layer(inputs))
    again = fusion(**kwargs)
    again(backwards)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(inputs), layer(inputs))


@every_fusion
def test_a_time_dimension_is_fused_position_by_position(fusion, kwargs, dim):
    inputs = modalities(4, 3)
    layer = made(fusion(**kwargs), inputs)
    for position in range(3):
        at_position = {name: vectors[:, position] for name, vectors in inputs.items()}
        np.testing.assert_allclose(layer(inputs)[:, position], layer(at_position), rtol=1e-5, atol=1e-5)


def test_concat_is_alphabetical():
    inputs = {"b": np.array([[3.0]], np.float32), "a": np.array([[1.0, 2.0]], np.float32)}
    np.testing.assert_array_equal(ConcatFusion()(inputs), [[1.0, 2.0, 3.0]])


def joined(inputs):
    return np.concatenate([inputs[name] for name in sorted(inputs)], axis=-1)


def test_projection_equals_numpy():
    inputs = modalities(5)
    layer = made(ProjectionFusion(4, activation="relu"), inputs)
    np.testing.assert_allclose(
        layer(inputs), np.maximum(dense(layer.projection, joined(inputs)), 0), rtol=1e-4, atol=1e-4
    )


def test_gated_equals_numpy():
    inputs = modalities(5)
    layer = made(GatedFusion(4), inputs)
    gates = softmax(dense(layer.gate, joined(inputs)).reshape(5, 3, 4), axis=1)
    hidden = np.stack(
        [np.tanh(dense(layer.projections[name], inputs[name])) for name in sorted(inputs)], axis=1
    )
    np.testing.assert_allclose(layer(inputs), (gates * hidden).sum(axis=1), rtol=1e-4, atol=1e-5)


def test_two_gates_are_the_papers_sigmoid_unit():
    inputs = {name: vectors for name, vectors in modalities(5).items() if name != "image"}
    layer = made(GatedFusion(4), inputs)
    logits = dense(layer.gate, joined(inputs))
    gate = 1 / (1 + np.exp(logits[:, 4:] - logits[:, :4]))
    fused, gates = layer(inputs, return_gates=True)
    np.testing.assert_allclose(gates["id"], gate, rtol=1e-4)
    np.testing.assert_allclose(gates["text"], 1 - gate, rtol=1e-4)
    np.testing.assert_array_equal(fused, layer(inputs))


def test_an_adaptive_gate_reads_how_much_is_known():
    inputs, activity = modalities(5), np.array([0, 1, 9, 99, 9999])
    layer = GatedFusion(4, reads_activity=True)
    layer(inputs, activity=activity)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    read = np.concatenate([joined(inputs), np.log1p(activity)[:, None] / 10], 1)
    gates = softmax(dense(layer.gate, read).reshape(5, 3, 4), axis=1)
    hidden = np.stack(
        [np.tanh(dense(layer.projections[name], inputs[name])) for name in sorted(inputs)], axis=1
    )
    found = layer(inputs, activity=activity)
    np.testing.assert_allclose(found, (gates * hidden).sum(axis=1), rtol=1e-4, atol=1e-5)
    assert GatedFusion.from_config(layer.get_config()).reads_activity
    with pytest.raises(ValueError, match="`activity` must be given to a fusion with `reads_activity`"):
        layer(inputs)


def test_ids_are_trusted_by_how_often_they_were_seen():
    """What is asked for stands in the text; an id says it with noise that falls with observations, and does
    not tell how many there were."""
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 200, 1024)
    truth = rng.normal(size=(1024, 2)) / 4
    noise = rng.normal(size=(1024, 2))
    inputs = {
        "id": np.where(seen[:, None] > 100, truth, noise / 4).astype(np.float32),
        "text": np.where(seen[:, None] > 100, noise / 4, truth).astype(np.float32),
    }
    errors = {}
    for reads in (False, True):
        tf_keras.utils.set_random_seed(1)
        layer = GatedFusion(2, activation=None, reads_activity=reads)
        read = {"activity": seen} if reads else {}
        optimizer = tf_keras.optimizers.Adam(0.05)

        @tf.function
        def step(layer=layer, read=read, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(layer(inputs, **read) - truth.astype(np.float32)))
            gradients = tape.gradient(loss, layer.trainable_variables)
            optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
            return loss

        for _ in range(300):
            errors[reads] = float(step())
    assert errors[True] < 0.7 * errors[False]
    gate = layer(inputs, activity=seen, return_gates=True)[1]["id"].numpy().mean(1)
    assert gate[seen > 150].mean() > gate[seen < 50].mean() + 0.3


def test_attention_equals_numpy():
    inputs = modalities(5)
    layer = made(AttentionFusion(4, attention_dim=3), inputs)
    projected = np.stack([dense(layer.projections[name], inputs[name]) for name in sorted(inputs)], axis=1)
    weights = softmax(dense(layer.score, np.tanh(dense(layer.attention, projected)))[..., 0], axis=1)
    fused, returned = layer(inputs, return_weights=True)
    np.testing.assert_allclose(fused, np.einsum("bm,bmd->bd", weights, projected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([returned[name] for name in sorted(inputs)], weights.T, rtol=1e-4)


def test_film_equals_numpy():
    inputs = modalities(5)
    layer = made(FilmFusion(4, base="text"), inputs)
    condition = np.concatenate([inputs["id"], inputs["image"]], axis=-1)
    scale, shift = np.split(dense(layer.modulation, condition), 2, axis=-1)
    expected = (1 + scale) * dense(layer.projection, inputs["text"]) + shift
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-4)


def test_experts_equal_numpy():
    inputs = modalities(5)
    layer = made(ExpertsFusion(4, num_experts=3), inputs)
    features = joined(inputs)
    bias, kernel = layer.bias.numpy(), layer.kernel.numpy()
    gates = softmax(dense(layer.gate, features), axis=1)
    expected = sum(gates[:, [k]] * ((features - bias[k]) @ kernel[k]) for k in range(3))
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-4)


def test_experts_start_apart_and_their_gate_is_noisy_in_training_only():
    inputs = modalities(5)
    layer = ExpertsFusion(4, num_experts=2, dropout=0.0)
    calm = layer(inputs)
    assert not np.allclose(layer.kernel[0], layer.kernel[1])
    np.testing.assert_array_equal(layer(inputs), calm)
    assert not np.allclose(layer(inputs, training=True), calm)
    silent = ExpertsFusion(4, num_experts=2, dropout=0.0, noise=False)
    np.testing.assert_array_equal(silent(inputs), silent(inputs, training=True))


@pytest.mark.parametrize("replacement", ["learned", "zero"])
@pytest.mark.parametrize("leading", [(6,), (4, 3)])
def test_check_modality_dropout(leading, replacement):
    inputs = modalities(*leading)
    places = np.arange(np.prod(leading)).reshape(leading)
    check_layer(
        ModalityDropout,
        {"rates": {"id": 0.5, "text": 0.5}, "replacement": replacement, "seed": 1},
        inputs,
        {name: vectors.shape for name, vectors in inputs.items()},
        call_kwargs={"presence": {"id": places % 2 == 0, "text": places % 3 == 0}},
        idle_weights=["missing_image"],
    )


def test_modality_dropout_rates_and_that_no_example_loses_everything():
    inputs = {"id": tf.ones([20_000, 1]), "text": tf.ones([20_000, 1])}
    outputs = ModalityDropout({"id": 0.3, "text": 0.5}, seed=3)(inputs, training=True)
    id_kept, text_kept = outputs["id"].numpy() == 1, outputs["text"].numpy() == 1
    assert np.all(id_kept | text_kept)
    # Four standard deviations of a share among 20,000 draws are at most 0.014.
    assert np.mean(~id_kept) == pytest.approx(0.3 * (1 - 0.5), abs=0.014)
    assert np.mean(~text_kept) == pytest.approx(0.5 * (1 - 0.3), abs=0.014)


def test_modality_dropout_is_exact_beside_a_modality_that_stays():
    inputs = {"id": tf.ones([20_000, 1]), "text": tf.ones([20_000, 1])}
    outputs = ModalityDropout({"id": 0.3}, seed=3)(inputs, training=True)
    assert np.mean(outputs["id"].numpy() == 0) == pytest.approx(0.3, abs=0.014)
    np.testing.assert_array_equal(outputs["text"], inputs["text"])


def test_the_only_modality_present_is_never_dropped():
    inputs = {"id": tf.ones([1000, 1]), "text": tf.ones([1000, 1])}
    presence = {"text": tf.zeros([1000], tf.bool)}
    outputs = ModalityDropout({"id": 0.9})(inputs, presence=presence, training=True)
    np.testing.assert_array_equal(outputs["id"], 1.0)
    np.testing.assert_array_equal(outputs["text"], 0.0)


def test_a_missing_modality_is_the_learned_vector_whatever_it_holds():
    inputs = {"id": np.array([[1.0], [np.nan]], np.float32), "text": np.array([[3.0], [4.0]], np.float32)}
    layer = ModalityDropout()
    layer(inputs)
    layer.missing["id"].assign([7.0])
    outputs = layer(inputs, presence={"id": tf.constant([True, False])})
    np.testing.assert_array_equal(outputs["id"], [[1.0], [7.0]])
    np.testing.assert_array_equal(outputs["text"], inputs["text"])


def test_without_training_and_presence_nothing_is_dropped():
    inputs = modalities(5)
    outputs = ModalityDropout({"id": 0.9})(inputs, training=False)
    for name, vectors in inputs.items():
        np.testing.assert_array_equal(outputs[name], vectors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedFusion(0), "`dim` must be at least 1. Received: dim=0"),
        (lambda: GatedFusion(4)(tf.ones([2, 3])), "needs a dictionary, modality name"),
        (lambda: GatedFusion(4)({"id": tf.ones([3])}), r"needs vectors \[\.\.\., dim\]"),
        (
            lambda: ConcatFusion()({"id": tf.ones([2, 3]), "text": tf.ones([5, 3])}),
            "equal leading dimensions",
        ),
        (lambda: FilmFusion(4, base="title")(modalities(2)), "`base` must name one.*'title'"),
        (lambda: FilmFusion(4, base="id")({"id": tf.ones([2, 3])}), "at least two modalities"),
        (lambda: ExpertsFusion(4, num_experts=0), "`num_experts` must be at least 1"),
        (lambda: ExpertsFusion(4, dropout=1.0), r"`dropout` must be in \[0, 1\)"),
        (lambda: ModalityDropout({"id": 1.0}), r"`rates` must be in \[0, 1\).*1\.0 for 'id'"),
        (lambda: ModalityDropout(replacement="mean"), "'learned' or 'zero'. Received: 'mean'"),
        (lambda: ModalityDropout({"title": 0.1})(modalities(2)), "`rates` must name modalities.*title"),
        (
            lambda: ModalityDropout()(modalities(2), presence={"x": tf.ones([2], tf.bool)}),
            "`presence` must name",
        ),
        (lambda: ModalityDropout()(modalities(2), presence={"id": tf.ones([2])}), "`presence` must be bool"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
