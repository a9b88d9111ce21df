"""History encoders: NumPy oracles, and what holds for all: masks, causality, empty histories."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.checks import check_layer
from tfrec_fusion.layers.sequence import ConvolutionHistory, MeanHistory, RecurrentHistory, TransformerHistory

ENCODERS = [
    (MeanHistory, {}),
    (ConvolutionHistory, {"window": 3, "horizontal_filters": 4, "vertical_filters": 2}),
    (RecurrentHistory, {"units": 5}),
    (TransformerHistory, {"num_layers": 1, "max_length": 4, "feed_forward_dim": 6}),
    (TransformerHistory, {"num_layers": 2, "max_length": 4, "feed_forward_dim": 6}),
]
every_encoder = pytest.mark.parametrize(
    ("encoder", "kwargs"), ENCODERS, ids=[cls.__name__ for cls, _ in ENCODERS]
)

# An empty history, one item, four items and a full one; left padded.
MASK = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
ITEMS = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)


def made(encoder, kwargs, return_sequences=False):
    """A built encoder whose every weight, the empty history's too, is a random number."""
    layer = encoder(**kwargs, return_sequences=return_sequences)
    layer(ITEMS, mask=tf.constant(MASK))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape, scale=0.5) for weight in layer.get_weights()])
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("return_sequences", [False, True])
@every_encoder
def test_check_layer(encoder, kwargs, return_sequences):
    shape = (4, 6, 8) if return_sequences else (4, 8)
    kwargs = {**kwargs, "return_sequences": return_sequences, "dropout": 0.1}
    layer = check_layer(encoder, kwargs, ITEMS, shape, call_kwargs={"mask": MASK})
    assert tuple(layer.compute_output_shape(ITEMS.shape)) == shape


@pytest.mark.parametrize("garbage", [1e6, np.nan])
@every_encoder
def test_what_padding_holds_never_matters(encoder, kwargs, garbage):
    layer = made(encoder, kwargs, return_sequences=True)
    other = np.where(MASK[..., None], ITEMS, np.float32(garbage))
    np.testing.assert_array_equal(layer(other, mask=tf.constant(MASK)), layer(ITEMS, mask=tf.constant(MASK)))


@every_encoder
def test_how_much_padding_there_is_never_matters(encoder, kwargs):
    layer = made(encoder, kwargs)
    longer = np.pad(ITEMS, [[0, 0], [3, 0], [0, 0]])
    longer_mask = tf.constant(np.pad(MASK, [[0, 0], [3, 0]]))
    np.testing.assert_allclose(
        layer(longer, mask=longer_mask), layer(ITEMS, mask=tf.constant(MASK)), atol=1e-5
    )


@every_encoder
def test_right_padded_histories_are_encoded_alike(encoder, kwargs):
    layer = made(encoder, kwargs)
    right, right_mask = np.zeros_like(ITEMS), np.zeros_like(MASK)
    for row, mask in enumerate(MASK):
        right[row, : mask.sum()], right_mask[row, : mask.sum()] = ITEMS[row, mask], True
    np.testing.assert_allclose(
        layer(right, mask=tf.constant(right_mask)), layer(ITEMS, mask=tf.constant(MASK)), atol=1e-5
    )


@every_encoder
def test_a_position_sees_itself_and_the_past_only(encoder, kwargs):
    layer = made(encoder, kwargs, return_sequences=True)
    changed = ITEMS.copy()
    changed[:, 3] = np.random.default_rng(2).normal(size=[4, 8])
    difference = np.abs(layer(changed) - layer(ITEMS)).max(axis=-1)
    np.testing.assert_array_equal(difference[:, :3], 0.0)
    assert np.all(difference[:, 3] > 1e-4)


@every_encoder
def test_the_last_position_is_the_encoding_of_the_history(encoder, kwargs):
    every, last = made(encoder, kwargs, return_sequences=True), made(encoder, kwargs)
    last.set_weights(every.get_weights())
    mask = tf.constant(MASK)
    np.testing.assert_allclose(every(ITEMS, mask=mask)[:, -1], last(ITEMS, mask=mask), atol=1e-6)


