"""Keras 2 before TensorFlow."""

import tfrec_fusion  # noqa: F401
