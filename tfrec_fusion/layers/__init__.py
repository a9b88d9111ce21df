"""Keras 2 layers, each alone usable: import them from their own module."""
