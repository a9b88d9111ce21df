"""tfrec_fusion: recommenders that read.

Two-tower and ranking models (TensorFlow Recommenders) fused with Keras BERT text towers
(transformers). `Recommender` leads from tables to recommendations. Importing this package is cheap: it
selects Keras 2 and imports nothing heavy, so that a serving client needs no TensorFlow. Import the part you
need from its room, for example ``from tfrec_fusion.layers import GatedFusion``, which imports the module of
that name and no other.
"""

import os
from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

# TFRS 0.7 is written for Keras 2. The switch is read when
# TensorFlow first loads Keras, so it must be set before anything imports TensorFlow.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = "0.1.0"
__all__ = ["Classifier", "Recommender", "__version__"]

if TYPE_CHECKING:
    from tfrec_fusion.classifier import Classifier
    from tfrec_fusion.recommender import Recommender
else:
    __getattr__, __dir__ = lazy_names(__name__)