@every_encoder
def test_asked_for_the_last_alone_all_positions_give_the_same(encoder, kwargs):
    layer = made(encoder, kwargs, return_sequences=True)
    for mask, items in ((MASK, ITEMS), (MASK[:, ::-1], ITEMS[:, ::-1])):
        outputs = layer(items, mask=tf.constant(mask.copy())).numpy()
        newest = np.where(mask, np.arange(6), 0).max(1)
        last = layer(items, mask=tf.constant(mask.copy()), last_only=True)
        np.testing.assert_allclose(last[1:], outputs[np.arange(4), newest][1:], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last[0], layer.empty_history, rtol=1e-6)
        assert getattr(last, "_keras_mask", None) is None
    assert layer(ITEMS, mask=tf.constant(MASK))._keras_mask.shape == MASK.shape


@every_encoder
def test_without_a_mask_all_positions_are_items(encoder, kwargs):
    layer = made(encoder, kwargs)
    np.testing.assert_array_equal(layer(ITEMS), layer(ITEMS, mask=tf.ones([4, 6], tf.bool)))


@every_encoder
def test_an_empty_history_is_the_learned_vector(encoder, kwargs):
    layer = made(encoder, kwargs)
    nothing = tf.zeros([4, 6], tf.bool)
    with tf.GradientTape() as tape:
        outputs = layer(ITEMS, mask=nothing)
        loss = tf.reduce_sum(outputs)
    np.testing.assert_array_equal(outputs, np.tile(layer.empty_history.numpy(), [4, 1]))
    gradients = tape.gradient(loss, layer.trainable_variables)
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    for gradient, variable in zip(gradients, layer.trainable_variables, strict=True):
        np.testing.assert_array_equal(gradient, 4.0 if variable is layer.empty_history else 0.0)
    fresh = encoder(**kwargs)
    np.testing.assert_array_equal(fresh(ITEMS, mask=nothing), 0.0)


def test_before_the_first_item_a_sequence_holds_the_empty_history():
    layer = made(MeanHistory, {}, return_sequences=True)
    outputs = layer(ITEMS, mask=tf.constant(MASK))
    np.testing.assert_array_equal(outputs[2, :2], np.tile(layer.empty_history.numpy(), [2, 1]))


def test_mean_by_hand():
    items = np.array([[[9.0, 9.0], [1.0, 1.0], [3.0, 5.0]]], np.float32)
    mask = tf.constant([[False, True, True]])
    np.testing.assert_allclose(MeanHistory()(items, mask=mask), [[2.0, 3.0]])
    np.testing.assert_allclose(
        MeanHistory(return_sequences=True)(items, mask=mask), [[[0.0, 0.0], [1.0, 1.0], [2.0, 3.0]]]
    )


def test_mean_keeps_its_precision_over_long_histories():
    items = np.ones([1, 3000, 1], np.float32)  # float16 counts to 2048 only.
    assert MeanHistory(dtype="mixed_float16")(items).numpy().item() == 1.0


