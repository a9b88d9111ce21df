"""Offline studies without TFX: ablation and tuning."""
