"""The checks that every part of the library passes, whatever it computes."""

from __future__ import annotations

import inspect
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras


def check_layer(
    layer_class: type[tf_keras.layers.Layer],
    init_kwargs: Mapping[str, Any],
    inputs: Any,
    expected_output_shape: Any,
    *,
    expected_dtype: str = "float32",
    call_kwargs: Mapping[str, Any] | None = None,
    idle_weights: Sequence[str] = (),
    xla: bool = True,
    mixed_precision: bool = True,
    prepare: Callable[[tf_keras.layers.Layer], None] | None = None,
) -> tf_keras.layers.Layer:
    """Asserts what holds for any layer of the library, whatever it computes.

    In this order: init arguments are attributes and survive serialisation; eager mode and XLA (or
    `tf.function`) agree; shape and dtype are as expected and the same in a functional model; an empty batch
    gives an empty output; a training step reaches every trainable weight with finite gradients; Keras' format
    and a SavedModel answer as before; mixed precision computes in the low precision, close to full precision.

    Args:
        layer_class: the class, registered in the package `tfrec_fusion`.
        init_kwargs: its arguments.
        inputs: what it is called on: an array or a structure of arrays, leading dimension the batch.
        expected_output_shape: a tuple, or the output's structure with tuples for leaves.
        expected_dtype: of every output in full precision.
        call_kwargs: further arguments of the call: arrays (masks), leading dimension the batch, or Python
            numbers.
        idle_weights: parts of the names of trainable weights that `inputs` cannot reach.
        xla: whether the layer compiles with XLA (string operations do not).
        mixed_precision: whether the layer computes in a float dtype that mixed precision should lower.
        prepare: called with the new layer first, to give it values that its arguments do not hold.

    Returns:
        The layer, built, for the assertions of one's own that follow.
    """
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    call_kwargs = tf.nest.map_structure(
        lambda value: value if isinstance(value, (int, float)) else tf.convert_to_tensor(value),
        dict(call_kwargs or {}),
    )

    layer = layer_class(**init_kwargs)
    if prepare is not None:
        prepare(layer)
    _check_config(layer, init_kwargs)
    outputs = layer(inputs, **call_kwargs)
    _check_shape_and_dtype(outputs, expected_output_shape, expected_dtype)
    _check_graph(layer, inputs, call_kwargs, outputs, xla)
    _check_empty_batch(layer, inputs, call_kwargs, outputs)
    _check_saving(layer, inputs, call_kwargs, outputs)
    if mixed_precision:
        for policy in ("mixed_bfloat16", "mixed_float16"):
            _check_mixed_precision(layer, policy, inputs, call_kwargs, outputs)
    _check_training(layer, inputs, call_kwargs, idle_weights)
    return layer


def _check_config(layer: tf_keras.layers.Layer, init_kwargs: Mapping[str, Any]) -> None:
    layer_class = type(layer)
    registered = tf_keras.saving.get_registered_name(layer_class)
    assert registered == f"tfrec_fusion>{layer_class.__name__}", f"{layer_class.__name__} is not registered."
    assert next(iter(inspect.signature(layer_class.call).parameters)) == "self", (
        "`call` must begin with `self`."
    )
    config = layer.get_config()
    keras_arguments = inspect.signature(tf_keras.layers.Layer.__init__).parameters
    for name, parameter in inspect.signature(layer_class.__init__).parameters.items():
        if name in keras_arguments or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        assert hasattr(layer, name), f"Init argument `{name}` is not kept as an attribute."
        assert name in config, f"Init argument `{name}` is missing from `get_config`."
        if name in init_kwargs:
            kept = tf.nest.map_structure(np.asarray, _plain(getattr(layer, name)))
            given = tf.nest.map_structure(np.asarray, _plain(init_kwargs[name]))
            tf.nest.map_structure(np.testing.assert_array_equal, kept, given)
    wire = json.loads(json.dumps(tf_keras.saving.serialize_keras_object(layer)))
    revived = tf_keras.saving.deserialize_keras_object(wire)
    assert type(revived) is layer_class
    assert json.dumps(revived.get_config(), sort_keys=True) == json.dumps(config, sort_keys=True), (
        f"The configuration does not round-trip.\nbefore: {config}\nafter: {revived.get_config()}"
    )