def test_convolution_equals_numpy():
    layer = made(ConvolutionHistory, {"window": 3, "horizontal_filters": 4, "vertical_filters": 2})
    window = ITEMS[3, -3:]
    parts = []
    for height, convolution in enumerate(layer.horizontal, start=1):
        kernel, bias = convolution.get_weights()
        answers = [
            np.einsum("td,tdf->f", window[start : start + height], kernel) + bias
            for start in range(4 - height)
        ]
        parts.append(np.maximum(answers, 0).max(axis=0))
    kernel, bias = layer.vertical.get_weights()
    parts.append((np.einsum("td,tf->df", window, kernel[:, 0, 0]) + bias).ravel())
    kernel, bias = layer.projection.get_weights()
    np.testing.assert_allclose(layer(ITEMS)[3], np.concatenate(parts) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_recurrent_equals_numpy():
    layer = made(RecurrentHistory, {"units": 5})
    (kernel, recurrent, (bias, recurrent_bias)), (out, out_bias) = (
        layer.recurrent[0].get_weights(),
        layer.projection.get_weights(),
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    state = np.zeros(5)
    for item in ITEMS[2, MASK[2]]:
        update, reset, candidate = np.split(item @ kernel + bias, 3)
        from_update, from_reset, from_candidate = np.split(state @ recurrent + recurrent_bias, 3)
        update, reset = sigmoid(update + from_update), sigmoid(reset + from_reset)
        state = update * state + (1 - update) * np.tanh(candidate + reset * from_candidate)
    outputs = layer(ITEMS, mask=tf.constant(MASK))
    np.testing.assert_allclose(outputs[2], state @ out + out_bias, rtol=1e-4, atol=1e-5)


def test_transformer_equals_numpy():
    layer = made(
        TransformerHistory, {"num_layers": 1, "num_heads": 2, "max_length": 4, "feed_forward_dim": 6}
    )

    def norm(layer, x):
        gamma, beta = layer.get_weights()
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3) * gamma + beta

    def dense(layer, x):
        kernel, *bias = layer.get_weights()
        return x @ kernel + (bias[0] if bias else 0)

    # Six items and four positions: the three oldest share the last one.
    hidden = norm(layer.input_norm, ITEMS[3]) + layer.positions.numpy()[[3, 3, 3, 2, 1, 0]]
    (block,) = layer.blocks
    normed = norm(block.attention_norm, hidden)
    query, key, value = (dense(part, normed) for part in (block.query, block.key, block.value))
    merged = np.zeros_like(value)
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[:, head] @ key[:, head].T / 2.0
        scores[np.triu_indices(6, 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        merged[:, head] = weights / weights.sum(axis=1, keepdims=True) @ value[:, head]
    hidden = hidden + dense(block.merge, merged)
    wide = dense(block.widen, norm(block.feed_forward_norm, hidden))
    wide = tf.nn.gelu(wide).numpy()
    hidden = hidden + dense(block.narrow, wide)
    np.testing.assert_allclose(layer(ITEMS)[3], norm(layer.output_norm, hidden)[-1], rtol=1e-4, atol=1e-4)


def test_order_matters_to_all_but_the_mean():
    for encoder, kwargs in ENCODERS:
        layer = made(encoder, kwargs)
        difference = np.abs(layer(ITEMS[:, ::-1]) - layer(ITEMS)).max()
        assert (difference < 1e-5) == (encoder is MeanHistory)


@every_encoder
def test_gradients_are_the_same_under_xla(encoder, kwargs):
    layer = made(encoder, kwargs)

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ITEMS, mask=MASK) ** 2)
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, layer.trainable_variables)]

    for compiled, eager in zip(tf.function(gradients, jit_compile=True)(), gradients(), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=1e-3)


@every_encoder
def test_takes_the_mask_that_keras_carries_along(encoder, kwargs):
    ids = tf.constant([[0, 0, 3, 1], [0, 2, 2, 4]])
    embedding = tf_keras.layers.Embedding(5, 8, mask_zero=True)
    layer = made(encoder, kwargs)
    carried = layer(embedding(ids))
    np.testing.assert_array_equal(carried, layer(embedding(ids) + 0.0, mask=ids > 0))
    assert not np.allclose(carried, layer(tf.identity(embedding(ids)), mask=ids >= 0))


def test_dropout_in_training_only():
    layer = MeanHistory(dropout=0.5)
    np.testing.assert_allclose(layer(ITEMS, training=False), ITEMS.mean(axis=1), atol=1e-6)
    assert not np.allclose(layer(ITEMS, training=True), ITEMS.mean(axis=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeanHistory(dropout=1.0), r"`dropout` must be in \[0, 1\)\. Received: dropout=1\.0"),
        (
            lambda: MeanHistory()(ITEMS[0]),
            r"needs item vectors \[batch, T, dim\].*Received the shape \(6, 8\)",
        ),
        (
            lambda: MeanHistory()(ITEMS, mask=tf.ones([4, 6], tf.int32)),
            "`mask` must be bool.*Received: int32",
        ),
        (lambda: MeanHistory()(ITEMS, mask=tf.ones([4, 5], tf.bool)), r"with the shape \(4, 6\).*\(4, 5\)"),
        (lambda: TransformerHistory(num_heads=3)(ITEMS), "must divide.*num_heads=3, dim=8"),
        (lambda: TransformerHistory(max_length=0), "`max_length` must be at least 1. Received: max_length=0"),
        (lambda: ConvolutionHistory(window=0), "`window` must be at least 1. Received: window=0"),
        (lambda: RecurrentHistory(units=0), "`units` must be at least 1"),
        (lambda: RecurrentHistory(num_layers=0), "`num_layers` must be at least 1"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
