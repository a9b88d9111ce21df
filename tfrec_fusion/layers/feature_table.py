"""The features of a whole catalogue inside the model, so that examples need to hold ids only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfrec_fusion.naming import identifier


@tf_keras.saving.register_keras_serializable(package="tfrec_fusion")
class FeatureTable(tf_keras.layers.Layer):
    """Looks up the features of items (or users) by index, from tables kept as weights that are not trained.

    Row 0 of every table is the unknown item, and an index outside the table is unknown too. Tables may be
    float16, which halves a catalogue of text vectors; floats come out in the layer's compute dtype, integers
    as they are. Values live in the weights, not in the configuration: a reloaded model has them, a layer made
    from the configuration alone holds zeros until `assign`.

    >>> import numpy as np
    >>> table = FeatureTable.from_arrays({"text": np.eye(3, dtype=np.float16)})
    >>> table(np.array([2, 0]))["text"].numpy().tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]

    Args:
        shapes: feature name → shape of its table, `[number of items, …]`, the first dimension equal for all.
        dtypes: feature name → dtype of its table, a float or integer type.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not shapes or set(shapes) != set(dtypes):
            raise ValueError(
                f"`shapes` and `dtypes` must name the same features. Received: {sorted(shapes)},"
                f" {sorted(dtypes)}."
            )
        self.shapes = {name: [int(size) for size in shape] for name, shape in shapes.items()}
        self.dtypes = {name: tf.as_dtype(dtype).name for name, dtype in dtypes.items()}
        if any(not shape for shape in self.shapes.values()) or len({s[0] for s in self.shapes.values()}) != 1:
            raise ValueError(
                "All tables must have one row an item, the same number of rows. Received shapes:"
                f" {self.shapes}."
            )
        for name, dtype in self.dtypes.items():
            if not (tf.as_dtype(dtype).is_floating or tf.as_dtype(dtype).is_integer):
                raise ValueError(
                    f"Tables must hold floats or integers. Received: {dtype} for {name!r}. Turn strings into"
                    " indices."
                )
        self.num_rows = next(iter(self.shapes.values()))[0]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **kwargs: Any) -> FeatureTable:
        """Makes the layer with its values.

        Args:
            arrays: feature name → array `[number of items, …]`, row 0 the unknown item.
            **kwargs: of the layer, such as `name`.
        """
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        table = cls(shapes, {name: array.dtype.name for name, array in arrays.items()}, **kwargs)
        table.assign(arrays)
        return table

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replaces the values of the features named in `arrays`; shapes stay as they are."""
        if not self.built:
            self.build(tf.TensorShape(None))
        for name, array in arrays.items():
            if name not in self.shapes:
                raise ValueError(f"The table has the features {sorted(self.shapes)}. Received: {name!r}.")
            array = np.asarray(array)
            if list(array.shape) != self.shapes[name]:
                raise ValueError(
                    f"{name!r} must have the shape {self.shapes[name]}. Received: {list(array.shape)}. "
                    "A catalogue of another size needs a new FeatureTable."
                )
            self.tables[name].assign(array.astype(self.dtypes[name]))

    def build(self, input_shape: tf.TensorShape) -> None:
        # Without autocast: mixed precision would convert the whole table in every step, not the rows looked
        # up.
        self.tables = {
            name: self.add_weight(
                name=f"table_{identifier(name)}",
                shape=self.shapes[name],
                dtype=self.dtypes[name],
                initializer="zeros",
                trainable=False,
                experimental_autocast=False,
            )
            for name in sorted(self.shapes)
        }
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Looks rows up.

        Args:
            inputs: int indices `[...]`.

        Returns:
            feature name → `[..., …]`: the rows' features; floats in the compute dtype.

        Raises:
            ValueError: if `inputs` are not integers.
        """
        if not inputs.dtype.is_integer:
            raise ValueError(f"FeatureTable needs integer indices. Received: {inputs.dtype.name}.")
        index = tf.where((inputs >= 0) & (inputs < self.num_rows), inputs, tf.zeros_like(inputs))
        rows = {name: tf.nn.embedding_lookup(table, index) for name, table in self.tables.items()}
        return {
            name: tf.cast(row, self.compute_dtype) if row.dtype.is_floating else row
            for name, row in rows.items()
        }

    def get_config(self) -> dict[str, Any]:
        config = {
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "dtypes": dict(self.dtypes),
        }
        return {**super().get_config(), **config}
