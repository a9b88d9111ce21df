"""The TFX pipeline that takes tables to a served model, and the command `tfrec`."""

import tfrec_fusion  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)
