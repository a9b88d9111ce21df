"""What XLA compiles finds the same distinct ids, and the same gradients, without loops over single
entries."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_fusion.models.xla_ops import dense, distinct


@pytest.mark.parametrize("ids", [[7, 0, 7, 3, 3, 9, 0], [5], [0, 0], []])
def test_distinct_ids_are_numpys(ids):
    ids = np.array(ids, np.int32)
    expected = np.unique(ids)
    for compiled in (False, True):
        found, rows = tf.function(distinct, jit_compile=compiled)(tf.constant(ids), compiled)
        np.testing.assert_array_equal(tf.gather(found, rows), ids)
        np.testing.assert_array_equal(np.sort(found[: len(expected)]), expected)
    assert not found[len(expected) :].numpy().any()
    assert len(found) == len(ids)


def test_dense_gradients_are_the_slices_added_up():
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), tf.constant([2, 0, 2]), tf.constant([4, 2])
    )
    np.testing.assert_array_equal(dense(slices), [[3, 4], [0, 0], [6, 8], [0, 0]])
    assert dense(None) is None
