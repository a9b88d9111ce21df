"""tfrec_fusion: recommenders that read.

Two-tower and ranking models (TensorFlow Recommenders) fused with Keras BERT text towers
(transformers). Importing this package is cheap: it selects Keras 2 and imports nothing heavy, so that
a serving client needs no TensorFlow. Import the part you need from its room, for example
``from tfrec_fusion.layers import GatedFusion``, which imports the module of that name and no other.
"""

import os

# TFRS 0.7 is written for Keras 2. The switch is read when
# TensorFlow first loads Keras, so it must be set before anything imports TensorFlow.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = "0.1.0"
__all__ = ["__version__"]
