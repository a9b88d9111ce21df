"""Measurements that the documentation cites; each module prints a table and writes JSON."""

import tfrec_fusion  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)