def _plain(value: Any) -> Any:
    """Keras' tracked lists and dictionaries as plain ones."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _check_shape_and_dtype(outputs: Any, expected_shape: Any, expected_dtype: str) -> None:
    shapes = tf.nest.map_structure(lambda output: tuple(output.shape), outputs)
    assert shapes == expected_shape, f"Output shape {shapes}, expected {expected_shape}."
    for output in tf.nest.flatten(outputs):
        assert output.dtype.name == expected_dtype, (
            f"Output dtype {output.dtype.name}, expected {expected_dtype}."
        )
        if output.dtype.is_floating:
            assert np.all(np.isfinite(output.numpy())), "The output is not finite."


def _assert_close(actual: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    tf.nest.assert_same_structure(actual, expected)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if other.dtype.kind in "OSUib":
            np.testing.assert_array_equal(one, other, err_msg=what)
        else:
            scale = max(1.0, float(np.abs(other).max(initial=0.0)))
            np.testing.assert_allclose(one, other, atol=tolerance * scale, rtol=tolerance, err_msg=what)


def _check_graph(
    layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any, outputs: Any, xla: bool
) -> None:
    # Without XLA, the SavedModel of `_check_saving` is the graph.
    compiled = tf.function(layer, jit_compile=xla)
    _assert_close(
        compiled(inputs, **call_kwargs), outputs, f"{'XLA' if xla else 'tf.function'} and eager mode differ."
    )


def _check_empty_batch(layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any, outputs: Any) -> None:
    nothing, no_kwargs = tf.nest.map_structure(_each_tensor(lambda tensor: tensor[:0]), (inputs, call_kwargs))
    empty = layer(nothing, **no_kwargs)
    for one, other in zip(tf.nest.flatten(empty), tf.nest.flatten(outputs), strict=True):
        assert one.shape == (0, *other.shape[1:]), f"An empty batch gave the shape {one.shape}."


def _each_tensor(function: Callable[[tf.Tensor], Any]) -> Callable[[Any], Any]:
    """Applies to tensors alone, and lets Python numbers pass."""
    return lambda value: function(value) if tf.is_tensor(value) else value


def _functional(layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any) -> tf_keras.Model:
    symbols, symbol_kwargs = tf.nest.map_structure(
        _each_tensor(lambda tensor: tf_keras.Input(tensor.shape[1:], dtype=tensor.dtype)),
        (inputs, call_kwargs),
    )
    flat = [
        value for value in tf.nest.flatten((symbols, symbol_kwargs)) if not isinstance(value, (int, float))
    ]
    return tf_keras.Model(flat, layer(symbols, **symbol_kwargs))


def _check_saving(layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any, outputs: Any) -> None:
    model = _functional(layer, inputs, call_kwargs)
    arguments = [value for value in tf.nest.flatten((inputs, call_kwargs)) if tf.is_tensor(value)]
    for symbol, output in zip(tf.nest.flatten(model.output), tf.nest.flatten(outputs), strict=True):
        assert symbol.shape.is_compatible_with(output.shape), (
            f"Symbolic {symbol.shape}, actual {output.shape}."
        )
    # A layer whose output is a structure would be flattened by the functional model; compare leaf by leaf.
    expected = tf.nest.flatten(outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        model.save(path / "model.keras")
        reloaded = tf_keras.models.load_model(path / "model.keras")
        _assert_close(tf.nest.flatten(reloaded(arguments)), expected, "The .keras file answers otherwise.")

        archive = tf_keras.export.ExportArchive()
        archive.track(model)
        signature = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in arguments]
        archive.add_endpoint("serve", lambda *flat: tf.nest.flatten(model(list(flat))), signature)
        archive.write_out(str(path / "saved_model"))
        loaded = tf.saved_model.load(str(path / "saved_model"))
        _assert_close(list(loaded.serve(*arguments)), expected, "The SavedModel answers otherwise.")


def _training_kwargs(layer: tf_keras.layers.Layer) -> dict[str, bool]:
    return {"training": True} if "training" in inspect.signature(layer.call).parameters else {}


def _gradients(layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any) -> list[tf.Tensor]:
    """Gradients of a loss in which every output element weighs differently."""
    with tf.GradientTape() as tape:
        outputs = layer(inputs, **call_kwargs, **_training_kwargs(layer))
        loss = tf.constant(0.0)
        for seed, output in enumerate(tf.nest.flatten(outputs)):
            output = tf.cast(output, tf.float32)
            target = tf.random.stateless_normal(tf.shape(output), seed=(seed, 1))
            loss += tf.reduce_mean(tf.square(output - target))
    gradients = tape.gradient(loss, layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert gradient is not None, f"No gradient reaches {variable.name}."
        assert np.all(np.isfinite(tf.convert_to_tensor(gradient).numpy())), (
            f"Gradient of {variable.name} is not finite."
        )
    return gradients


def _check_training(layer: tf_keras.layers.Layer, inputs: Any, call_kwargs: Any, idle: Sequence[str]) -> None:
    if not layer.trainable_variables:
        return
    before = [variable.numpy() for variable in layer.trainable_variables]
    optimizer = tf_keras.optimizers.legacy.Adam(0.01)
    optimizer.apply_gradients(
        zip(_gradients(layer, inputs, call_kwargs), layer.trainable_variables, strict=True)
    )
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        changed = not np.array_equal(variable.numpy(), old)
        expected = not any(part in variable.name for part in idle)
        assert changed == expected, (
            f"After a training step, {variable.name} changed: {changed}, expected: {expected}."
        )


def _check_mixed_precision(
    layer: tf_keras.layers.Layer, policy: str, inputs: Any, call_kwargs: Any, outputs: Any
) -> None:
    previous = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        compute_dtype = tf_keras.mixed_precision.global_policy().compute_dtype
        config = {key: value for key, value in layer.get_config().items() if key not in ("dtype", "name")}
        lowered = type(layer).from_config(config)
        low_outputs = lowered(inputs, **call_kwargs)
        lowered.set_weights(layer.get_weights())
        low_outputs = lowered(inputs, **call_kwargs)
        for low, full in zip(tf.nest.flatten(low_outputs), tf.nest.flatten(outputs), strict=True):
            assert low.dtype.name == (compute_dtype if full.dtype.is_floating else full.dtype.name), (
                f"Output dtype {low.dtype.name} under {policy}."
            )
        for variable in lowered.trainable_variables:
            assert variable.dtype == tf.float32, f"{variable.name} is {variable.dtype.name} under {policy}."
        as_float = tf.nest.map_structure(
            lambda low: tf.cast(low, tf.float32) if low.dtype.is_floating else low, low_outputs
        )
        _assert_close(as_float, outputs, f"{policy} is far from float32.", tolerance=0.06)
        _gradients(lowered, inputs, call_kwargs)
    finally:
        tf_keras.mixed_precision.set_global_policy(previous)
