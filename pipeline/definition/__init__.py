"""Definitions of the TFX pipelines: training, and index updates."""
