"""`check_layer` must fail for a layer with a fault: one broken layer per promise it checks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.checks import check_layer

INPUTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Sound(tf_keras.layers.Layer):
    """A dense layer that keeps every promise; the broken ones below each change one thing."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.dense = tf_keras.layers.Dense(self.units)
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Unregistered(Sound):
    pass


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Forgetful(Sound):
    def get_config(self):
        return tf_keras.layers.Layer.get_config(self)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Renaming(Sound):
    def __init__(self, units=2, rate=0.0, **kwargs):
        super().__init__(units, **kwargs)
        self.hidden_rate = rate

    def get_config(self):
        return {**super().get_config(), "rate": self.hidden_rate}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Drifting(Sound):
    def get_config(self):
        return {**super().get_config(), "units": self.units + 1}


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class EagerOnly(Sound):
    def call(self, inputs):
        return self.dense(inputs) + (1.0 if tf.executing_eagerly() else 0.0)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class FixedBatch(Sound):
    def call(self, inputs):
        return (
            tf.reshape(self.dense(inputs), [4, self.units]) if tf.executing_eagerly() else self.dense(inputs)
        )


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Unsaved(Sound):
    """Keras' file format does not look into containers inside containers."""

    def build(self, input_shape):
        super().build(input_shape)
        self.hidden = [{"dense": tf_keras.layers.Dense(2)}]
        self.hidden[0]["dense"].build(input_shape)

    def call(self, inputs):
        return self.hidden[0]["dense"](inputs) + self.dense(inputs)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Stubborn(Sound):
    def call(self, inputs):
        return tf.cast(self.dense(inputs), tf.float32)


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Unreached(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.unused = self.add_weight(name="unused", shape=[1])


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class Idle(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.resting = self.add_weight(name="resting", shape=[2])

    def call(self, inputs):
        return self.dense(inputs) + 0.0 * self.resting


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class InfiniteGradient(Sound):
    """The forward pass is finite; the square root's slope at zero is not."""

    def call(self, inputs):
        outputs = self.dense(inputs)
        return outputs + tf.sqrt(0.0 * tf.nn.relu(outputs))


def test_passes_a_sound_layer():
    layer = check_layer(Sound, {"units": 2}, INPUTS, (4, 2))
    assert layer.built


@pytest.mark.parametrize(
    ("layer_class", "message"),
    [
        (Unregistered, "is not registered"),
        (Forgetful, "`units` is missing from `get_config`"),
        (Renaming, "`rate` is not kept as an attribute"),
        (Drifting, "does not round-trip"),
        (EagerOnly, "XLA and eager mode differ"),
        (Unsaved, "The .keras file answers otherwise"),
        (Stubborn, "Output dtype float32 under mixed_bfloat16"),
        (Unreached, "No gradient reaches .*unused"),
        (Idle, "resting.*changed: False"),
        (InfiniteGradient, "is not finite"),
    ],
)
def test_fails_a_broken_layer(layer_class, message):
    with pytest.raises(AssertionError, match=message):
        check_layer(layer_class, {}, INPUTS, (4, 2))


def test_fails_a_layer_that_cannot_take_an_empty_batch():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Reshape"):
        check_layer(FixedBatch, {}, INPUTS, (4, 2))


def test_fails_a_wrong_shape_and_dtype():
    with pytest.raises(AssertionError, match="Output shape"):
        check_layer(Sound, {}, INPUTS, (4, 3))
    with pytest.raises(AssertionError, match="Output dtype"):
        check_layer(Sound, {}, INPUTS, (4, 2), expected_dtype="int32")


def test_a_weight_named_as_idle_must_be_idle():
    check_layer(Idle, {}, INPUTS, (4, 2), idle_weights=["resting"])
    with pytest.raises(AssertionError, match=r"kernel.*changed: True"):
        check_layer(Sound, {}, INPUTS, (4, 2), idle_weights=["kernel"])
