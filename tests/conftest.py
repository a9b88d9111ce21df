"""Selects Keras 2 before any test module imports TensorFlow or TFRS."""

import gc

import tfrec_fusion  # noqa: F401


def pytest_collection_finish():
    """What imports made stays for good: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
