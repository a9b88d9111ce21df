"""Slices whole batches for the metrics here, where TFMA would take every example apart and hand it on slice
by slice.

A batch is cut into slices by its columns, and each part is handed on as one extract that holds arrays with
one row an example. The metrics of this package take such parts (`RetrievalCombiner.pack`,
`RankingCombiner.pack`); TFMA's own, which expect single examples, do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.slicer import slicer_lib

from pipeline.evaluation.slices import PREFIX


@beam.typehints.with_input_types(types.Extracts)
@beam.typehints.with_output_types(types.Extracts)
class SliceBatches(beam.DoFn):
    """Cuts a batch of extracts into one for all examples and one for each value of each feature.

    Args:
        features: names of the features to slice by.
    """

    def __init__(self, features: list[str]):
        self.features = features

    def process(self, extracts: types.Extracts) -> Iterator[types.Extracts]:
        given, predictions = extracts[tfma.FEATURES_KEY], extracts[tfma.PREDICTIONS_KEY]
        size = len(extracts[tfma.INPUT_KEY])
        columns = {
            name: first_values(value, size) for name, value in given.items() if not name.startswith(PREFIX)
        }
        for key, rows in self._slices(given, size):
            keys = slicer_lib.slice_keys_to_numpy_array([key])
            yield {
                tfma.SLICE_KEY_TYPES_KEY: keys,
                tfma.FEATURES_KEY: taken(columns, rows),
                tfma.PREDICTIONS_KEY: taken(predictions, rows),
            }

    def _slices(self, given: Mapping[str, Any], size: int) -> Iterator[tuple[tuple, Any]]:
        yield (), slice(None)
        for feature in self.features:
            values, owners = entries(given.get(feature), size)
            names, which = np.unique(values, return_inverse=True)
            for position, name in enumerate(names):
                # An example that holds a value twice belongs to its slice once.
                rows = np.unique(owners[which == position])
                yield ((feature, name.decode() if isinstance(name, bytes) else name),), rows


def entries(value: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of a feature of a batch, and the row that each belongs to."""
    if value is None:
        return np.zeros(0, object), np.zeros(0, np.int64)
    if isinstance(value, (types.VarLenTensorValue, types.SparseTensorValue)):
        return np.asarray(value.values), np.asarray(value.indices).reshape(-1, 2)[:, 0]
    flat = np.reshape(value, [size, -1])
    return flat.ravel(), np.repeat(np.arange(size), flat.shape[1])


def first_values(value: Any, size: int) -> np.ndarray:
    """`[size]`: the first value of each row; empty or NaN where a row has none."""
    values, owners = entries(value, size)
    rows, positions = np.unique(owners, return_index=True)
    results = np.full(size, b"", object) if values.dtype == object else np.full(size, np.nan, np.float32)
    results[rows] = values[positions]
    return results


def taken(values: Any, rows: Any) -> Any:
    """Some rows of all arrays of a nested dictionary."""
    if isinstance(values, Mapping):
        return {name: taken(value, rows) for name, value in values.items()}
    return np.asarray(values)[rows]
