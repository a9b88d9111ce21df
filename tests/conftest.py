"""Selects Keras 2 before any test module imports TensorFlow or TFRS."""

import tfrec_fusion  # noqa: F401
